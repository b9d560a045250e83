"""Codecs by name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from ..errors import ConfigError
from .av1 import Av1Codec
from .base import PictureCodec
from .external import ExternalCodec
from .h26x import AvcCodec, HevcCodec
from .jpegxl import JpegXlCodec
from .pillow import AvifCodec, Jpeg2000Codec, JpegCodec, WebpCodec
from .vtm import VtmCodec
from .vvc import VvcCodec

_CODECS: dict[str, type[PictureCodec]] = {
    codec.name: codec
    for codec in (
        *(JpegCodec, Jpeg2000Codec, WebpCodec, AvifCodec, JpegXlCodec),
        *(AvcCodec, HevcCodec, VvcCodec, Av1Codec, VtmCodec, ExternalCodec),
    )
}


def picture_codecs() -> tuple[str, ...]:
    """Names of all codecs, whether or not their programs are on this machine."""
    return tuple(_CODECS)


def add_picture_codec(codec: type[PictureCodec]) -> None:
    """Make a class known by its name; for configs, see :mod:`codec_det.codec.table`.

    Raises:
        ConfigError: if the name is taken.
    """
    if _CODECS.setdefault(codec.name, codec) is not codec:
        raise ConfigError(f"a codec '{codec.name}' is registered already: choose another name")


def build_picture_codec(name: str, quality: float, /, **settings: Any) -> PictureCodec:
    """The codec of a name, at a quality; settings not given take their defaults.

    Args:
        name: one of :func:`picture_codecs`.
        quality: in the codec's own unit, see its ``quality_range``.
        **settings: see the codec's class.

    Raises:
        ConfigError: if codec, quality or a setting cannot be, or a program is missing.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise ConfigError(f"there is no codec '{name}': choose one of {', '.join(_CODECS)}")
    known = {setting.name: setting for setting in fields(codec) if setting.name != "quality"}
    for setting in settings:
        if setting not in known:
            raise ConfigError(
                f"the codec '{name}' has no setting '{setting}': it has {', '.join(known)}"
            )
    missing = [s.name for s in known.values() if s.default is MISSING and s.name not in settings]
    if missing:
        raise ConfigError(f"the codec '{name}' needs {' and '.join(missing)}: give them")
    return codec(quality=quality, **settings)

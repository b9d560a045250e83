"""Codecs by name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from ..errors import ConfigError
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
        *(AvcCodec, HevcCodec, VvcCodec, VtmCodec, ExternalCodec),
    )
}

NAMES: tuple[str, ...] = tuple(_CODECS)
"""Names of all codecs, whether or not their programs are on this machine."""


def build_picture_codec(name: str, quality: float, /, **settings: Any) -> PictureCodec:
    """The codec of a name, at a quality; settings not given take their defaults.

    Args:
        name: one of NAMES.
        quality: in the codec's own unit, see its ``quality_range``.
        **settings: see the codec's class.

    Raises:
        ConfigError: if codec, quality or a setting cannot be, or a program is missing.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise ConfigError(f"there is no codec '{name}': choose one of {', '.join(NAMES)}")
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

"""JPEG, JPEG 2000, WebP and AVIF by the libraries inside Pillow."""

from __future__ import annotations

import io
import threading
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import PIL
from PIL import Image, ImageFile, features

from ..errors import BitstreamError, CodecDetError, ConfigError
from .base import REVISION, PictureCodec, QualityRange, check_size
from .containers import avif_overhead, jpeg_overhead, webp_overhead

_PILLOW_BUFFER = threading.Lock()
"""Held while the size of Pillow's buffer is another than usual."""

Choices = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class PillowCodec(PictureCodec):
    """A file format that Pillow writes."""

    format: ClassVar[str]
    """Pillow's name of it."""
    feature: ClassVar[str]
    """Pillow's name of the part of itself that codes it."""
    coded_by: ClassVar[str]
    """The library within, and Pillow's name for asking for its version."""

    @abstractmethod
    def save_options(self, width: int, height: int) -> dict[str, Any]:
        """Keyword arguments of Pillow's ``Image.save`` for a picture of this size."""

    def check_available(self) -> None:
        if not features.check(self.feature):
            raise ConfigError(
                f"this Pillow ({PIL.__version__}) was built without {self.format}: install a "
                "newer one (pip install -U pillow)"
            )

    def version(self) -> str:
        library = features.version(self.feature_of_version) or "of unknown version"
        return f"{self.coded_by} {library}, Pillow {PIL.__version__}, revision {REVISION}"

    @property
    def feature_of_version(self) -> str:
        """Pillow's name for asking for the library's version."""
        return self.feature

    def command(self) -> str:
        options = {"format": self.format, **self.save_options(0, 0)}
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"PIL.Image.save({shown})"

    def _encode(self, picture: np.ndarray) -> bytes:
        height, width, _ = picture.shape
        file = io.BytesIO()
        try:
            Image.fromarray(picture).save(
                file, format=self.format, **self.save_options(width, height)
            )
        except (OSError, ValueError, RuntimeError) as reason:
            raise CodecDetError(
                f"{self.coded_by} cannot code this picture of {width}x{height} ({reason}): see "
                f"{self.command()}"
            ) from None
        return file.getvalue()

    def _decode(self, data: bytes) -> np.ndarray:
        return decode_with_pillow(data, self.format, self.name)


def decode_with_pillow(data: bytes, format: str, name: str) -> np.ndarray:
    """The picture in a file of one format: (H, W, 3) uint8, RGB, writable.

    Args:
        data: the file.
        format: Pillow's name of the only format that is accepted.
        name: of the codec, for messages.

    Raises:
        BitstreamError: if it is damaged, of another format, not RGB, or implausibly large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which have a limit of our own
            with Image.open(io.BytesIO(data), formats=[format]) as image:
                check_size(*image.size, name)
                mode, pixels = image.mode, np.array(image)
    except (BitstreamError, MemoryError):
        raise
    except Exception as reason:  # noqa: BLE001  Pillow's decoders raise all kinds on damage
        raise BitstreamError(
            f"cannot decode these {len(data)} bytes with the codec '{name}' ({reason}): they are "
            "damaged, cut short or of another codec"
        ) from None
    if mode != "RGB":
        raise BitstreamError(
            f"the bytes hold a picture of type {mode}, and the codec '{name}' writes RGB: they are "
            "damaged or of another codec"
        )
    return pixels


def _require_best(codec: PictureCodec) -> None:
    """Without loss there is no quality to choose: refuse one that would seem to be."""
    best = codec.quality_range.best
    if codec.quality != best:
        raise ConfigError(
            f"the codec '{codec.name}' with lossless=True has no quality: give {best:g}"
        )


@dataclass(frozen=True, kw_only=True)
class JpegCodec(PillowCodec):
    """ITU-T T.81 by libjpeg-turbo, with Huffman tables made for each picture.

    Attributes:
        quality: the scale of the Independent JPEG Group.
        chroma: on photographs 4:2:0 takes 12 % fewer bits for the same PSNR than 4:4:4 below 30 dB,
            5 % fewer from 24 to 41 dB, and more above.
        progressive: the progressive mode; takes more bits below 30 dB and fewer above.
    """

    name = "jpeg"
    choices: ClassVar[Choices] = {"chroma": ("4:2:0", "4:4:4"), "progressive": (False, True)}
    format: ClassVar[str] = "JPEG"
    feature: ClassVar[str] = "jpg"
    coded_by: ClassVar[str] = "libjpeg-turbo"

    chroma: str = "4:2:0"
    progressive: bool = False

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(1, 100, True, True, "IJG quality")

    @property
    def feature_of_version(self) -> str:
        return "libjpeg_turbo"

    def save_options(self, width: int, height: int) -> dict[str, Any]:
        return {
            "quality": int(self.quality),
            "subsampling": self.chroma,
            "optimize": True,
            "progressive": self.progressive,
        }

    def container_overhead(self, data: bytes) -> int:
        """Everything outside the scans, quantization and Huffman tables included."""
        return jpeg_overhead(data)

    def _encode(self, picture: np.ndarray) -> bytes:
        # Tables made for a picture need a buffer for all of the file, and Pillow's is too small
        # for noise at high qualities: 10 bits a sample of three are possible.
        height, width, _ = picture.shape
        with _PILLOW_BUFFER:
            usual = ImageFile.MAXBLOCK
            ImageFile.MAXBLOCK = max(usual, 6 * height * width)
            try:
                return super()._encode(picture)
            finally:
                ImageFile.MAXBLOCK = usual


@dataclass(frozen=True, kw_only=True)
class Jpeg2000Codec(PillowCodec):
    """ITU-T T.800 by OpenJPEG: the bare codestream, without the boxes of a JP2 file.

    Attributes:
        quality: bits per pixel that the encoder keeps to; OpenJPEG's other way, a PSNR to reach,
            takes more bits for the same PSNR.
        lossless: the reversible 5/3 wavelet and colour transform, all bits kept.
    """

    name = "jpeg2000"
    choices: ClassVar[Choices] = {"lossless": (False, True)}
    format: ClassVar[str] = "JPEG2000"
    feature: ClassVar[str] = "jpg_2000"
    coded_by: ClassVar[str] = "OpenJPEG"

    lossless: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lossless:
            _require_best(self)

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0.01, 24, True, False, "bits per pixel to keep to")

    def save_options(self, width: int, height: int) -> dict[str, Any]:
        options: dict[str, Any] = {"no_jp2": True, "mct": 1, "irreversible": not self.lossless}
        if not self.lossless:
            # OpenJPEG takes the ratio to 3 x 8 bits; 1 means to keep everything.
            options |= {"quality_mode": "rates", "quality_layers": [24 / self.quality]}
        return options

    def container_overhead(self, data: bytes) -> int:
        """None: markers of the codestream are part of it."""
        return 0

    def _decode(self, data: bytes) -> np.ndarray:
        # OpenJPEG decodes what there is of a codestream; only its end marker tells it is whole.
        if not data.endswith(b"\xff\xd9"):
            raise BitstreamError("the JPEG 2000 codestream has no end: it is cut short or damaged")
        return super()._decode(data)


@dataclass(frozen=True, kw_only=True)
class WebpCodec(PillowCodec):
    """WebP (RFC 9649) by libwebp; with loss always 4:2:0.

    Attributes:
        quality: libwebp's scale.
        method: effort, 0 to 6.
        lossless: VP8L instead of VP8.
    """

    name = "webp"
    choices: ClassVar[Choices] = {"method": tuple(range(7)), "lossless": (False, True)}
    max_side: ClassVar[int] = 16383
    format: ClassVar[str] = "WEBP"
    feature: ClassVar[str] = "webp"
    coded_by: ClassVar[str] = "libwebp"

    method: int = 6
    lossless: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lossless:
            _require_best(self)

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 100, True, False, "libwebp's quality")

    def save_options(self, width: int, height: int) -> dict[str, Any]:
        return {"quality": self.quality, "method": self.method, "lossless": self.lossless}

    def container_overhead(self, data: bytes) -> int:
        return webp_overhead(data)


@dataclass(frozen=True, kw_only=True)
class AvifCodec(PillowCodec):
    """AV1 image file format by libavif and libaom, 8 bits, full range, on one thread.

    Attributes:
        quality: libavif's scale.
        chroma: "4:4:4" or "4:2:0".
        speed: 0 (best) to 10 (fastest); what each costs is in docs/conventional.md.
        tune: what libaom optimizes for.
    """

    name = "avif"
    choices: ClassVar[Choices] = {
        "chroma": ("4:4:4", "4:2:0"),
        "speed": tuple(range(11)),
        "tune": ("psnr", "ssim", "iq"),
    }
    format: ClassVar[str] = "AVIF"
    feature: ClassVar[str] = "avif"
    coded_by: ClassVar[str] = "libavif"

    chroma: str = "4:4:4"
    speed: int = 4
    tune: str = "psnr"

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(0, 100, True, True, "libavif's quality")

    def version(self) -> str:
        from PIL import AvifImagePlugin

        return f"libaom {AvifImagePlugin.get_codec_version('aom')}, {super().version()}"

    def save_options(self, width: int, height: int) -> dict[str, Any]:
        return {
            "quality": int(self.quality),
            "subsampling": self.chroma,
            "speed": self.speed,
            "codec": "aom",
            "range": "full",
            # Bytes that do not depend on the number of cores.
            "max_threads": 1,
            "autotiling": False,
            "advanced": {"tune": self.tune},
        }

    def container_overhead(self, data: bytes) -> int:
        return avif_overhead(data)

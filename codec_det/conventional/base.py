"""What every conventional picture codec can do, and the checks that all of them share.

A picture is an (H, W, 3) uint8 array, RGB, 0-255, sRGB. Coded bytes are everything that a receiver
needs besides the name of the codec, the size of the picture included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from ..errors import BitstreamError, CodecDetError, ConfigError
from .process import TIME_LIMIT

MAX_PIXELS = 2**27
"""Largest picture that is coded or decoded: 134 megapixels, 800 MB as planes of 16 bits. Damaged
bytes can name any size, and must not be able to ask for all of the memory."""

REVISION = 1
"""Raise this when the same settings begin to give other bytes: caches then forget the old ones."""


@dataclass(frozen=True)
class QualityRange:
    """What the quality of a codec may be.

    Attributes:
        minimum: smallest value allowed.
        maximum: largest value allowed.
        higher_is_better: whether a larger value means more bits and a better picture.
        whole: whether only whole numbers are allowed.
        meaning: what the number is, in words, with its unit.
    """

    minimum: float
    maximum: float
    higher_is_better: bool
    whole: bool
    meaning: str

    @property
    def best(self) -> float:
        """The value that gives the best picture."""
        return self.maximum if self.higher_is_better else self.minimum

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        better = "higher" if self.higher_is_better else "lower"
        return (
            f"{kind} from {self.minimum:g} to {self.maximum:g} ({self.meaning}; {better} is better)"
        )


def no_byte_setting(default: Any) -> Any:
    """A dataclass field that does not shape the coded bytes, and so is not among the settings."""
    return field(default=default, metadata={"shapes_bytes": False})


@dataclass(frozen=True, kw_only=True)
class PictureCodec(ABC):
    """One codec at one quality. Its fields are its settings; it is immutable and can be pickled.

    Attributes:
        quality: see :attr:`quality_range`.

    Raises:
        ConfigError: at construction, if a setting cannot be, or a program or library is missing.
    """

    name: ClassVar[str]
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Allowed values of each setting that has few."""
    max_side: ClassVar[int] = 65535
    """Largest width and height that the format can say, in pixels."""

    quality: float

    def __post_init__(self) -> None:
        allowed = self.quality_range
        if not _fits(self.quality, allowed):
            raise ConfigError(
                f"quality {self.quality!r} cannot be with the codec '{self.name}': give {allowed}"
            )
        for setting, values in self.choices.items():
            value = getattr(self, setting)
            # True == 1 in Python, but the first is no bit depth.
            if not any(value == known and type(value) is type(known) for known in values):
                shown = ", ".join(repr(known) for known in values)
                raise ConfigError(
                    f"{setting} {value!r} cannot be with the codec '{self.name}': "
                    f"choose one of {shown}"
                )
        self.check_available()

    @property
    @abstractmethod
    def quality_range(self) -> QualityRange:
        """What :attr:`quality` may be, and what it means."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that shapes the coded bytes besides the program: values are plain types."""
        values = {
            setting.name: getattr(self, setting.name)
            for setting in fields(self)
            if setting.metadata.get("shapes_bytes", True)
        }
        # One form of the same number: 32 and 32.0 are one quality.
        return {**values, "quality": float(self.quality)}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What shapes the coded bytes besides the picture: "settings" and "version".

        Found out once, as it may take a look at files or a run of a program.
        """
        return {"settings": self.settings, "version": self.version()}

    @property
    def quality_text(self) -> str:
        """The quality as a command line takes it, exactly: "32", "0.5"."""
        value = float(self.quality)
        return str(int(value)) if value.is_integer() else repr(value)

    @abstractmethod
    def check_available(self) -> None:
        """Check that library or programs are there.

        Raises:
            ConfigError: if not; the message says what to install.
        """

    @abstractmethod
    def version(self) -> str:
        """The library or program that codes, with its version."""

    @abstractmethod
    def command(self) -> str:
        """How the bytes are made: the program's command line, or the library's call in words."""

    @abstractmethod
    def container_overhead(self, data: bytes) -> int:
        """Bytes of ``data`` that belong to the file format instead of the coded picture."""

    def encode(self, picture: np.ndarray) -> bytes:
        """Code one picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Raises:
            CodecDetError: if the array is no such picture or too large, or the program fails.
        """
        self.check_picture(picture)
        data = self._encode(np.ascontiguousarray(picture))
        if not data:
            raise CodecDetError(f"the codec '{self.name}' wrote nothing: see {self.command()}")
        return data

    def decode(self, data: bytes) -> np.ndarray:
        """The picture that :meth:`encode` coded: (H, W, 3) uint8, RGB, writable.

        Streams of video standards carry a checksum here. Image files carry none: they are refused
        if cut short, but some other damage gives a damaged picture.

        Raises:
            BitstreamError: if the bytes cannot be decoded to a picture.
        """
        if not data:
            raise BitstreamError(f"there are no bytes to decode with the codec '{self.name}'")
        return self._decode(data)

    @abstractmethod
    def _encode(self, picture: np.ndarray) -> bytes: ...

    @abstractmethod
    def _decode(self, data: bytes) -> np.ndarray: ...

    def check_picture(self, picture: np.ndarray) -> None:
        """Refuse what is no picture for this codec; raises as :meth:`encode`."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise CodecDetError(
                f"the codec '{self.name}' codes (H, W, 3) uint8 arrays, RGB, not "
                f"{picture.shape} {picture.dtype}"
            )
        height, width, _ = picture.shape
        if min(height, width) < 1 or max(height, width) > self.max_side:
            raise CodecDetError(
                f"the codec '{self.name}' codes 1 to {self.max_side} pixels a side, and this "
                f"picture has {width}x{height}: cut it into tiles"
            )
        if height * width > MAX_PIXELS:
            raise CodecDetError(
                f"a picture of {width}x{height} has more than {MAX_PIXELS} pixels: cut it into "
                "tiles"
            )


@dataclass(frozen=True, kw_only=True)
class ProgramCodec(PictureCodec):
    """A codec that runs programs.

    Attributes:
        time_limit: in seconds, for each run of a program.
    """

    time_limit: float = no_byte_setting(TIME_LIMIT)

    def __post_init__(self) -> None:
        limit = self.time_limit
        if isinstance(limit, bool) or not isinstance(limit, Real) or not limit > 0:
            raise ConfigError(f"time_limit is {limit!r} s: give a number above 0")
        super().__post_init__()


def _fits(quality: Any, allowed: QualityRange) -> bool:
    if isinstance(quality, bool) or not isinstance(quality, Real):
        return False
    quality = float(quality)
    if not allowed.minimum <= quality <= allowed.maximum:
        return False
    return not allowed.whole or quality.is_integer()


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a size, in pixels, that coded bytes claim and no codec here would have written.

    Raises:
        BitstreamError: if a side is 0, or there are more than MAX_PIXELS pixels.
    """
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise BitstreamError(
            f"the bytes claim a picture of {width}x{height}, at most {MAX_PIXELS} pixels are "
            f"decoded: they are damaged, or not of the codec '{name}'"
        )

"""What a model expects of its pictures, so that their files need not say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from ..coding_scale import MAX_DENOMINATOR, coded_size
from ..errors import BitstreamError
from .container import MAX_SIDE, MAX_SIZES, Header
from .fixed_point import is_whole

Size = tuple[int, int]
"""Height and width in pixels."""

# As width and height, in either orientation: of cameras, then of data sets.
_USUAL = (
    *((160, 120), (320, 240), (640, 480), (800, 600), (1024, 768), (1280, 960), (1280, 1024)),
    *((1600, 1200), (2048, 1536), (2592, 1944), (4032, 3024)),
    *((640, 360), (960, 540), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160)),
    *((352, 288), (704, 576), (640, 512), (1280, 800)),
    *((640, 380), (640, 427), (500, 375), (2048, 1024), (1600, 900)),
)
_SQUARE = (64, 128, 224, 256, 320, 416, 512, 640, 1024)
# Part of every model's fingerprint: another list would make models that are exported again of the
# same weights unable to read one another's files.
DEFAULT_SIZES: tuple[Size, ...] = (
    *((height, width) for width, height in _USUAL),
    *_USUAL,
    *((side, side) for side in _SQUARE),
)

LEVEL_STEPS = 64
"""Levels of variable-rate models are given in steps of 1/64."""
MAX_LEVELS = 1024


class Picture(NamedTuple):
    """What a file says of its picture besides the latents.

    Attributes:
        size: of the original.
        coded_size: to which it was shrunk before coding.
        level: of a variable-rate model, in steps of 1/64; 0 for others.
    """

    size: Size
    coded_size: Size
    level: int = 0


@dataclass(frozen=True)
class Expected:
    """What is not written into a file if it is so.

    Attributes:
        sizes: of original pictures; a file has the number of its own.
        scale: coding scale, 1 or less, :mod:`codec_det.coding_scale`.
        levels: of a variable-rate model; between them, all steps of 1/64 can be coded.

    Raises:
        ValueError: if something is out of range.
    """

    sizes: tuple[Size, ...] = DEFAULT_SIZES
    scale: Fraction = Fraction(1)
    levels: int = 1

    def __post_init__(self) -> None:
        if not all(len(s) == 2 and all(is_whole(x, 1, MAX_SIDE) for x in s) for s in self.sizes):
            raise ValueError(f"sizes are two sides of 1 to {MAX_SIDE} pixels each")
        if len(self.sizes) > MAX_SIZES or len({*self.sizes}) != len(self.sizes):
            raise ValueError(f"expected sizes are {MAX_SIZES} at most, and none twice")
        if not (0 < self.scale <= 1 and self.scale.denominator <= MAX_DENOMINATOR):
            raise ValueError(f"{self.scale} is no coding scale above 0, up to 1")
        if not is_whole(self.levels, 1, MAX_LEVELS):
            raise ValueError(f"levels are 1 to {MAX_LEVELS}")

    def coded_size(self, size: Size) -> Size:
        """To which a picture is shrunk unless its file says otherwise."""
        return coded_size(*size, self.scale)

    def fields(self, picture: Picture) -> tuple[int | Size, Size | None, int]:
        """``size``, ``coded_size`` and ``level`` of the header that says the least.

        Raises:
            ValueError: if no such file can be read.
        """
        if fault := self._fault(picture):
            raise ValueError(fault)
        known = picture.size in self.sizes
        size = self.sizes.index(picture.size) if known else picture.size
        usual = picture.coded_size == self.coded_size(picture.size)
        return size, None if usual else picture.coded_size, picture.level

    def picture(self, header: Header) -> Picture:
        """What a header says.

        Raises:
            BitstreamError: if no encoder writes it.
        """
        size = header.size
        if isinstance(size, int):
            if size >= len(self.sizes):
                raise BitstreamError(
                    f"of size number {size}, where the model has {len(self.sizes)}: damaged"
                )
            size = self.sizes[size]
        picture = Picture(size, header.coded_size or self.coded_size(size), header.level)
        if fault := self._fault(picture):
            raise BitstreamError(f"{fault}: damaged")
        if self.fields(picture) != (header.size, header.coded_size, header.level):
            raise BitstreamError("a size is written out that the model expects: damaged")
        return picture

    def _fault(self, picture: Picture) -> str | None:
        size, coded, level = picture
        if any(own > original for own, original in zip(coded, size, strict=True)):
            return f"coded with {coded[1]}x{coded[0]} pixels, more than it has"
        if level > LEVEL_STEPS * (self.levels - 1):
            return f"of level {level / LEVEL_STEPS:g}, where the model has {self.levels}"
        return None

    def settings(self) -> dict[str, Any]:
        """JSON-ready, for :meth:`from_settings`."""
        return {
            "sizes": [list(size) for size in self.sizes],
            "scale": [self.scale.numerator, self.scale.denominator],
            "levels": self.levels,
        }

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Expected:
        """Inverse of :meth:`settings`.

        Raises:
            KeyError, TypeError, ValueError: if something is missing or out of range.
        """
        numerator, denominator = settings["scale"]
        if not all(is_whole(x, 1, MAX_DENOMINATOR) for x in (numerator, denominator)):
            raise ValueError("the coding scale is no ratio")
        return cls(
            tuple(_pair(size) for size in settings["sizes"]),
            Fraction(numerator, denominator),
            settings["levels"],
        )


DEFAULT = Expected()


def _pair(size: Sequence[int]) -> Size:
    height, width = size
    return height, width

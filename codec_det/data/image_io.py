"""Read image files as detectron2 does, but say what is wrong with those that cannot be used.

Orientation in EXIF is applied, the first of several frames is taken, greyscale, palette, CMYK and
1-bit images become RGB, and transparency is dropped: a pixel has the colour stored for it, whatever
its alpha, as in detectron2, whose published accuracies were measured so.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import DatasetError
from ..files import special_kind

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".avif", ".webp"),
        *(".png", ".bmp", ".gif", ".tif", ".tiff", ".tga", ".pbm", ".pgm", ".ppm", ".pnm"),
    }
)
"""Of pictures in folders: the formats that :func:`read_image` reads, and people use."""

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".3gp", ".ogv", ".y4m"),
        *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".h264", ".264", ".h265", ".265", ".hevc"),
    }
)
"""Of files that are taken for videos: ffmpeg tells what they are by what is in them."""

CONVERTIBLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""Pillow's names of the pixel formats with at most 8 bits per channel that it converts to RGB."""

_TIFF_BITS_PER_SAMPLE = 258
_PNG_BIT_DEPTH_AT = 24  # bytes: 8 of signature, 8 of the first chunk's header, width and height


def read_image(path: str | Path, format: Literal["BGR", "RGB"] = "BGR") -> np.ndarray:
    """Decode an image file.

    Args:
        path: of a file in any format that Pillow reads.
        format: order of the channels, as in detectron2's function of this name.

    Returns:
        (H, W, 3) uint8, contiguous and writable, upright according to its EXIF orientation.

    Raises:
        DatasetError: the file is missing, empty, damaged, not an image, has more than 8 bits per
            channel, or is too large to be meant; the message names it.
    """
    if format not in ("BGR", "RGB"):
        raise ValueError(f"Format is {format}; it is BGR or RGB.")
    with _opened(Path(path)) as file, warnings.catch_warnings():
        # Pillow would rather see palettes with alpha in RGBA; alpha is dropped anyway.
        warnings.filterwarnings("ignore", "Palette images with Transparency", UserWarning)
        image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    return np.array(image if format == "RGB" else image[:, :, ::-1], order="C")


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the picture in an image file, upright as far as its header says.

    Raises:
        DatasetError: as of :func:`read_image`, of what the header tells.
    """
    with _opened(Path(path)) as file:
        # Pillow decodes a whole PNG in search of an orientation after the pixels.
        searched = isinstance(file, PngImageFile) and "exif" not in file.info
        sideways = not searched and file.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        width, height = file.size
        return (width, height) if sideways else (height, width)


def describe_frames(paths: Iterable[Path]) -> str:
    """A note on files that hold several pictures, of which the first is read; else empty."""
    counts = {path: _count_frames(path) for path in paths}
    several = [f"'{path}' ({count})" for path, count in counts.items() if count > 1]
    return f"note: the first picture alone is taken of {', '.join(several)}" if several else ""


def _count_frames(path: Path) -> int:
    try:
        with _opened(path) as file:
            return getattr(file, "n_frames", 1)
    except DatasetError:  # reading the picture says so
        return 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header is sound; what is found to be wrong with it, then or later, is said."""
    try:
        kind = special_kind(path)
        if kind:
            raise DatasetError(f"The image {path} is {kind}, not a file.")
        if path.is_file() and path.stat().st_size == 0:
            raise DatasetError(f"The image {path} has zero bytes. Download or copy it again.")
        with warnings.catch_warnings():
            # Twice that size is refused.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            _check_header(image, path)
            yield image
    except (DatasetError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise all kinds on damaged files
        raise DatasetError(f"Cannot read the image {path}: {_explain(error)}") from error


def _check_header(image: Image.Image, path: Path) -> None:
    """Refuse what Pillow would read wrongly."""
    if _is_deep(image, path):
        # Pillow saturates 16-bit greys to white where it should scale them.
        raise DatasetError(
            f"The image {path} has more than 8 bits per channel. Convert it to 8 bits per "
            "channel; how to scale its values is yours to say."
        )
    if image.mode not in CONVERTIBLE:
        raise DatasetError(
            f"The image {path} has pixels of type {image.mode}. Convert it to 8-bit RGB."
        )


def _is_deep(image: Image.Image, path: Path) -> bool:
    """More than 8 bits per channel, as Pillow's mode says, or for RGB the header of the file."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(_PNG_BIT_DEPTH_AT + 1)[_PNG_BIT_DEPTH_AT] > 8
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (8,))) > 8
    return False


def _explain(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file. Check the folder of images."
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"{error} If it is meant to be that large, raise PIL.Image.MAX_IMAGE_PIXELS or cut it "
            "into tiles."
        )
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or of a kind that Pillow cannot read. Convert it to PNG."
    return f"it is damaged or cut short ({error}). Download or copy it again."

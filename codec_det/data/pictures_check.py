"""Sizes of picture files, and whether they are what annotations say, found out from headers.

What was found is remembered in a cache, which changes nothing but the time that it takes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..errors import DatasetError
from .image_io import read_image, read_size

CACHE = "~/.cache/codec_det/pictures"
"""One file for each set of pictures, named by a hash of what was looked at: empty where they were
checked and passed, else their sizes."""

THREADS = 16
"""More than cores: on the network file systems that data sets live on, opening files is waiting."""


Item = TypeVar("Item")
Found = TypeVar("Found")


class PictureFile(NamedTuple):
    """A picture file, and its size as annotated.

    Attributes:
        file_size: in bytes.
        mtime: when it was changed, in nanoseconds.
    """

    path: Path
    width: int
    height: int
    file_size: int
    mtime: int


def check_pictures(pictures: Iterable[PictureFile]) -> None:
    """Refuse pictures that cannot be read, or whose size is not the annotated one.

    Raises:
        DatasetError: naming the first, if there is any.
    """
    pictures = list(pictures)
    passed = _cache_of(pictures)
    with suppress(OSError):
        if passed.exists():
            return
    faults = list(islice(filter(None, _in_parallel(_fault, pictures)), 2))
    if faults:
        more = "" if len(faults) == 1 else " More pictures cannot be used."
        raise DatasetError(f"{faults[0]}{more}")
    _remember(passed, "")


def picture_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Height and width of picture files, upright as far as their headers say.

    Raises:
        DatasetError: naming the first that cannot be read.
    """
    known = _cache_of(_Stamp.of(path) for path in paths)
    with suppress(OSError, ValueError):
        return [(height, width) for height, width in json.loads(known.read_bytes())]
    sizes = list(_in_parallel(read_size, paths))
    _remember(known, json.dumps(sizes))
    return sizes


class _Stamp(NamedTuple):
    """What is known of a file without opening it; a missing one has no size."""

    path: Path
    file_size: int
    mtime: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        try:
            status = path.stat()
        except OSError:
            return cls(path, -1, 0)
        return cls(path, status.st_size, status.st_mtime_ns)


def _cache_of(stamps: Iterable[NamedTuple]) -> Path:
    digest = hashlib.sha256("\n".join(map(repr, stamps)).encode()).hexdigest()
    return Path(CACHE).expanduser() / digest


def _remember(file: Path, text: str) -> None:
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        partial.write_text(text)
        partial.replace(file)


def _in_parallel(look: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from pool.map(look, items)
        finally:
            pool.shutdown(cancel_futures=True)


def _fault(picture: PictureFile) -> str:
    """What is wrong with a picture; "" where nothing is."""
    try:
        size: tuple[int, ...] = read_size(picture.path)
        if size != (picture.height, picture.width):
            # Some formats say how they are oriented only after the pixels.
            size = read_image(picture.path).shape[:2]
    except DatasetError as error:
        return str(error)
    return size_fault(str(picture.path), size, (picture.height, picture.width))


def size_fault(name: str, size: tuple[int, ...], annotated: tuple[int, ...]) -> str:
    """What is wrong with a picture of another size (h, w) than annotated; "" where it is equal."""
    if tuple(size) == tuple(annotated):
        return ""
    return (
        f"'{name}' is {size[0]}x{size[1]} (height x width, EXIF orientation applied), but its "
        f"annotations say {annotated[0]}x{annotated[1]}: correct the annotation file, or rewrite "
        "the picture without an EXIF orientation"
    )

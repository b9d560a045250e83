"""Whether picture files are what their annotations say, found out from their headers.

Pictures that passed are remembered in a cache, which changes nothing but the time that it takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..errors import DatasetError
from .image_io import read_image, read_size

CACHE = "~/.cache/codec_det/pictures"
"""One empty file for each set of pictures that passed, named by a hash of what was checked."""

THREADS = 16
"""More than cores: on the network file systems that data sets live on, opening files is waiting."""


class Picture(NamedTuple):
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


def check_pictures(pictures: Iterable[Picture]) -> None:
    """Refuse pictures that cannot be read, or whose size is not the annotated one.

    Raises:
        DatasetError: naming the first, if there is any.
    """
    pictures = list(pictures)
    digest = hashlib.sha256("\n".join(map(repr, pictures)).encode()).hexdigest()
    passed = Path(CACHE).expanduser() / digest
    with suppress(OSError):
        if passed.exists():
            return
    faults = list(islice(_faults(pictures), 2))
    if faults:
        more = "" if len(faults) == 1 else " More pictures cannot be used."
        raise DatasetError(f"{faults[0]}{more}")
    with suppress(OSError):
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()


def _faults(pictures: list[Picture]) -> Iterator[str]:
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from filter(None, pool.map(_fault, pictures))
        finally:
            pool.shutdown(cancel_futures=True)


def _fault(picture: Picture) -> str:
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

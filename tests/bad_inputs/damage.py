"""What makes a folder odd: functions that take it, for rows' ``prepare``."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.bad_inputs.place import write_config

Step = Callable[[Path], object]


def all_of(*steps: Step) -> Step:
    """One after the other."""

    def prepare(folder: Path) -> None:
        for step in steps:
            step(folder)

    return prepare


def write(name: str, content: str | bytes) -> Step:
    """A file with this content, in a folder that is made."""

    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def cut(name: str, share: float = 0.5) -> Step:
    """Only the first ``share`` of a file."""

    def prepare(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return prepare


def flip(name: str, index: int) -> Step:
    """One bit of a file is another."""

    def prepare(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[index] ^= 1
        (folder / name).write_bytes(data)

    return prepare


def remove(*patterns: str) -> Step:
    """Files are gone."""

    def prepare(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return prepare


def make(name: str, mode: int = 0o777) -> Step:
    """An empty folder."""

    def prepare(folder: Path) -> None:
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(mode)

    return prepare


def mode(name: str, bits: int) -> Step:
    """Permissions of a file or folder."""
    return lambda folder: (folder / name).chmod(bits)


def copy(source: str, target: str) -> Step:
    """A copy of a file."""
    return lambda folder: write(target, (folder / source).read_bytes())(folder)


def link(name: str, target: str) -> Step:
    """A symbolic link."""
    return lambda folder: (folder / name).symlink_to(target)


def fifo(name: str) -> Step:
    """A named pipe that nobody writes to."""
    return lambda folder: os.mkfifo(folder / name)


def listening(name: str) -> Step:
    """A socket."""

    def prepare(folder: Path) -> None:
        before = Path.cwd()
        os.chdir((folder / name).parent)  # paths of sockets are short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(Path(name).name)
        os.chdir(before)

    return prepare


def picture(name: str, shape: tuple[int, ...] = (48, 64, 3), **options: Any) -> Step:
    """A picture of noise (H, W, 3) or (H, W), in the format of its suffix."""

    def prepare(folder: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(folder / name, **options)

    return prepare


def deep_picture(name: str) -> Step:
    """A grey picture with 16 bits per pixel."""

    def prepare(folder: Path) -> None:
        Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(folder / name)

    return prepare


def config(name: str, **changes: object) -> Step:
    """``tiny.yaml`` with other values of some keys, dots as double underscores."""
    return lambda folder: write_config(folder / name, **changes)


def edit(name: str, change: Callable[[Any], object]) -> Step:
    """A JSON file whose content ``change`` has changed in place, or replaced."""

    def prepare(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        changed = change(content)
        (folder / name).write_text(json.dumps(content if changed is None else changed))

    return prepare

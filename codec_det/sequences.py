"""Which frames of sequences are predicted, and from what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

Latents = TypeVar("Latents")


class Frame(NamedTuple):
    """Which frame of which sequence a picture is; numbers go up by one in order of time."""

    sequence: int
    number: int


def frame_of(entry: Mapping[str, Any]) -> Frame | None:
    """Which frame a data set's picture is, if it is of a sequence."""
    return Frame(entry["video_id"], entry["frame_id"]) if "video_id" in entry else None


class Reference(Generic[Latents]):
    """What the next frame is predicted from, where it is no key frame.

    The first frame of a sequence is one, the first after a hole, one of another size or level than
    the frame before, and every one that is an interval after the last.

    Args:
        key_interval: frames from a key frame to the next; 1: all are.
    """

    def __init__(self, key_interval: int) -> None:
        self._key_interval = key_interval
        self._frame: Frame | None = None
        self._kind: tuple[float, ...] = ()
        self._since_key = 0
        self._latents: Latents | None = None

    def of(self, frame: Frame | None, kind: tuple[float, ...]) -> Latents | None:
        """Decoded latents of the frame before; None for a key frame, and a picture of no sequence.

        Unless what is decoded of ``frame`` is kept, the next is a key frame.

        Args:
            kind: height, width and level.
        """
        known, latents = (self._frame, self._kind), self._latents
        self._frame, self._kind, self._latents = frame, kind, None
        self._since_key += 1
        follows = (
            frame is not None
            and known == ((frame.sequence, frame.number - 1), kind)
            and self._since_key < self._key_interval
        )
        if follows and latents is not None:
            return latents
        self._since_key = 0
        return None

    def keep(self, latents: Latents) -> None:
        """What was decoded of the last frame."""
        self._latents = latents

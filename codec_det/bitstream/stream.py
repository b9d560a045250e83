"""The ``.cdetv`` stream: frames of one camera, one after another."""

from __future__ import annotations

CHECKSUM_BYTES = 2
_MAX_SHORT = 1 << 7


def frame_overhead_bytes(length: int) -> int:
    """What a stream has of a frame besides its payload of ``length`` bytes."""
    return (1 if length < _MAX_SHORT else 2 if length < _MAX_SHORT**2 else 3) + 1 + CHECKSUM_BYTES

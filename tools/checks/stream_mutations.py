"""Mutations of streams, and what may come of reading them.

A frame that is shown must be one that was sent under its number, after those of lower numbers; all
others are lost, with a reason. Of each mutation there are two, as of :mod:`.mutations`: index 2i
changes bytes as a transfer might; index 2i + 1 changes a frame as a forger would, whose record has
a right checksum. What such a record may show, beyond what was sent, is that under another number,
and a frame that is coded to these very bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from codec_det.bitstream.entropy import Latents
from codec_det.bitstream.prediction import Prediction
from codec_det.bitstream.stream import (
    Lost,
    Received,
    Sent,
    StreamHeader,
    decode_stream,
    model_bytes,
)
from codec_det.errors import BitstreamError

from .mutations import MUTATORS, Mutation, extremes

_BYTES = (
    *("bit flips", "byte changes", "truncation", "extension"),
    *("splice", "deletion", "duplication", "garbage"),
)
MAX_PIXELS = 10**5


class StreamTarget(NamedTuple):
    """A model of sequences and streams that it has written.

    Attributes:
        name: of the codec.
        prediction: its model of predicted frames.
        synthesize: latents to the picture (3, H, W) in [0, 1]; may raise BitstreamError.
        clips: frames of valid streams, from 0 on.
    """

    name: str
    prediction: Prediction
    synthesize: Callable[[Latents], np.ndarray]
    clips: tuple[tuple[Sent, ...], ...]

    @property
    def files(self) -> list[bytes]:
        """The streams."""
        return [self.stream(clip) for clip in self.clips]

    def read(self, data: bytes) -> list[Received | Lost]:
        """What comes of a stream."""
        return list(decode_stream(data, self.prediction, MAX_PIXELS))

    def stream(self, records: Sequence[Sent]) -> bytes:
        """The stream of frames."""
        header = StreamHeader(model_bytes(self.prediction), 25).pack()
        return header + b"".join(record.pack() for record in records)


class Known(NamedTuple):
    """What a target's streams show.

    Attributes:
        frames: (number, decoded values) of all.
        values: the latter.
        counts: of frames, by stream.
    """

    frames: frozenset[tuple[int, bytes]]
    values: frozenset[bytes]
    counts: dict[bytes, int]


def prepare(target: StreamTarget) -> Known:
    """What is known of a target."""
    shown = {
        data: [x for x in target.read(data) if isinstance(x, Received)] for data in target.files
    }
    frames = {(x.number, x.latents.values.tobytes()) for own in shown.values() for x in own}
    counts = {data: len(own) for data, own in shown.items()}
    target.synthesize(next(iter(shown.values()))[0].latents)
    return Known(frozenset(frames), frozenset(values for _, values in frames), counts)


def judge(target: StreamTarget, known: Known, data: bytes) -> str:
    """Read a stream and say what came of it, one of :data:`.fuzzing.OUTCOMES`."""
    try:
        found = target.read(data)
    except BitstreamError as error:
        return "refused" if str(error) else "no reason"
    if not all(x.reason for x in found if isinstance(x, Lost)):
        return "no reason"
    shown = [x for x in found if isinstance(x, Received)]
    numbers = [x.number for x in shown]
    if numbers != sorted(set(numbers)):
        return "wrong picture"
    outcome = "unchanged" if known.counts.get(data) == len(shown) == len(found) else "refused"
    for before, frame in zip(_each_before(target, shown), shown, strict=False):
        values = frame.latents.values.tobytes()
        if (frame.number, values) in known.frames:
            continue
        outcome = "other picture"
        if values not in known.values and not _is_canonical(target, before, frame, data):
            return "not canonical"
        if not _is_picture(target, frame.latents):
            return "wrong picture"
    return outcome


def _each_before(target: StreamTarget, shown: Sequence[Received]) -> list[np.ndarray | None]:
    """What is before each frame that is shown, None before key frames; and before the next."""
    states: list[np.ndarray | None] = [None]
    for frame in shown:
        states[-1] = None if frame.sent.is_key else states[-1]
        states.append(target.prediction.after(frame.latents, states[-1]))
    return states


def _is_canonical(
    target: StreamTarget, before: np.ndarray | None, frame: Received, data: bytes
) -> bool:
    """Whether a frame is coded to bytes that are there."""
    latents, prediction = frame.latents, target.prediction
    # Latents of a frame of one kind may be beyond what the other can code.
    with suppress(ValueError):
        if prediction.pictures.write(latents.y, latents.z, latents.picture) in data:
            return True
    if before is None:
        return False
    with suppress(ValueError):
        indexes, _ = prediction.tables_and_means(latents.z, before)
        return prediction.write(latents, indexes, before, frame.number) in data
    return False


def _is_picture(target: StreamTarget, latents: Latents) -> bool:
    picture = target.synthesize(latents)
    right = picture.shape == (3, *latents.picture.coded_size)
    return right and bool(((picture >= 0) & (picture <= 1)).all())


def mutation(targets: Sequence[StreamTarget], seed: int, index: int) -> Mutation:
    """The ``index``-th mutation of a seed."""
    rng = random.Random(f"stream {seed} {index // 2}")
    number, kind = rng.randrange(len(targets)), rng.choice(KINDS)
    target, forged = targets[number], index % 2 == 1
    records = [*rng.choice(target.clips)]
    if kind in _OF_RECORDS:
        return Mutation(number, kind, _OF_RECORDS[kind](rng, target, records, forged))
    if not forged:
        data, other = target.stream(records), rng.choice(rng.choice(targets).files)
        return Mutation(number, kind, MUTATORS[kind](rng, data, other))
    place = rng.randrange(len(records))
    payload = MUTATORS[kind](rng, records[place].payload, rng.choice(records).payload)
    records[place] = records[place]._replace(payload=payload or b"\0")
    return Mutation(number, kind, target.stream(records))


def _drop(rng: random.Random, target: StreamTarget, records: list[Sent], forged: bool) -> bytes:
    start = rng.randrange(len(records))
    del records[start : start + rng.choice((1, 1, 2, 3))]
    return target.stream(_renumbered(records) if forged else records)


def _repeat(rng: random.Random, target: StreamTarget, records: list[Sent], forged: bool) -> bytes:
    start = rng.randrange(len(records))
    again = records[start : start + rng.choice((1, 1, 2, 3))]
    place = rng.choice((start + len(again), rng.randrange(len(records) + 1)))
    records[place:place] = again
    return target.stream(_renumbered(records) if forged else records)


def _swap(rng: random.Random, target: StreamTarget, records: list[Sent], forged: bool) -> bytes:
    a, b = rng.sample(range(len(records)), 2)
    records[a], records[b] = records[b], records[a]
    return target.stream(_renumbered(records) if forged else records)


def _renumbered(records: Sequence[Sent]) -> list[Sent]:
    return [record._replace(number=number) for number, record in enumerate(records)]


def _head(rng: random.Random, target: StreamTarget, records: list[Sent], forged: bool) -> bytes:
    """Another number or kind of a frame; or a byte of what says so, or of the stream's header."""
    place = rng.randrange(len(records))
    if forged:
        number = rng.choice((0, 1, 127, 128, 2**20, rng.randrange(2**28)))
        is_key = rng.choice((True, records[place].is_key))
        records[place] = records[place]._replace(number=number, is_key=is_key)
        return target.stream(records)
    data = bytearray(target.stream(records))
    start = len(target.stream(records[:place])) * rng.randrange(2)
    data[start + rng.randrange(10)] = rng.randrange(256)
    return bytes(data)


def _craft(rng: random.Random, target: StreamTarget, records: list[Sent], forged: bool) -> bytes:
    """A predicted frame of extreme values; if not forged, with a bit of it flipped."""
    place = rng.choice([i for i, record in enumerate(records) if not record.is_key])
    shown = [x for x in target.read(target.stream(records[:place])) if isinstance(x, Received)]
    last, before = shown[-1].latents, _each_before(target, shown)[-1]
    assert before is not None, "valid streams are read"
    numbers = np.random.default_rng(rng.getrandbits(64))
    prediction = target.prediction
    tables, z = prediction.hyperprior.tables, np.zeros(last.z.shape, np.int32)
    indexes = np.repeat(np.arange(len(tables)), z[0].size)
    z = extremes(numbers, tables, indexes, 0.0).reshape(z.shape).astype(np.int32)
    indexes, means = prediction.tables_and_means(z, before)
    share = rng.choice((0.0, 0.0, 0.01, 0.5))
    y = extremes(numbers, prediction.pictures.tables, indexes.astype(np.int64), share)
    y = y.reshape(last.y.shape).astype(np.int32)
    latents = Latents(y, z, means, last.picture)
    payload = prediction.write(latents, indexes, before, place)
    if not forged:
        payload = MUTATORS["bit flips"](rng, payload, b"")
    records[place] = records[place]._replace(payload=payload)
    return target.stream(records)


_OF_RECORDS: dict[str, Callable[[random.Random, StreamTarget, list[Sent], bool], bytes]] = {
    "drop": _drop,
    "repeat": _repeat,
    "swap": _swap,
    "head": _head,
    "crafted": _craft,
}
KINDS = (*_BYTES, *_OF_RECORDS)

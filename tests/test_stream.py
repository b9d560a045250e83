"""Streams of sequences: written frame by frame, read from wherever, and damaged."""

import numpy as np
import pytest

from codec_det.bitstream.container import varints
from codec_det.bitstream.prediction import SequenceReader
from codec_det.bitstream.stream import (
    Lost,
    Received,
    Sent,
    StreamHeader,
    decode_stream,
    model_bytes,
    read_header,
)
from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.codec.learned.frame_coding import sequence_encoder
from codec_det.codec.learned.freeze import freeze_prediction
from codec_det.errors import BitstreamError
from codec_det.sequences import Frame
from tests.test_temporal_codec import TEMPORAL, clip, entropy_of, make

FRAMES, KEYS = 14, 5


@pytest.fixture(scope="module")
def sent():
    """The frozen model, and 14 frames that were sent, of which every fifth is a key frame."""
    _, codec = make(TEMPORAL[0], key_interval=KEYS)
    prediction = freeze_prediction(codec.name, codec.prediction, entropy_of(codec))
    pictures = picture_encoder(codec.model, prediction.pictures)
    encoder = sequence_encoder(pictures, codec.prediction, prediction, KEYS)
    frames = []
    for number, picture in enumerate(clip(FRAMES, size=(32, 48))):
        small = (255 * picture).byte().permute(1, 2, 0).numpy()
        coded = encoder.encode(small, (32, 48), Frame(0, number))
        frames.append(Sent(number, *coded))
    return prediction, frames


@pytest.fixture(scope="module")
def values(sent):
    """Decoded latents of every frame."""
    prediction, frames = sent
    reader = SequenceReader(prediction)
    return [reader.read(frame.is_key, frame.payload, frame.number).values for frame in frames]


def stream(prediction, frames):
    header = StreamHeader(model_bytes(prediction), fps=12.5).pack()
    return header + b"".join(frame.pack() for frame in frames)


def frames_of(prediction, data):
    """Those that are whole."""
    return [x for x in decode_stream(data, prediction, 10**6) if isinstance(x, Received)]


def shown(prediction, data, values):
    """Numbers of the frames that are shown; what is shown is what was sent."""
    numbers = []
    for found in decode_stream(data, prediction, 10**6):
        if isinstance(found, Received):
            assert np.array_equal(found.latents.values, values[found.number])
            numbers.append(found.number)
        else:
            assert isinstance(found, Lost)
            assert found.reason
    assert numbers == sorted(set(numbers))
    return numbers


def test_a_stream_is_read_as_it_was_written(sent, values):
    prediction, frames = sent
    assert [frame.is_key for frame in frames] == [t % KEYS == 0 for t in range(FRAMES)]
    data = stream(prediction, frames)
    assert shown(prediction, data, values) == list(range(FRAMES))
    header, position = read_header(data)
    assert header.fps == 12.5
    assert len(data) == position + sum(len(frame.pack()) for frame in frames)
    assert len(frames[1].pack()) - len(frames[1].payload) in (1, 2)


def test_numbers_go_on_beyond_what_a_byte_holds(sent, values):
    prediction, frames = sent
    late = [f._replace(number=f.number + 1_000_123) for f in frames]
    data = stream(prediction, late)
    # What a predicted frame is sent with covers its number.
    assert [f.number for f in frames_of(prediction, data)] == [1_000_123, 1_000_128, 1_000_133]
    reader, again = SequenceReader(prediction), []
    for frame, was in zip(late, frames, strict=True):
        before, payload = reader.before, frame.payload
        latents = reader.read(was.is_key, was.payload, was.number)
        if not was.is_key:
            indexes, _ = prediction.tables_and_means(latents.z, before)
            payload = prediction.write(latents, indexes, before, frame.number)
        again.append(frame._replace(payload=payload))
    found = frames_of(prediction, stream(prediction, again))
    assert [f.number for f in found] == [f.number for f in late]


def test_streams_of_version_1_are_read(sent, values):
    prediction, frames = sent
    data = StreamHeader(model_bytes(prediction), fps=12.5, version=1).pack()
    reader = SequenceReader(prediction)
    for frame in frames:
        before = reader.before
        latents = reader.read(*frame[1:], frame.number)
        if frame.is_key:
            data += frame.pack()[1:]
            continue
        indexes, _ = prediction.tables_and_means(latents.z, before)
        payload = prediction.write(latents, indexes, before)
        data += varints(len(payload)) + bytes((frame.number,)) + payload
    assert shown(prediction, data, values) == list(range(FRAMES))
    _, start = read_header(data)
    cut = data.index(frames[5].payload) - 3
    # From within the record of a key frame on: the next is found.
    assert shown(prediction, data[:start] + data[cut:], values) == list(range(10, FRAMES))
    assert shown(prediction, data[:start] + data[cut - 2 :], values) == list(range(5, FRAMES))


def test_a_stream_that_was_cut_loses_its_last_frame_alone(sent, values):
    prediction, frames = sent
    data = stream(prediction, frames)
    last = len(frames[-1].pack())
    for cut in (1, last // 2, last - 1):
        assert shown(prediction, data[:-cut], values) == list(range(FRAMES - 1))
    assert shown(prediction, data[:-last], values) == list(range(FRAMES - 1))


@pytest.mark.parametrize("hit", [1, 5, 7])
def test_what_is_damaged_is_lost_up_to_the_next_key_frame(sent, values, hit):
    prediction, frames = sent
    records = [frame.pack() for frame in frames]
    start = len(stream(prediction, frames[:hit]))
    after = -(-(hit + 1) // KEYS) * KEYS
    expected = [*range(hit), *range(after, FRAMES)]
    for place in range(len(records[hit])):
        data = bytearray(stream(prediction, frames))
        data[start + place] ^= 0xFF
        assert shown(prediction, bytes(data), values) == expected, place


def test_a_predicted_frame_that_says_it_is_a_key_frame_is_refused(sent, values):
    prediction, frames = sent
    data, packed = stream(prediction, frames[:1]), frames[1].pack()
    head = len(packed) - len(frames[1].payload)
    forged = data + b"\0" + packed[:head] + b"\1" + frames[1].payload
    first, found = decode_stream(forged, prediction, 10**6)
    assert first.number == 0
    assert "neither a key frame nor a predicted one" in found.reason


def test_frames_that_are_dropped_repeated_or_swapped_are_never_shown_as_others(sent, values):
    prediction, frames = sent
    without = frames[:7] + frames[8:]
    assert shown(prediction, stream(prediction, without), values) == [*range(7), *range(10, FRAMES)]
    twice = frames[:7] + frames[6:]
    assert shown(prediction, stream(prediction, twice), values) == [*range(7), *range(10, FRAMES)]
    swapped = [*frames[:6], frames[7], frames[6], *frames[8:]]
    assert shown(prediction, stream(prediction, swapped), values) == [*range(6), *range(10, FRAMES)]
    # From the middle, and with a whole interval missing, twice, or at another place.
    assert shown(prediction, stream(prediction, frames[7:]), values) == [*range(10, FRAMES)]
    hole = frames[:5] + frames[10:]
    assert shown(prediction, stream(prediction, hole), values) == [*range(5), *range(10, FRAMES)]
    again = frames[:10] + frames[5:]
    assert shown(prediction, stream(prediction, again), values) == [*range(FRAMES)]
    late = frames[:5] + frames[10:] + frames[5:10]
    assert shown(prediction, stream(prediction, late), values) == [*range(5), *range(10, FRAMES)]


def test_no_mutation_escapes(sent, values):
    prediction, frames = sent
    data = stream(prediction, frames)
    _, position = read_header(data)
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(300):
        changed = bytearray(data)
        kind = rng.integers(4)
        start = int(rng.integers(position, len(data)))
        length = int(rng.geometric(0.1))
        if kind == 0:
            changed[start] = int(rng.integers(256))
        elif kind == 1:
            del changed[start : start + length]
        elif kind == 2:
            changed[start:start] = rng.bytes(length)
        else:
            source = int(rng.integers(position, len(data)))
            changed[start : start + 8 * length] = data[source : source + 8 * length]
        lost += len(shown(prediction, bytes(changed), values)) < FRAMES
    assert lost > 150


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a stream of codec_det"),
        (b"\xcd\xe2\0\0\0\0\0\0\0\0", "not a stream of codec_det"),
        (b"\x89CDV\1\0\0", "cut short to 7 bytes"),
        (b"\x89CDV\3\0\0\0\0\1", "version 3 of the stream; this program reads 1 to 2"),
        (b"\x89CDV\2\0\0\0\0\1", "coded with the model 00000000, but this one is"),
    ],
)
def test_what_is_no_stream_of_the_model_is_refused(sent, data, said):
    with pytest.raises(BitstreamError, match=said):
        list(decode_stream(data, sent[0], 10**6))

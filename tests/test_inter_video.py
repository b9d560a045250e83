"""Frames coded at low delay by the video standards: order, sizes, causality, damage."""

import importlib.util
import pickle

import numpy as np
import pytest

from codec_det.conventional import build_picture_codec
from codec_det.conventional.cache import CodedCache
from codec_det.conventional.inter_video import InterVideoCodec, inter_codec
from codec_det.data.moving_scenes import Motion, render_sequence
from codec_det.errors import BitstreamError, CodecDetError, ConfigError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed"
)

FAST = {
    "avc": (38, {"preset": "faster"}),
    "hevc": (38, {"preset": "faster"}),
    "vvc": (34, {"preset": "faster"}),
    "av1": (50, {"speed": 8}),
}
EACH = pytest.mark.parametrize("name", list(FAST))
COUNT = 5


def codec_of(name, key_interval=COUNT, **changes):
    quality, settings = FAST[name]
    return inter_codec(build_picture_codec(name, quality, **{**settings, **changes}), key_interval)


@pytest.fixture(scope="module")
def frames():
    """A fixed camera's, of sides that are odd and need padding."""
    drawing = render_sequence(np.random.default_rng(3), 66, 98, Motion(frames=COUNT, parked=0.0))
    return np.stack([image for image, _ in drawing])[:, :65, :97]


def error(first, second):
    return np.mean((first.astype(float) - second) ** 2)


@EACH
def test_frames_come_back_in_order_and_predicted_ones_are_small(name, frames):
    codec = codec_of(name)
    data = codec.encode(frames)
    decoded = codec.decode(data, COUNT)
    assert sum(one.size for one in decoded) == len(data)
    alone = len(codec.intra.encode(frames[-1]))
    assert all(one.size < 0.5 * alone for one in decoded[1:])
    for number, one in enumerate(decoded):
        assert one.picture.shape == (65, 97, 3)
        errors = [error(one.picture, other) for other in frames]
        assert errors[number] < 10 ** (-25 / 10) * 255**2
        assert errors[number] == min(errors)


@EACH
def test_the_key_frame_bears_header_and_parameter_sets_and_frames_their_framing(name, frames):
    codec = codec_of(name)
    decoded = codec.decode(codec.encode(frames), COUNT)
    picture = codec.intra.container_overhead(codec.intra.encode(frames[0]))
    # Parameter sets say a little more where frames are predicted.
    assert picture - 4 <= decoded[0].overhead < picture + 90
    # A start code of each frame; AV1 has a delimiter, and a length of one or two bytes.
    others = {one.overhead for one in decoded[1:]}
    assert others <= {3, 4} if name == "av1" else others == {4}


@EACH
def test_no_frame_depends_on_later_ones(name, frames):
    codec = codec_of(name)
    cut = codec.decode(codec.encode(frames[:3]), 3)
    whole = codec.decode(codec.encode(frames), COUNT)
    for one, other in zip(cut, whole, strict=False):
        assert one.size == pytest.approx(other.size, abs=2)
        assert (one.picture == other.picture).all()


@EACH
def test_groups_of_one_and_two(name, frames):
    codec = codec_of(name)
    (alone,) = codec.decode(codec.encode(frames[:1]), 1)
    assert (alone.picture == codec.intra.decode(codec.intra.encode(frames[0]))).all()
    assert len(codec.decode(codec.encode(frames[:2]), 2)) == 2


@EACH
def test_equal_frames_give_equal_bytes(name, frames):
    codec = codec_of(name)
    assert pickle.loads(pickle.dumps(codec)).encode(frames.copy()) == codec.encode(frames)


@EACH
def test_damage_and_other_counts_are_told(name, frames):
    codec = codec_of(name)
    data = codec.encode(frames)
    with pytest.raises(BitstreamError, match=f"{COUNT} frame"):
        codec.decode(data, COUNT - 1)
    for damaged in (data[:-1], data[:40] + bytes([data[40] ^ 1]) + data[41:], b""):
        with pytest.raises(BitstreamError):
            codec.decode(damaged, COUNT)


def test_what_cannot_be_coded_is_refused(frames):
    codec = codec_of("hevc")
    with pytest.raises(CodecDetError, match="1 to 5 frames, not 6"):
        codec.encode(np.concatenate([frames, frames[:1]]))
    with pytest.raises(CodecDetError, match="uint8"):
        codec.encode(frames.astype(float))
    with pytest.raises(ConfigError, match=r"'jpeg' codes every picture by itself"):
        inter_codec(build_picture_codec("jpeg", 50), 5)


def test_settings_tell_inter_from_intra_and_the_cache_keeps_groups(frames, tmp_path):
    codec = codec_of("hevc")
    assert codec.identity["settings"] == {**codec.intra.settings, "key_interval": COUNT}
    assert "keyint=5" in codec.command()
    assert isinstance(codec, InterVideoCodec)
    cache = CodedCache(tmp_path, 2**20)
    data, found = cache.get_or_encode(frames, codec)
    assert not found
    assert cache.get_or_encode(frames, codec) == (data, True)
    cache.get_or_encode(frames[0], codec.intra)
    cache.get_or_encode(frames, codec_of("hevc", 6))
    assert (cache.hits, cache.misses) == (1, 3)

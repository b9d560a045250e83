"""Where in a picture bits go: sums, places, padding."""

import copy

import numpy as np
import pytest
import torch

from codec_det.codec.identity import IdentityCodec
from codec_det.codec.learned.bitstream_codec import BitstreamCodec
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.learned.temporal_codec import TemporalCodec
from codec_det.codec.table import build_codec
from codec_det.config import load_config
from codec_det.pictures.bit_map import BitMap, map_bits
from codec_det.sequences import Frame
from codec_det.training.checkpoint import load_codec_weights


@pytest.fixture(scope="module")
def shapes_codec():
    """The small trained codec that comes with the package."""
    cfg = load_config("configs/shapes/baseline.yaml", ["MODEL.DEVICE", "cpu"])
    codec = build_codec(cfg)
    load_codec_weights(codec, cfg)
    codec.set_trainable(())
    codec.refresh_tables()
    return codec.eval()


@pytest.mark.parametrize(
    "name", ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018"]
)
@pytest.mark.parametrize("size", [(64, 128), (61, 45), (1, 130)])
def test_the_map_sums_to_the_estimated_bits(name, size):
    codec = LearnedCodec(name, 1, n=8, m=12).eval()
    picture = torch.rand(3, *size)
    bit_map = map_bits(codec, picture)
    assert bit_map.density.shape == size
    assert (bit_map.density >= 0).all()
    (bits,) = codec([picture]).bits.tolist()
    assert bit_map.bits == pytest.approx(bits, rel=1e-4)
    padded = [-(-side // codec.stride) * codec.stride for side in size]
    assert (bit_map.padding_bits > 0) is (padded != list(size))


def test_the_map_of_a_codec_that_makes_files_sums_to_its_estimate(shapes_codec):
    codec = BitstreamCodec(copy.deepcopy(shapes_codec))
    picture = torch.randint(0, 256, (3, 50, 77)) / 255
    (measured,) = codec([picture]).measured
    assert map_bits(codec, picture).bits == pytest.approx(measured["estimated_bits"], rel=1e-4)


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_bits_are_where_the_texture_is(shapes_codec, corner):
    picture = torch.full((3, 256, 256), 0.5)
    top, left = (160 * side for side in corner)
    # Coarse: at its low rate, this codec drops the finest texture.
    texture = torch.rand(3, 12, 12).repeat_interleave(8, 1).repeat_interleave(8, 2)
    picture[:, top : top + 96, left : left + 96] = texture
    density = map_bits(shapes_codec, picture).density
    down, across = (128 * side for side in corner)
    inside = density[down : down + 128, across : across + 128].sum()
    # A quarter of the picture; the flat rest is not free.
    assert inside > 0.6 * density.sum()
    middle, opposite = top + 48, 255 - top
    assert density[middle, left + 48] > 8 * density[opposite, 255 - left]
    # One value per place of the latents, and each over its own 16 x 16 pixels.
    blocks = density.reshape(16, 16, 16, 16)
    assert np.ptp(blocks, axis=(1, 3)).max() == 0
    assert len(np.unique(blocks[:, 0, :, 0])) > 20


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", "mbt2018-mean"])
def test_maps_of_frames_sum_to_the_bits_of_predicted_ones(name):
    torch.manual_seed(0)
    codec = TemporalCodec(f"{name}-temporal", 1, n=8, m=12, key_interval=3).eval()
    of_maps = copy.deepcopy(codec)
    still = torch.rand(3, 60, 80)
    maps, bits = [], []
    for number in range(4):
        picture = still + 0.01 * torch.rand(3, 60, 80)
        codec.follow([Frame(1, number)])
        bits += codec([picture]).bits.tolist()
        maps.append(map_bits(of_maps, picture, Frame(1, number)))
    assert [one.bits for one in maps] == pytest.approx(bits, rel=1e-4)
    # As key frames, they would have others.
    assert map_bits(codec, picture).bits == pytest.approx(bits[3], rel=1e-4)
    assert maps[2].bits != pytest.approx(map_bits(copy.deepcopy(codec), picture).bits, rel=1e-3)


def test_bits_of_the_padding_are_cropped_at_the_bottom_right(shapes_codec):
    picture = torch.rand(3, 100, 70)
    whole = torch.nn.functional.pad(picture[None], (0, 10, 0, 12), mode="replicate")[0]
    cropped, padded = (map_bits(shapes_codec, x) for x in (picture, whole))
    assert padded.padding_bits == 0
    np.testing.assert_array_equal(cropped.density, padded.density[:100, :70])


def test_finding_out_leaves_the_codec_as_it_was(shapes_codec):
    map_bits(shapes_codec, torch.rand(3, 64, 64))
    assert not shapes_codec.model._forward_hooks


def test_codecs_that_have_no_likelihoods_have_no_map():
    assert map_bits(IdentityCodec(), torch.rand(3, 8, 8)) is None


def test_a_map_over_the_picture_as_it_was_taken_has_the_same_bits():
    density = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    whole = BitMap(density, 5.0).enlarge(5, 6)
    assert whole.density.shape == (5, 6)
    assert whole.bits == pytest.approx(68)
    # Three rows stand for the first of the coded picture, two columns for each.
    assert whole.density[0, 0] == pytest.approx(1 / 6)
    assert whole.density[4, 5] == pytest.approx(32 / 4)

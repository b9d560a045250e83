"""Large pictures: tile by tile they are what they are whole."""

import json

import numpy as np
import onnx
import pytest
import torch

from codec_det.bitstream import ans, tiles
from codec_det.bitstream.ans import StreamReader, StreamWriter, Tables
from codec_det.bitstream.fixed_point import FixedPointTransform
from codec_det.bitstream.tiles import Tiling, by_tiles
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model, freeze_prediction
from codec_det.codec.learned.geometry import Geometry, geometry
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.learned.transforms import (
    Analysis,
    FrameAnalysis,
    hyper_analysis_of,
    run_analysis,
    synthesize,
)
from codec_det.deploy.model_files import load_encoder, save_onnx_encoder
from codec_det.errors import WeightsError
from codec_det.pixels import to_uint8
from tests.deployed import random_picture
from tests.test_deploy import change_properties
from tests.test_temporal_codec import TEMPORAL, entropy_of
from tests.test_temporal_codec import make as make_temporal

NAMES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
# 20 x 17 latents, the last of which are beyond the picture; 5 x 5 hyper-latents.
HEIGHT, WIDTH = 313, 259


def make_codec(name):
    torch.manual_seed(0)
    codec = LearnedCodec(name, 1, n=8, m=12).eval()
    with torch.no_grad():
        for part, gain in {"g_a": 30, "h_a": 30, "g_s": 10}.items():
            if hasattr(codec.model, part):
                getattr(codec.model, part)[-1].weight.mul_(gain)
    codec.model.update()
    return codec


@pytest.fixture(scope="module", params=NAMES)
def codec(request):
    return make_codec(request.param)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 6 positions, and of 3 and 1 in the hyperprior."""
    return lambda: monkeypatch.setattr(tiles, "POSITIONS", 6)


def counted(transform, calls):
    def count(x):
        calls.append(x.shape)
        return transform(x)

    return count


def test_files_and_pictures_are_the_same_in_tiles(codec, small_tiles, tmp_path):
    entropy = freeze_entropy_model(codec.name, codec.model)
    save_onnx_encoder(tmp_path / "encoder.onnx", codec, entropy)
    encoders = [picture_encoder(codec.model, entropy), load_encoder(tmp_path / "encoder.onnx", 1)]
    decoder = PictureDecoder(codec.model.g_s, entropy)
    picture = random_picture(HEIGHT, WIDTH, 0)
    whole = [encoder.encode(picture) for encoder in encoders]
    decoded = decoder.decode(whole[0])
    assert np.abs(entropy.read(whole[0]).y).max() > 3
    small_tiles()
    assert [encoder.encode(picture) for encoder in encoders] == whole
    again = decoder.decode(whole[0])
    assert again.shape == decoded.shape == (3, HEIGHT, WIDTH)
    # Another shape may be summed in another order.
    torch.testing.assert_close(again, decoded, rtol=0, atol=1e-5)
    in_levels = decoder.synthesize(entropy.read(whole[0]), to_uint8)
    assert torch.equal(in_levels, to_uint8(again))


def test_transforms_of_whole_numbers_are_the_same_to_the_bit(small_tiles):
    """Sums of whole numbers are exact, in whatever order a kernel has them."""
    codec = LearnedCodec("bmshj2018-factorized-relu", 1, n=4, m=6).eval()
    for parameter in (*codec.model.g_a.parameters(), *codec.model.g_s.parameters()):
        parameter.data = torch.randint(-1, 2, parameter.shape).to(parameter)
    calls = []
    x = np.random.default_rng(0).integers(0, 4, (2, 3, 320, 272)).astype(np.float32)
    with torch.inference_mode():
        expected = codec.model.g_a(torch.from_numpy(x)).numpy()
        picture = codec.model.g_s(torch.from_numpy(expected).sign()).clamp(0, 1)
    assert 1 < np.abs(expected).max() < 2**24
    small_tiles()
    step, margin = geometry(codec.model.g_a)
    for own in (margin, margin - 1):
        with torch.inference_mode():
            (found,) = by_tiles(
                counted(lambda x: [codec.model.g_a(torch.from_numpy(x)).numpy()], calls),
                x,
                Tiling(step, (1,), own),
            )
        assert (found == expected).all() == (own == margin)
    assert max(height * width for *_, height, width in calls) <= (6 + 4) ** 2 * 16**2
    assert torch.equal(synthesize(codec.model.g_s, np.sign(expected)), picture)


@pytest.mark.parametrize("name", TEMPORAL[::2])
def test_what_has_changed_is_the_same_in_tiles(name, small_tiles, monkeypatch):
    _, temporal = make_temporal(name)
    prediction = freeze_prediction(name, temporal.prediction, entropy_of(temporal))
    frames = FrameAnalysis(temporal.prediction, prediction.hyperprior)
    change = np.random.default_rng(0).normal(0, 9, (1, 12, 21, 18)).astype(np.float32)
    (whole,) = hyper_analysis_of(frames)(change)
    assert whole.shape == (1, 8, 6, 5)
    assert np.abs(whole).max() > 3
    seen = []
    frames.h_a.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[-2:]))
    before = np.concatenate([change[0], change[0, ::-1]])
    known = prediction.tables_and_means(whole[0], before)
    assert len(np.unique(known[0])) > 2
    small_tiles()
    (again,) = hyper_analysis_of(frames)(change)
    assert np.array_equal(again, whole)
    assert len(seen) > 2
    assert max(height * width for height, width in seen) < 21 * 18
    # In whole numbers, to the bit.
    calls, compute = [], FixedPointTransform.__call__

    def count(transform, x):
        calls.append(x.shape if transform is prediction.network else (0, 0, 0))
        return compute(transform, x)

    monkeypatch.setattr(FixedPointTransform, "__call__", count)
    for own, other in zip(prediction.tables_and_means(whole[0], before), known, strict=True):
        assert np.array_equal(own, other)
    assert 0 < max(height * width for _, height, width in calls) <= (6 + 4) * (1 + 4)


def test_what_is_computed_at_once_is_bounded(codec, small_tiles):
    small_tiles()
    entropy = freeze_entropy_model(codec.name, codec.model)
    analysis = Analysis(codec.model, entropy).eval()
    seen = []
    handles = [
        part.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
        for part in (analysis.g_a, codec.model.g_s)
    ]
    y, *_ = run_analysis(analysis, random_picture(640, 480, 1).transpose(2, 0, 1)[None])
    synthesize(codec.model.g_s, y.astype(np.float32))
    for handle in handles:
        handle.remove()
    pixels = [shape[2] * shape[3] * (1 if shape[1] == 3 else 256) for shape in seen]
    assert y.shape == (1, 12, 40, 30)
    assert len(seen) >= 2 * 40 * 30 // 6
    assert max(pixels) <= 7 * 6 * 256


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAMES[0], {"g_a": (16, 2), "g_s": (16, 2)}),
        (NAMES[1], {"g_a": (16, 2), "h_a": (4, 2), "h_s": (4, 2), "g_s": (16, 2)}),
        ("cheng2020-anchor", {"g_a": None, "g_s": None}),
    ],
)
def test_geometry_of_transforms(name, expected):
    model = LearnedCodec(name, 1, n=8, m=12).model
    found = {part: geometry(getattr(model, part)) for part in expected}
    assert found == {k: v and Geometry(*v) for k, v in expected.items()}


def test_geometry_of_layers():
    def shrinks(kernel, stride=1, **kwargs):
        return torch.nn.Conv2d(4, 4, kernel, stride, kernel // 2, **kwargs)

    nested = torch.nn.Sequential(shrinks(3), torch.nn.Sequential(shrinks(5, 2), torch.nn.ReLU()))
    assert geometry(nested) == Geometry(2, 2)
    assert geometry(nested, nested) == Geometry(2, 3)
    for layer in (
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.Conv2d(4, 4, 4, 2, 1),
        shrinks(3, padding_mode="reflect"),
        torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        torch.nn.ConvTranspose2d(4, 4, 5, 2, 2, 1),
    ):
        assert geometry(torch.nn.Sequential(shrinks(3, 2), layer)) is None


def test_tiles_cover_a_grid_once():
    for size, positions in (((5, 7), 6), ((1, 100), 8), ((64, 3), 1)):
        grid = np.zeros(size, int)
        for tile in tiles._tiles(size, positions):
            assert 0 < grid[tile].size <= positions
            grid[tile] += 1
        assert (grid == 1).all()


def test_symbols_are_ordered_piece_by_piece(monkeypatch):
    rng = np.random.default_rng(0)
    cdf = np.array([0, 2**15, 2**15 + 2**14, 2**16] * 3, np.int32)
    table = Tables(cdf, np.full(3, 4, np.int32), np.array([-1, 0, 5], np.int32))
    values, indexes = rng.integers(-9, 9, 1000), rng.choice([0, 2], 1000).astype(np.uint8)
    streams = []
    for piece in (2**18, 7):
        monkeypatch.setattr(ans, "PIECE", piece)
        writer = StreamWriter()
        table.write(writer, values, indexes)
        streams.append(writer.finish())
        assert (table.read(StreamReader(streams[-1]), indexes) == values).all()
        bits = table.bits(values, indexes)
        assert bits == pytest.approx(8 * len(streams[-1]) - 28, rel=0.02)
    assert streams[0] == streams[1]


def test_onnx_files_that_do_not_say_their_tiles_are_refused(tmp_path):
    codec = make_codec(NAMES[0])
    path = tmp_path / "encoder.onnx"
    save_onnx_encoder(path, codec, freeze_entropy_model(codec.name, codec.model))
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    for tilings in (None, [[16, [1], 2]], "tiles"):
        described = json.loads(properties["codec_det"]) | {"tilings": tilings}
        changed = change_properties(
            path, tmp_path / "changed.onnx", codec_det=json.dumps(described)
        )
        with pytest.raises(WeightsError, match=r"changed.onnx' does not say what tiles"):
            load_encoder(changed)

"""Trained codecs frozen in integers: what is refused, and what exactness costs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from codec_det.bitstream.ans import STREAM_BITS
from codec_det.bitstream.fixed_point import EXACT
from codec_det.bitstream.ids import CODEC_IDS
from codec_det.codec.learned import freeze
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import PRECISIONS, freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.learned.state import codec_weights
from codec_det.codec.table import learned_codecs
from codec_det.data.shapes import scenes
from codec_det.errors import WeightsError
from tests.conftest import CONFIGS

WEIGHTS = CONFIGS.parent / "codec_det" / "weights"
HYPERPRIORS = ("bmshj2018-hyperprior", "mbt2018-mean")


def make(name, tables=True):
    torch.manual_seed(1)
    codec = LearnedCodec(name, 1, n=8, m=12).eval()
    if tables:
        codec.refresh_tables()
    return codec


def freeze_codec(codec):
    return freeze_entropy_model(codec.name, codec.model)


# ---- Every codec ----


@pytest.mark.parametrize("name", CODEC_IDS)
def test_codecs_with_a_number_can_be_frozen(name):
    codec = make(name)
    entropy = freeze_codec(codec)
    assert entropy.codec == name
    assert entropy.channels == 12
    assert (entropy.hyperprior is not None) == (name in HYPERPRIORS)
    assert entropy.stride == 16
    assert entropy.upsampling == (4 if entropy.hyperprior else 1)
    assert entropy.sha256 == freeze_codec(codec).sha256
    medians = codec.model.entropy_bottleneck.quantiles[:, 0, 1]
    if entropy.hyperprior is None:
        assert np.array_equal(entropy.medians, medians.detach().numpy())
        assert len(entropy.tables) == 12
    else:
        assert entropy.hyperprior.has_means == (name == "mbt2018-mean")
        assert not entropy.medians.any()
        assert len(entropy.tables) == 64
        assert len(entropy.hyperprior.tables) == 8


@pytest.mark.parametrize(
    "name", ["identity", *sorted({*learned_codecs()} - {*learned_codecs(files=True), "ssf2020"})]
)
def test_other_codecs_are_refused_with_the_reason(name):
    model = nn.Identity() if name == "identity" else LearnedCodec(name, 1, n=8).model
    reason = "codes nothing" if name == "identity" else "autoregressive context model"
    reason = "quantization step goes into its entropy model" if name.endswith("-vbr") else reason
    with pytest.raises(WeightsError, match=rf"{name} cannot be written .*{reason}.*mbt2018-mean"):
        freeze_entropy_model(name, model)


@pytest.mark.parametrize("name", CODEC_IDS)
def test_tables_that_are_missing_are_asked_for(name):
    with pytest.raises(WeightsError, match="has no CDF tables: export a checkpoint that has them"):
        freeze_codec(make(name, tables=False))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["g_a.0.weight", "g_s.0.bias", "entropy_bottleneck.quantiles"])
def test_weights_that_are_no_numbers_are_refused(part, bad):
    codec = make("mbt2018-mean")
    codec.model.get_parameter(part).data[(0,) * codec.model.get_parameter(part).dim()] = bad
    with pytest.raises(WeightsError, match="not finite: take an earlier checkpoint"):
        freeze_codec(codec)


def test_damaged_tables_are_refused():
    codec = make("bmshj2018-factorized")
    codec.model.entropy_bottleneck._quantized_cdf[2, 1] = 70000
    with pytest.raises(WeightsError, match="CDF tables are damaged: a table is not cumulative"):
        freeze_codec(codec)


def test_layers_without_a_fixed_point_form_are_named():
    codec = make("mbt2018-mean")
    codec.model.h_s[1] = nn.GELU()
    with pytest.raises(TypeError, match="no fixed-point form of GELU"):
        freeze_codec(codec)


# ---- Precision ----


@pytest.mark.parametrize("name", HYPERPRIORS)
def test_usual_weights_get_the_finest_precision(name):
    transform = freeze_codec(make(name)).hyperprior.transform
    assert (transform.weight_bits, transform.activation_bits) == PRECISIONS[0]


def precision_of(codec):
    """Fractional bits of a codec's hyper-synthesis; None if it is refused."""
    try:
        entropy = freeze_codec(codec)
    except WeightsError:
        return None
    assert max(entropy.partial_sums) < EXACT
    transform = entropy.hyperprior.transform
    return transform.weight_bits, transform.activation_bits


@pytest.mark.parametrize("name", HYPERPRIORS)
def test_large_weights_get_a_coarser_precision_and_larger_ones_are_refused(name):
    found = []
    codec = make(name)
    convolutions = [m for m in codec.model.h_s if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    while not found or found[-1]:
        found.append(precision_of(codec))
        for layer in convolutions:
            layer.weight.data *= 1.8
    assert len(found) < 40
    assert list(dict.fromkeys(found)) == [*PRECISIONS, None]
    with pytest.raises(WeightsError, match=r"no precision makes sums .* SOLVER.WEIGHT_DECAY"):
        freeze_codec(codec)


def test_a_single_weight_beyond_32_bits_is_not_wrapped():
    codec = make("bmshj2018-hyperprior")
    # So that sums stay far below 2^53, and the bound on them notices nothing.
    codec.model.h_s[0].weight.data *= 1e-4
    last = codec.model.h_s[-2]
    for value, expected in ((2.0**16, 14), (2.0**17, 12), (2.0**19, 10), (2.0**23 - 1, 8)):
        last.weight.data[0, 0, 0, 0] = value
        transform = freeze_codec(codec).hyperprior.transform
        assert transform.weight_bits == expected
        assert transform.layers[-1].weight[0, 0, 0, 0] == value * 2**expected
    last.weight.data[0, 0, 0, 0] = 2.0**23
    with pytest.raises(WeightsError, match=r"its weights \(up to 8.39e\+06\)"):
        freeze_codec(codec)


def test_huge_biases_are_refused():
    codec = make("mbt2018-mean")
    codec.model.h_s[0].bias.data[0] = 1e30
    with (
        pytest.raises(WeightsError, match="no precision makes sums"),
        np.errstate(invalid="ignore"),
    ):
        freeze_codec(codec)


# ---- What exactness costs ----


def float_indexes(model, z):
    """Tables as CompressAI chooses them, in floating point."""
    medians = model.entropy_bottleneck.quantiles[:, 0, 1].reshape(1, -1, 1, 1)
    with torch.inference_mode():
        out = model.h_s(torch.from_numpy(z)[None].float() + medians)
        if out.shape[1] == 2 * model.M:
            out = out.chunk(2, 1)[0]
        return model.gaussian_conditional.build_indexes(out).numpy().ravel()


def packaged(number):
    checkpoint = torch.load(WEIGHTS / f"shapes_codec_{number}.pth", weights_only=True)
    codec = LearnedCodec("bmshj2018-hyperprior", 1, n=32, m=48).eval()
    weights = codec_weights(checkpoint)
    codec.adapt_state_dict(weights, "")
    codec.load_state_dict(weights)
    codec.refresh_tables()
    return codec


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("precision", [PRECISIONS[0], PRECISIONS[-1]])
def test_exactness_costs_trained_codecs_less_than_a_thousandth(number, precision, monkeypatch):
    monkeypatch.setattr(freeze, "PRECISIONS", (precision,))
    codec = packaged(number)
    entropy = freeze_codec(codec)
    transform = entropy.hyperprior.transform
    assert (transform.weight_bits, transform.activation_bits) == precision
    encoder = picture_encoder(codec.model, entropy)
    exact_bits = float_bits = 0.0
    steps = []
    for picture, _ in scenes(6, (128, 192), seed=9):
        latents = entropy.read(encoder.encode(picture))
        own, _ = entropy.tables_and_means(latents.y.shape[1:], latents.z)
        theirs = float_indexes(codec.model, latents.z)
        exact_bits += entropy.tables.bits(latents.y.ravel(), own)
        float_bits += entropy.tables.bits(latents.y.ravel(), theirs)
        steps.append(own.astype(int) - theirs)
    steps = np.concatenate(steps)
    assert exact_bits > 3000
    assert abs(exact_bits / float_bits - 1) < (1e-4 if precision == PRECISIONS[0] else 1e-3)
    # A scale falls on the other side of a threshold now and then, of none by two.
    assert abs(steps).max() <= 1
    assert (steps != 0).mean() < (3e-3 if precision == PRECISIONS[0] else 0.1)
    assert len(np.unique(own)) > 3


@pytest.mark.parametrize("name", HYPERPRIORS)
def test_tables_are_compressais_but_for_rounding(name):
    codec = make(name)
    codec.model.h_s[-2 if name == "bmshj2018-hyperprior" else -1].weight.data *= 50
    entropy = freeze_codec(codec)
    rng = np.random.default_rng(0)
    tables = entropy.hyperprior.tables
    low, high = (x[:, None, None] for x in (tables.lowest, tables.highest))
    z = rng.integers(low, high, (8, 6, 6), endpoint=True).astype(np.int32)
    own, means = entropy.tables_and_means((24, 24), z)
    steps = own.astype(int) - float_indexes(codec.model, z)
    # Weights fifty times as large make rounding matter fifty times as much.
    assert abs(steps).mean() < 0.03
    assert len(np.unique(own)) > 20
    if name == "mbt2018-mean":
        medians = codec.model.entropy_bottleneck.quantiles[:, 0, 1].reshape(1, -1, 1, 1)
        with torch.inference_mode():
            expected = codec.model.h_s(torch.from_numpy(z)[None] + medians).chunk(2, 1)[1][0]
        assert abs(means - expected.numpy()).max() < 1e-2 * expected.std()


def test_packaged_codec_sends_a_picture_in_the_bits_of_its_estimate():
    codec = packaged(2)
    entropy = freeze_codec(codec)
    (picture, _), *_ = scenes(1, (128, 128), seed=4)
    data = picture_encoder(codec.model, entropy).encode(picture)
    with torch.inference_mode():
        x = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        coded = codec([x])
    overhead = 8 * 5 + STREAM_BITS
    assert 8 * len(data) - overhead == pytest.approx(coded.bits.item(), rel=0.01)
    decoded = PictureDecoder(codec.model.g_s, entropy).decode(data)
    assert torch.allclose(decoded, coded.reconstructions[0], atol=1e-4)

"""Codec weights survive every way of nesting, and load from every format they are found in."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from codec_det.codec.table import build_codec
from codec_det.errors import WeightsError
from codec_det.training.checkpoint import ChainCheckpointer, load_codec_weights
from tools.export_codec import export


def assert_same(module, expected):
    found = module.state_dict()
    assert found.keys() == expected.keys()
    assert [k for k in found if not torch.equal(found[k], expected[k])] == []


@pytest.fixture
def codec_of(tiny_cfg):
    """``make(seed, NAME)``: a codec with random weights and, without a seed, without CDF tables."""

    def make(seed=None, name="bmshj2018-hyperprior"):
        torch.manual_seed(seed or 0)
        codec = build_codec(tiny_cfg("MODEL.CODEC.NAME", name))
        if seed is not None:
            bottleneck = codec.model.entropy_bottleneck
            # The size of the tables follows from the quantiles.
            bottleneck.quantiles.data *= seed * torch.rand_like(bottleneck.quantiles) + 0.5
            codec.model.update()
            codec.model.gaussian_conditional._quantized_cdf[0, 1] += seed
        return codec

    return make


@pytest.fixture
def load(tiny_cfg, tmp_path, codec_of):
    """``load(content)``: a codec that has read ``content`` from a file, as a config names it."""

    def read(content):
        torch.save(content, tmp_path / "codec.pth")
        codec = codec_of()
        load_codec_weights(codec, tiny_cfg("MODEL.CODEC.WEIGHTS", str(tmp_path / "codec.pth")))
        return codec

    return read


def test_tables_differ_in_size_as_these_tests_need(codec_of):
    shapes = {codec_of(s).model.entropy_bottleneck._quantized_cdf.shape for s in (None, 1, 2)}
    assert len(shapes) == 3


@pytest.mark.parametrize("target_seed", [None, 2])
@pytest.mark.parametrize("wrap", ["alone", "nested", "DataParallel"])
def test_tables_survive_nesting(codec_of, wrap, target_seed):
    wrappers = {
        "alone": lambda codec: codec,
        "nested": lambda codec: nn.Sequential(nn.Conv2d(1, 1, 1), nn.ModuleDict({"own": codec})),
        "DataParallel": nn.DataParallel,
    }
    source, target = codec_of(1), codec_of(target_seed)
    saved = wrappers[wrap](source).state_dict()
    wrappers[wrap](target).load_state_dict(saved)
    assert_same(target, source.state_dict())
    images = [torch.rand(3, 64, 64)]
    assert torch.equal(target.eval()(images).bits, source.eval()(images).bits)


def test_loading_does_not_change_what_is_loaded(codec_of):
    saved = {k: v.clone() for k, v in codec_of(1).state_dict().items()}
    given = dict(saved)
    codec_of(2).load_state_dict(given)
    assert given.keys() == saved.keys()
    assert all(torch.equal(given[k], saved[k]) for k in saved)


@pytest.mark.parametrize("filled", [False, True])
def test_tables_survive_the_checkpoint_of_a_chain(tiny_cfg, codec_of, tmp_path, filled):
    torch.manual_seed(1)
    source = build_model(tiny_cfg())
    source.codec.load_state_dict(codec_of(1).state_dict())
    ChainCheckpointer(source, str(tmp_path)).save("model_final")
    torch.manual_seed(2)
    target = build_model(tiny_cfg())
    if filled:
        target.codec.load_state_dict(codec_of(2).state_dict())
    checkpointer = ChainCheckpointer(target, str(tmp_path), strict=True)
    checkpointer.load(str(tmp_path / "model_final.pth"))
    assert checkpointer.found_codec
    assert_same(target, source.state_dict())


def test_loaded_tables_code_for_real(codec_of):
    source, target = codec_of(1).eval(), codec_of(2).eval()
    target.load_state_dict(source.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert target.model.compress(image) == source.model.compress(image)


def renamed(weights, names):
    """``weights`` with the parts of their keys replaced as in ``names``."""
    for new, old in names.items():
        weights = {key.replace(new, old): value for key, value in weights.items()}
    return weights


OLD = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
OLDEST = {"matrices.": "_matrices.", "biases.": "_biases.", "factors.": "_factors."}


@pytest.mark.parametrize("names", [OLD, OLDEST], ids=["old", "oldest"])
def test_old_key_names_load(codec_of, load, names):
    source = codec_of(1)
    weights = renamed(source.model.state_dict(), names)
    assert f"entropy_bottleneck.{names['matrices.']}0" in weights
    assert_same(load(weights), source.state_dict())
    codec = codec_of(2)
    codec.load_state_dict({f"model.{key}": value for key, value in weights.items()})
    assert_same(codec, source.state_dict())


def test_old_key_names_load_in_the_checkpoint_of_a_chain(tiny_cfg, codec_of, tmp_path):
    source = codec_of(1)
    target = build_model(tiny_cfg())
    weights = renamed(source.state_dict(), OLD)
    torch.save({"model": {f"codec.{k}": v for k, v in weights.items()}}, tmp_path / "old.pth")
    ChainCheckpointer(target, str(tmp_path)).load(str(tmp_path / "old.pth"))
    assert_same(target.codec, source.state_dict())


def test_old_names_of_cheng2020s_skip_connections_load(tiny_cfg, tmp_path):
    cfg = tiny_cfg(
        "MODEL.CODEC.NAME", "cheng2020-anchor", "MODEL.CODEC.WEIGHTS", str(tmp_path / "old.pth")
    )
    source, target = build_codec(cfg), build_codec(cfg)
    weights = renamed(source.model.state_dict(), {".skip.": ".downsample."})
    assert "g_a.0.downsample.weight" in weights
    torch.save(weights, tmp_path / "old.pth")
    load_codec_weights(target, cfg)
    assert_same(target, source.state_dict())


def prefixed(weights, prefix):
    return {prefix + key: value for key, value in weights.items()}


FORMATS = {
    "zoo": lambda codec: codec.model.state_dict(),
    "training": lambda codec: {
        "epoch": 7,
        "state_dict": codec.model.state_dict(),
        "loss": torch.tensor(1.5),
        "optimizer": {"state": {}, "param_groups": []},
    },
    "training with DataParallel": lambda codec: {
        "state_dict": prefixed(codec.model.state_dict(), "module.")
    },
    "ours": lambda codec: {
        "model": prefixed(codec.state_dict(), "codec.") | {"detector.weight": torch.zeros(2)},
        "iteration": 99,
    },
    "exported": lambda codec: {
        "model": export({"model": prefixed(codec.state_dict(), "codec.")}, "codec", False)
    },
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_loads(codec_of, load, form):
    source = codec_of(1)
    assert_same(load(FORMATS[form](source)), source.state_dict())


def test_halved_weights_load_rounded_and_tables_exactly(codec_of, load):
    source = codec_of(1)
    halved = export({"model": prefixed(source.state_dict(), "codec.")}, "codec", True)
    assert halved["codec.model.g_a.0.weight"].dtype == torch.float16
    loaded = load({"model": halved}).state_dict()
    for key, expected in source.state_dict().items():
        assert loaded[key].dtype == expected.dtype
        if "entropy_bottleneck" in key or "gaussian_conditional" in key:
            assert torch.equal(loaded[key], expected), key
        else:
            assert torch.equal(loaded[key], expected.half().float()), key


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("bmshj2018-hyperprior", (8, 16)),
        ("bmshj2018-hyperprior", (16, 12)),
        ("mbt2018-mean", (8, 12)),
        ("bmshj2018-factorized", (8, 12)),
    ],
)
def test_weights_of_another_codec_name_the_keys_to_change(tiny_cfg, load, name, widths):
    opts = ["MODEL.CODEC.N", widths[0], "MODEL.CODEC.M", widths[1]]
    other = build_codec(tiny_cfg("MODEL.CODEC.NAME", name, *opts))
    with pytest.raises(WeightsError) as caught:
        load(other.model.state_dict())
    assert "codec.pth' do not fit bmshj2018-hyperprior with widths (8, 12)" in str(caught.value)
    assert "MODEL.CODEC.NAME, QUALITY, N, M, LEVELS and GATED" in str(caught.value)


def test_masked_weights_of_other_widths_are_refused_too(tiny_cfg, tmp_path):
    opts = ["MODEL.CODEC.NAME", "mbt2018", "MODEL.CODEC.WEIGHTS", str(tmp_path / "codec.pth")]
    wide = build_codec(tiny_cfg(*opts, "MODEL.CODEC.M", 16))
    torch.save(wide.model.state_dict(), tmp_path / "codec.pth")
    cfg = tiny_cfg(*opts)
    with pytest.raises(WeightsError, match=r"context_prediction|size mismatch"):
        load_codec_weights(build_codec(cfg), cfg)


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), [1, 2], {"epoch": 3}, {"model": {"detector.weight": torch.zeros(2)}}, {}],
    ids=["tensor", "list", "no weights", "detector", "empty"],
)
def test_file_without_a_codec_is_refused(load, content):
    with pytest.raises(WeightsError, match=r"codec\.pth"):
        load(content)

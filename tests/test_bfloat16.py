"""Training in bfloat16 on a CPU: the backbone is in it, all else in float32, and what is saved."""

import copy
import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from codec_det.codec.learned import precision
from codec_det.config import load_config
from codec_det.training.bfloat16 import train_in_bfloat16
from codec_det.training.trainer import load_chain
from tests.conftest import CONFIGS
from tests.test_regimes import batch
from tests.test_train_net import command, weights
from tools import train_net

JFT = ["MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", "MODEL.DETECTOR.TRAINABLE", "True"]


@pytest.fixture
def chains(tiny_cfg):
    """The same chain in float32 and in bfloat16."""
    plain = build_model(tiny_cfg(*JFT)).train()
    fast = copy.deepcopy(plain)
    train_in_bfloat16(fast)
    return plain, fast


def dtypes(chain, inputs):
    """Of what goes into each layer of the chain in a training step, by name."""
    found = {}

    def look(name, x):
        if x and torch.is_tensor(x[0]):
            found[name] = x[0].dtype

    for name, layer in chain.named_modules():
        layer.register_forward_pre_hook(lambda _, x, name=name: look(name, x))
    with EventStorage():
        losses = chain(inputs)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    return found


def test_the_backbone_alone_is_in_bfloat16(chains):
    found = dtypes(chains[1], batch(size=128))
    halves = {name for name, dtype in found.items() if dtype == torch.bfloat16}
    assert len(halves) > 50
    assert all(name.startswith("detector.backbone.") for name in halves)


def test_features_and_gradients_are_near_those_of_float32():
    # Of trained weights: what random ones make of 53 layers follows from the last bit.
    cfg = load_config(str(CONFIGS / "shapes/jft.yaml"), ["MODEL.DEVICE", "cpu"])
    plain = load_chain(cfg).train()
    fast = copy.deepcopy(plain)
    train_in_bfloat16(fast)
    found = []
    picture = torch.randn(2, 3, 128, 128)
    for chain in (plain, fast):
        features = chain.detector.backbone(picture)["p3"]
        assert features.dtype == torch.float32
        (features * torch.linspace(-1, 2, features.numel()).view_as(features)).sum().backward()
        found.append((features, chain.detector.backbone.fpn_output3.weight.grad))
    for wanted, got in zip(*found, strict=True):
        assert not torch.equal(wanted, got)
        assert torch.cosine_similarity(wanted.flatten(), got.flatten(), dim=0) > 0.99


def test_the_codec_is_left_alone(chains):
    rates = []
    for chain in chains:
        torch.manual_seed(0)
        with EventStorage():
            losses = chain([x | {"image": torch.full((3, 64, 64), 99)} for x in batch()])
        rates.append((losses["loss_rate"].item(), losses["loss_aux"].item()))
    assert rates[0] == rates[1]


def test_evaluation_is_in_float32(chains):
    plain, fast = (chain.eval() for chain in chains)
    assert plain.state_dict().keys() == fast.state_dict().keys()
    for one, other in zip(plain(batch()), fast(batch()), strict=True):
        assert one["bits"] > 0
        assert one["reconstruction"].shape == other["reconstruction"].shape
    picture = torch.rand(1, 3, 64, 96)
    wanted, found = plain.codec([picture[0]]), fast.codec([picture[0]])
    assert torch.equal(wanted.reconstructions[0], found.reconstructions[0])
    # Strides move in front of convolutions of 1x1, and the order of summation changes.
    wanted, found = plain.detector.backbone(picture), fast.detector.backbone(picture)
    for name in wanted:
        assert found[name].shape == wanted[name].shape
        assert (found[name] - wanted[name]).abs().max() < 1e-4 * wanted[name].abs().max()


def test_training_in_bfloat16_saves_what_others_can_evaluate(tmp_path, tiny_set, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    opts = [*tiny_set, "SOLVER.MAX_ITER", "2", "SOLVER.AMP.ENABLED", "True"]
    assert train_net.main(command(tmp_path / "run", *opts)) == 0
    trained = weights(tmp_path / "run")
    assert {w.dtype for w in trained.values() if w.is_floating_point()} == {torch.float32}
    opts += ["MODEL.WEIGHTS", str(tmp_path / "run/model_final.pth"), "SOLVER.AMP.ENABLED", "False"]
    assert train_net.main(command(tmp_path / "again", *opts, flags=["--eval-only"])) == 0
    before, after = (
        json.loads(Path(tmp_path, folder, "results.jsonl").read_text().splitlines()[-1])
        for folder in ("run", "again")
    )
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["results"]["rate"]["bpp"] == before["results"]["rate"]["bpp"]

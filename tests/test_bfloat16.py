"""Training in bfloat16 on a CPU: what is in it, what stays in float32, and what training saves."""

import copy
import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from codec_det.codec.learned import precision
from codec_det.training.bfloat16 import train_in_bfloat16
from tests.test_gdn import gradients, make, picture
from tests.test_regimes import batch
from tests.test_train_net import command, weights
from tools import train_net

JFT = ["MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", "MODEL.DETECTOR.TRAINABLE", "True"]
BF16 = torch.bfloat16


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


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_rounds_its_maps_alone(inverse):
    _, ours = make(inverse, channels=32)
    x = picture(2, 32, 24, 40).to(BF16)
    exact = gradients(ours, x.float())
    y, dx, dbeta, dgamma = gradients(ours, x)
    assert (y.dtype, dx.dtype, dbeta.dtype, dgamma.dtype) == (BF16, BF16, *[torch.float32] * 2)
    for one, other in zip(exact, (y, dx, dbeta, dgamma), strict=True):
        assert (one - other).abs().max() < 2**-7 * one.abs().max()


def test_inner_layers_and_backbone_alone_are_in_bfloat16(chains):
    found = dtypes(chains[1], batch(size=128))
    halves = {name for name, dtype in found.items() if dtype == BF16}
    convolutions = {n for n in halves if n.startswith("codec") and n[-1] in "0246"}
    assert not convolutions - {f"codec.model.{t}.{i}" for t in ("g_a", "g_s") for i in (2, 4)}
    assert {f"codec.model.{t}.{i}" for t in ("g_a", "g_s") for i in (3,)} <= halves
    assert found["codec.model.g_a.0"] == found["codec.model.g_s.6"] == torch.float32
    assert found["codec.model.g_s.5"] == found["codec.model.h_a.0"] == torch.float32
    others = {name for name in halves if not name.startswith("codec")}
    assert others
    assert all(name.startswith("detector.backbone.") for name in others)


def test_losses_and_gradients_are_near_those_of_float32(chains):
    found = []
    inputs = batch(size=128)
    for chain in chains:
        torch.manual_seed(0)
        with EventStorage():
            losses = chain(inputs)
        losses["loss_rate"].backward()
        g_a = chain.codec.model.g_a[0].weight.grad
        found.append((losses["loss_rate"].item(), losses["loss_rpn_cls"].item(), g_a))
        assert losses["loss_aux"] == chain.codec.auxiliary_loss()
    (rate, task, g_a), (other_rate, other_task, other_g_a) = found
    assert other_rate == pytest.approx(rate, rel=0.01)
    assert other_task == pytest.approx(task, rel=0.01)
    assert torch.cosine_similarity(g_a.flatten(), other_g_a.flatten(), dim=0) > 0.99


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

"""Activation checkpointing: the same results and gradients, with fewer tensors kept."""

import copy

import pytest
import torch
from detectron2.config import CfgNode
from torch.autograd.graph import saved_tensors_hooks

from codec_det.codec.table import build_codec, find_codec, learned_codecs
from codec_det.config import load_config


def config(name: str, checkpointing: bool) -> CfgNode:
    widths = ["N", 8] if name.startswith("cheng2020") else ["N", 8, "MODEL.CODEC.M", 12]
    opts = ["MODEL.CODEC.NAME", name, f"MODEL.CODEC.{widths[0]}", *widths[1:]]
    return load_config("", [*opts, "MODEL.CODEC.CHECKPOINT_ACTIVATIONS", checkpointing])


def make(name="bmshj2018-hyperprior", trainable=("encoder", "decoder")):
    """Two codecs of the same weights, without and with checkpointing."""
    plain, checkpointed = (build_codec(config(name, on)) for on in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    for codec in (plain, checkpointed):
        codec.set_trainable(trainable)
        codec.train()
    return plain, checkpointed


def step(codec, images):
    """Rate and distortion (noise is seeded), their gradients, and bytes that were kept for them."""
    torch.manual_seed(5)
    kept = {}

    def pack(tensor):
        # A storage counts once, however many views of it are kept.
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    codec.zero_grad()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        coded = codec(images)
        loss = coded.bits.sum() + sum(
            255 * (x - y).square().sum() for x, y in zip(images, coded.reconstructions, strict=True)
        )
    loss.backward()
    gradients = {k: p.grad for k, p in codec.named_parameters() if p.grad is not None}
    return loss, gradients, sum(kept.values())


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in learned_codecs()
        if find_codec(name).levels == 1 and not find_codec(name).predicts_frames
    ],
)
def test_results_and_gradients_are_identical(name):
    images = [torch.rand(3, 64, 80), torch.rand(3, 64, 64)]
    plain, checkpointed = (step(codec, images) for codec in make(name))
    assert torch.equal(plain[0], checkpointed[0])
    assert plain[1].keys() == checkpointed[1].keys()
    assert any(gradient.any() for gradient in plain[1].values())
    for key, gradient in plain[1].items():
        assert torch.equal(gradient, checkpointed[1][key]), key


@pytest.mark.parametrize("trainable", [("encoder",), ("synthesis",)])
def test_frozen_parts_stay_without_gradients(trainable):
    images = [torch.rand(3, 64, 64)]
    codecs = make(trainable=trainable)
    plain, checkpointed = (step(codec, images) for codec in codecs)
    assert plain[1].keys() == checkpointed[1].keys()
    for key, gradient in plain[1].items():
        assert torch.equal(gradient, checkpointed[1][key]), key


def test_keeps_far_less_for_the_backward_pass():
    images = [torch.rand(3, 128, 128)]
    plain, checkpointed = (step(codec, images) for codec in make())
    assert checkpointed[2] < 0.5 * plain[2]


def test_keeps_nothing_and_changes_nothing_in_evaluation():
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        plain, checkpointed = (codec.eval()(images) for codec in make())
    assert torch.equal(plain.reconstructions[0], checkpointed.reconstructions[0])
    assert torch.equal(plain.bits, checkpointed.bits)


def test_copies_use_their_own_weights():
    _, codec = make()
    copied = copy.deepcopy(codec)
    with torch.no_grad():
        for parameter in copied.model.g_a.parameters():
            parameter.zero_()
    x = torch.rand(1, 3, 64, 64)
    assert not copied.model.g_a(x).any()
    assert codec.model.g_a(x).any()

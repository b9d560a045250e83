"""Pictures of frozen codecs are coded once, and come out as if they were coded anew."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from codec_det.codec.learned import kept_pictures
from codec_det.pixels import to_uint8
from tests.test_regimes import batch, make


@pytest.fixture
def chain(tiny_cfg):
    return make(tiny_cfg, [], True)[1].train()


def count_calls(chain):
    calls = []
    chain.codec.model.g_a.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_a_frozen_codec_codes_a_picture_once_and_gives_the_same_again(chain):
    calls = count_calls(chain)
    images = [torch.randint(0, 256, (3, 64, 96)) / 255 for _ in range(3)]
    anew = [chain.codec([image]) for image in images]
    calls.clear()
    first = chain.kept(images[:2])
    again = chain.kept([images[1], images[2], images[0]])
    assert len(calls) == 3
    for coded, order in ((first, [0, 1]), (again, [1, 2, 0])):
        assert coded.bits.tolist() == [anew[i].bits.item() for i in order]
        assert torch.equal(coded.bits, coded.rounded_bits)
        for picture, i in zip(coded.reconstructions, order, strict=True):
            assert torch.equal(picture, to_uint8(anew[i].reconstructions[0]).float() / 255)


def test_pictures_without_room_are_coded_anew(chain, monkeypatch):
    monkeypatch.setattr(kept_pictures, "MAX_BYTES", 3 * 64 * 64)
    chain.kept.forget()
    calls = count_calls(chain)
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    found = [chain.kept(images) for _ in range(3)]
    assert len(calls) == 1 + 3
    assert all(torch.equal(f.bits, found[0].bits) for f in found)


def test_training_uses_it_and_evaluation_does_not(chain):
    calls = count_calls(chain)
    inputs = batch()
    with EventStorage():
        chain(inputs)
        chain(inputs)
    assert len(calls) == 2
    chain.eval()(inputs)
    assert len(calls) == 3  # both at once


def test_other_weights_give_other_pictures(chain):
    images = [torch.rand(3, 64, 64)]
    before = chain.kept(images).bits
    weights = chain.state_dict()
    weights["codec.model.g_a.6.weight"] = weights["codec.model.g_a.6.weight"] / 4
    chain.load_state_dict(weights)
    assert not torch.equal(chain.kept(images).bits, before)


@pytest.mark.parametrize("parts", [["encoder"], ["synthesis"]])
def test_a_codec_that_trains_keeps_nothing(tiny_cfg, parts):
    assert make(tiny_cfg, parts, True)[1].kept is None

"""CompressAI's ssf2020 as a codec of sequences: frame by frame what CompressAI makes of all."""

import copy

import pytest
import torch
from compressai.models.video import ScaleSpaceFlow
from torch.nn import functional as F

from codec_det.codec.learned.scale_space_flow import ScaleSpaceFlowCodec
from codec_det.codec.table import build_codec
from codec_det.config import load_config
from codec_det.config_checks import check_config
from codec_det.errors import ConfigError, WeightsError
from codec_det.sequences import Frame
from codec_det.training.checkpoint import load_codec_weights

KEY_INTERVAL = 3
NAME = ["MODEL.CODEC.NAME", "ssf2020", "MODEL.CODEC.WEIGHTS", ""]
HYPERPRIORS = ("img", "motion", "res")


@pytest.fixture(scope="module")
def lively():
    """CompressAI's model, whose latents are of several values, and flow of some pixels."""
    torch.manual_seed(0)
    model = ScaleSpaceFlow().eval()
    with torch.no_grad():
        for part in HYPERPRIORS:
            getattr(model, f"{part}_encoder")[-1].weight *= 20
    return model


@pytest.fixture
def codec(lively):
    codec = ScaleSpaceFlowCodec("ssf2020", 1, clip_length=2, key_interval=KEY_INTERVAL)
    codec.model.load_state_dict(lively.state_dict())
    return codec.eval()


def frames(count, height=128, width=128):
    generator = torch.Generator().manual_seed(1)
    scene = F.interpolate(torch.rand(1, 3, 5, 5, generator=generator), (height, width + 8 * count))
    return [scene[0, :, :, 8 * t : 8 * t + width].clone() for t in range(count)]


def bits_of(likelihoods):
    leaves = [x for part in likelihoods.values() for x in part.values()]
    return sum(-torch.log2(x).sum().item() for x in leaves)


@torch.no_grad()
def of_compressai(model, pictures):
    found = [model(pictures[t : t + KEY_INTERVAL]) for t in range(0, len(pictures), KEY_INTERVAL)]
    pictures = [x[0].clamp(0, 1) for one in found for x in one["x_hat"]]
    return pictures, [bits_of(x) for one in found for x in one["likelihoods"]]


@pytest.mark.parametrize("size", [(128, 128), (100, 140)])
def test_frames_are_coded_as_compressai_codes_sequences(codec, lively, size):
    pictures = frames(4, *size)
    below, beside = -size[0] % 128, -size[1] % 128
    padded = [F.pad(x[None], (0, beside, 0, below), mode="replicate") for x in pictures]
    decoded, bits = of_compressai(lively, padded)
    assert len({round(x) for x in bits}) == 4
    with torch.no_grad():
        for t, picture in enumerate(pictures):
            codec.follow([Frame(7, t)])
            coded = codec([picture])
            assert torch.allclose(
                coded.reconstructions[0], decoded[t][:, : size[0], : size[1]], atol=1e-4
            )
            assert coded.bits.item() == pytest.approx(bits[t], rel=1e-4)


def test_pictures_of_no_sequence_are_key_frames(codec, lively):
    pictures = frames(2)
    with torch.no_grad():
        coded = codec(pictures)
        alone = [lively.forward_keyframe(x[None]) for x in pictures]
    assert coded.bits.tolist() == pytest.approx([bits_of(like) for _, like in alone], rel=1e-4)
    assert list(coded.latents) == []


def test_clips_are_frames_one_after_another_with_the_weights_of_an_interval(codec, lively):
    pictures = frames(4)
    codec.set_trainable(())
    with torch.no_grad():
        coded = codec.train()(pictures)
        of_clips = [lively([x[None] for x in pictures[t : t + 2]]) for t in (0, 2)]
    expected = [
        2 * share * bits_of(likelihoods)
        for clip in of_clips
        for share, likelihoods in zip((1 / 3, 2 / 3), clip["likelihoods"], strict=True)
    ]
    assert coded.bits.tolist() == pytest.approx(expected, rel=1e-4)


def test_all_parts_train_on_clips(codec):
    parts = codec.parts()
    every = {id(p) for p in codec.parameters()}
    of = {k: [id(p) for m in v for p in m.parameters()] for k, v in parts.items()}
    assert sorted(of["encoder"] + of["decoder"]) == sorted(every)
    assert set(of["synthesis"]) < set(of["decoder"])
    assert set(of["prediction"]) < every
    codec.set_trainable(("encoder", "decoder"))
    coded = codec.train()(frames(2))
    loss = coded.bits.sum() + sum(x.square().sum() for x in coded.reconstructions)
    (loss + codec.auxiliary_loss()).backward()
    without = [name for name, p in codec.named_parameters() if p.grad is None]
    assert without == []
    for part in HYPERPRIORS:
        assert getattr(codec.model, f"{part}_encoder")[0].weight.grad.any()


def test_a_frozen_codec_rounds_and_has_no_auxiliary_loss(codec):
    codec.set_trainable(("synthesis",))
    assert not codec.train().model.training
    assert codec.auxiliary_loss() is None
    before = copy.deepcopy(codec.state_dict())
    codec.refresh_tables()
    assert all(torch.equal(value, before[key]) for key, value in codec.state_dict().items())


def test_weights_of_compressai_are_read_and_others_refused(lively, tmp_path):
    path = tmp_path / "ssf.pth"
    torch.save({k: v.half() for k, v in lively.state_dict().items()}, path)
    cfg = load_config("", [*NAME[:2], "MODEL.CODEC.WEIGHTS", str(path)])
    codec = build_codec(cfg)
    load_codec_weights(codec, cfg)
    key = "motion_encoder.2.weight"
    assert torch.equal(codec.model.state_dict()[key], lively.state_dict()[key].half().float())
    torch.save({"g_a.0.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="do not fit ssf2020"):
        load_codec_weights(codec, cfg)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.CODEC.BITSTREAM", True], "ssf2020 cannot be written to files .*floating-point"),
        (["MODEL.CODEC.N", 32], "ssf2020 has channels of its own"),
        (["MODEL.CODEC.DECODED", "latents"], "'ssf2020' has none"),
        (["MODEL.CODEC.QUALITY", 10], "ssf2020 has qualities 1 to 9"),
        (["MODEL.CODEC.METRIC", "ms-ssim", "MODEL.CODEC.WEIGHTS", "zoo"], "publishes no weights"),
    ],
)
def test_what_it_cannot_do_is_refused(opts, message):
    cfg = load_config("", [*NAME, *opts])
    with pytest.raises((ConfigError, WeightsError), match=message):
        _open(cfg)


def _open(cfg):
    check_config(cfg, train=False)
    load_codec_weights(build_codec(cfg), cfg)

"""The codecs: rate, gradients, freezing and quantization, against CompressAI's own models."""

import copy
import math

import compressai.zoo
import pytest
import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyModel
from compressai.layers import MaskedConv2d
from compressai.registry import MODELS
from compressai.zoo.image import cfgs as zoo_widths
from compressai.zoo.image import model_architectures, model_urls
from torch import nn

from codec_det.codec.base import BatchedCodec, CodedBatch, clamp_01
from codec_det.codec.identity import IdentityCodec
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.table import (
    QUANTIZATIONS,
    build_codec,
    codec_names,
    conventional_codecs,
    find_codec,
    learned_codecs,
)
from codec_det.config import load_config
from codec_det.config_checks import check_config

LEARNED = tuple(
    name
    for name in learned_codecs()
    if not (find_codec(name).is_centred or find_codec(name).predicts_frames)
    and not find_codec(name).full
    and find_codec(name).levels == 1
)
HYPERPRIOR = "bmshj2018-hyperprior"
FACTORIZED = "bmshj2018-factorized"
BOTH = ("encoder", "decoder")


def make(name=HYPERPRIOR, trainable=BOTH, quantization="noise", n=8, m=12):
    """A narrow codec whose latents spread over many symbols, as those of a trained one do."""
    torch.manual_seed(1)
    codec = LearnedCodec(name, 1, n=n, m=m, quantization=quantization)
    for transform in (codec.model.g_a, getattr(codec.model, "h_a", None)):
        if transform is not None:
            *_, last = (layer for layer in transform.modules() if isinstance(layer, nn.Conv2d))
            last.weight.data *= 30
            last.bias.data *= 30
    codec.set_trainable(trainable)
    return codec.train()


def picture(height=64, width=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)


def gradients(codec, output):
    named = dict(codec.named_parameters())
    trainable = {k: p for k, p in named.items() if p.requires_grad}
    found = torch.autograd.grad(output, list(trainable.values()), allow_unused=True)
    return {k: g for k, g in zip(trainable, found, strict=True) if g is not None and g.any()}


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def assert_same_state(module, before):
    after = module.state_dict()
    assert list(after) == list(before)
    assert [k for k in after if not torch.equal(after[k], before[k])] == []


# ---- Architectures ----


def test_every_fixed_rate_architecture_of_the_zoo_is_offered():
    fixed_rate = [name for name in compressai.zoo.image_models if not name.endswith("-vbr")]
    assert list(LEARNED) == fixed_rate
    assert codec_names() == ("identity", *learned_codecs(), *conventional_codecs())


@pytest.mark.parametrize("name", LEARNED)
def test_architecture_is_built_with_the_widths_asked_for(name):
    codec = make(name)
    assert type(codec.model) is MODELS[name]
    # cheng2020 has one width for both.
    assert codec.widths == ((8,) if name.startswith("cheng2020") else (8, 12))
    assert codec.model.entropy_bottleneck.channels == (12 if name.startswith(FACTORIZED) else 8)


def test_architecture_of_a_name_is_the_zoos():
    # The zoo's own table spells the seventh with an underscore.
    table = {name.replace("_", "-"): model for name, model in model_architectures.items()}
    assert {name: MODELS[name] for name in LEARNED} == table


@pytest.mark.parametrize("name", LEARNED)
def test_widths_and_weights_are_the_zoos(name):
    assert find_codec(name).widths == zoo_widths[name]
    assert find_codec(name).has_zoo_weights == (name in model_urls)


def test_quality_sets_the_widths():
    assert LearnedCodec(FACTORIZED, 5).widths == (128, 192)
    assert LearnedCodec(FACTORIZED, 6).widths == (192, 320)
    assert LearnedCodec(FACTORIZED, 6, n=8).widths == (8, 320)


@pytest.mark.parametrize("name", ["identity", *LEARNED])
def test_codec_is_built_from_a_config(name):
    opts = ["MODEL.CODEC.NAME", name, "MODEL.CODEC.WEIGHTS", ""]
    opts += ["MODEL.CODEC.N", "8", "MODEL.CODEC.M", "0" if "cheng" in name else "12"]
    cfg = load_config("", [*opts, "MODEL.CODEC.QUANTIZATION", "straight_through"])
    check_config(cfg)
    codec = build_codec(cfg)
    models = [m for m in codec.modules() if isinstance(m, EntropyModel)]
    assert isinstance(codec, IdentityCodec if name == "identity" else LearnedCodec)
    assert all(model.proxy == "straight_through" for model in models)
    assert codec.eval()([picture(40, 72)]).reconstructions[0].shape == (3, 40, 72)


# ---- Pictures of any size ----

SIZES = [(1, 1), (17, 33), (64, 64), (65, 1), (40, 20)]


@pytest.mark.parametrize("name", [HYPERPRIOR, FACTORIZED])
def test_picture_costs_in_a_batch_what_it_costs_alone(name):
    codec = make(name).eval()
    images = [picture(h, w, seed=h) for h, w in SIZES]
    with torch.no_grad():
        together = codec(images)
        alone = [codec([image]) for image in images]
    assert together.bits.shape == together.rounded_bits.shape == (len(SIZES),)
    for i, image in enumerate(images):
        reconstruction = together.reconstructions[i]
        assert reconstruction.shape == image.shape
        assert reconstruction.min() >= 0
        assert reconstruction.max() <= 1
        torch.testing.assert_close(together.bits[i], alone[i].bits[0], rtol=1e-5, atol=0)
        torch.testing.assert_close(reconstruction, alone[i].reconstructions[0], rtol=0, atol=1e-5)
    # Larger pictures of like content cost more, so no two were exchanged.
    assert together.bits[0] < together.bits[1] < together.bits[2]


class _Recorder(BatchedCodec):
    stride = 16

    def __init__(self):
        super().__init__()
        self.batches = []

    def code(self, batch, pictures=True):
        self.batches.append(batch)
        bits = batch.flatten(1).sum(1)
        return CodedBatch(batch * 3 - 1, bits, bits + 1, batch[:, :1, ::16, ::16])


def test_padding_is_minimal_repeats_the_edge_and_is_cropped():
    codec = _Recorder().eval()
    images = [picture(16, 32), picture(17, 32, seed=1), picture(3, 20, seed=2), picture(1, 1)]
    coded = codec(images)
    assert [tuple(b.shape) for b in codec.batches] == [
        (2, 3, 16, 32),
        (1, 3, 32, 32),
        (1, 3, 16, 16),
    ]
    together = codec.batches[0]
    assert torch.equal(together[0], images[0])
    assert torch.equal(together[1, :, :3, :20], images[2])
    assert torch.equal(together[1, :, 3:, :20], images[2][:, 2:].expand(3, 13, 20))
    assert torch.equal(together[1, :, :, 20:], together[1, :, :, 19:20].expand(3, 16, 12))
    for image, reconstruction in zip(images, coded.reconstructions, strict=True):
        assert torch.equal(reconstruction, (image * 3 - 1).clamp(0, 1))
    expected = [batch.sum() for batch in (together[0], codec.batches[1], together[1])]
    torch.testing.assert_close(coded.bits[:3], torch.stack(expected))
    assert torch.equal(coded.rounded_bits, coded.bits + 1)
    assert [tuple(x.shape) for x in coded.latents] == [(1, 1, 2), (1, 2, 2), (1, 1, 2), (1, 1, 1)]
    assert all(x[0, 0, 0] == image[0, 0, 0] for x, image in zip(coded.latents, images, strict=True))


def test_padding_in_training_falls_on_every_side_in_any_share():
    codec = _Recorder().train()
    image = picture(13, 16)
    tops = set()
    torch.manual_seed(0)
    for _ in range(60):
        (reconstruction,) = codec([image]).reconstructions
        assert torch.equal(reconstruction, (image * 3 - 1).clamp(0, 1))
        (padded,) = codec.batches.pop()
        (top,) = (t for t in range(4) if torch.equal(padded[:, t : t + 13], image))
        assert torch.equal(padded[:, :top], image[:, :1].expand(3, top, 16))
        assert torch.equal(padded[:, top + 13 :], image[:, -1:].expand(3, 3 - top, 16))
        tops.add(top)
    assert tops == {0, 1, 2, 3}


@pytest.mark.parametrize("name", LEARNED)
def test_padding_is_to_the_stride_of_the_latents(name):
    codec = make(name)
    assert codec.stride == 16
    for side in (1, 16, 17, 49, 64, 65):
        (seen,) = record_likelihoods(codec, picture(side, 20))
        latents = [likelihoods.shape[2:] for likelihoods in seen.values()]
        rows = math.ceil(side / 16)
        assert latents[0] == (rows, 2)
        # None where there are no latents.
        assert latents[1:] == [] or latents[1:] == [(math.ceil(rows / 4), 1)]
        assert len(latents) == (1 if name.startswith(FACTORIZED) else 2)


def record_likelihoods(codec, *images):
    """Those of each picture, as CompressAI's model gives them."""
    seen = []
    hook = codec.model.register_forward_hook(lambda *args: seen.append(args[2]["likelihoods"]))
    with torch.no_grad():
        for image in images:
            codec([image])
    hook.remove()
    return seen


class Cropped(nn.Module):
    """A hyper-synthesis whose output is as large as latents (h, w)."""

    def __init__(self, h_s, h, w):
        super().__init__()
        self.h_s, self.h, self.w = h_s, h, w

    def forward(self, z):
        return self.h_s(z)[:, :, : self.h, : self.w]


def test_hyper_syntheses_are_left_as_they_were():
    codec = make("mbt2018-mean").eval()
    with torch.no_grad():
        codec([picture(50, 70)])
        assert codec.model.h_s(torch.zeros(1, *codec.widths[:1], 2, 2)).shape[2:] == (8, 8)
    # Also by what fails on the way.
    with pytest.raises(RuntimeError):
        codec.code(torch.zeros(1, 4, 16, 16))
    assert not codec.model.h_s._forward_hooks


@pytest.mark.parametrize("name", LEARNED)
def test_evaluation_equals_compressais_forward(name):
    codec = make(name).eval()
    image = picture(82, 70)
    reference = MODELS[name](*codec.widths)
    reference.load_state_dict(codec.model.state_dict())
    reference.eval()
    size = (96, 80)
    if hasattr(reference, "h_s"):
        reference.h_s = Cropped(reference.h_s, 6, 5)
    padded = F.pad(image[None], (0, size[1] - 70, 0, size[0] - 82), mode="replicate")
    with torch.no_grad():
        expected = reference(padded)
        coded = codec([image])
    bits = sum(-p.log2().sum() for p in expected["likelihoods"].values())
    assert bits > 500
    torch.testing.assert_close(coded.bits[0], bits, rtol=1e-4, atol=0)
    torch.testing.assert_close(coded.rounded_bits, coded.bits)
    torch.testing.assert_close(
        coded.reconstructions[0],
        expected["x_hat"][0, :, :82, :70].clamp(0, 1),
        rtol=0,
        atol=1e-4,
    )


# ---- Gradients ----


def test_values_out_of_range_get_only_gradients_that_bring_them_back():
    x = torch.tensor([-0.5, -0.5, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.5, 1.5], requires_grad=True)
    upstream = torch.tensor([1.0, -1.0] * 5)
    y = clamp_01(x)
    (gradient,) = torch.autograd.grad(y, x, upstream)
    assert y.tolist() == [0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 1]
    # A step goes against the gradient: a negative one raises a value, a positive one lowers it.
    assert gradient.tolist() == [0, -1, 1, -1, 1, -1, 1, -1, 1, 0]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("name", [FACTORIZED, HYPERPRIOR, "mbt2018-mean", "mbt2018"])
def test_rate_and_reconstruction_train_the_encoder(name, quantization):
    codec = make(name, quantization=quantization)
    coded = codec([picture(64, 64), picture(33, 20)])
    first = next(k for k, _ in codec.named_parameters() if k.startswith("model.g_a"))
    of_bits = gradients(codec, coded.bits.sum())
    coded = codec([picture(64, 64), picture(33, 20)])
    of_pictures = gradients(codec, sum(((r - 0.5) ** 2).sum() for r in coded.reconstructions))
    for found in (of_bits, of_pictures):
        assert first in found
        assert all(g.isfinite().all() for g in found.values())
    assert any(k.startswith("model.g_s") for k in of_pictures)
    assert not any(k.startswith("model.g_s") for k in of_bits)
    if hasattr(codec.model, "h_s"):
        # Side information is not seen by the synthesis transform.
        assert any(k.startswith("model.h_a") for k in of_bits)
        assert any(k.startswith("model.h_s") for k in of_bits)


def test_gradient_reaches_the_picture():
    image = picture().requires_grad_()
    coded = make(trainable=())([image])
    (gradient,) = torch.autograd.grad(coded.reconstructions[0].sum(), image, allow_unused=True)
    # Rounding stops it, which is why a codec in eval mode cannot train its encoder.
    assert gradient is None or not gradient.any()
    coded = make()([image])
    (gradient,) = torch.autograd.grad(coded.reconstructions[0].sum(), image)
    assert gradient.any()


CASES = {
    "noise": {"trainable": BOTH},
    "straight-through": {"trainable": BOTH, "quantization": "straight_through"},
    "rounding": {"trainable": ("decoder",)},
}


@pytest.mark.parametrize("name", [FACTORIZED, HYPERPRIOR, "mbt2018"])
@pytest.mark.parametrize("case", CASES)
def test_quantiles_learn_from_the_auxiliary_loss_alone(case, name):
    codec = make(name, **CASES[case])
    quantiles = "model.entropy_bottleneck.quantiles"
    codec.model.entropy_bottleneck.quantiles.data[:, :, 1] += 0.3
    coded = codec([picture()])
    main = coded.bits.sum() + sum((r**2).sum() for r in coded.reconstructions)
    from_main = gradients(codec, main)
    assert quantiles not in from_main
    assert "model.entropy_bottleneck.matrices.0" in from_main
    assert set(gradients(codec, codec.auxiliary_loss())) == {quantiles}


def test_no_auxiliary_loss_where_the_entropy_model_is_frozen():
    for parts in [(), ("encoder",), ("synthesis",)]:
        assert make(trainable=parts).auxiliary_loss() is None


# ---- Freezing ----

PREFIXES = {
    (): (),
    ("encoder",): ("g_a.", "h_a."),
    ("synthesis",): ("g_s.",),
    ("decoder",): ("g_s.", "h_s.", "entropy_", "context_prediction."),
    BOTH: ("",),
}


@pytest.mark.parametrize("parts", PREFIXES, ids="+".join)
@pytest.mark.parametrize("name", LEARNED)
def test_exactly_the_named_parts_train(name, parts):
    codec = make(name, trainable=BOTH)
    codec.set_trainable(parts)
    trainable = {k for k, p in codec.model.named_parameters() if p.requires_grad}
    expected = {k for k, _ in codec.model.named_parameters() if k.startswith(PREFIXES[parts])}
    assert trainable == expected
    assert codec.trains_encoder == ("encoder" in parts)
    assert codec.trains_entropy_model == ("decoder" in parts)


@pytest.mark.parametrize("name", LEARNED)
def test_encoder_and_decoder_are_everything_and_share_nothing(name):
    codec = make(name)
    parts = {
        part: {id(p) for module in modules for p in module.parameters()}
        for part, modules in codec.parts().items()
    }
    assert parts["encoder"] | parts["decoder"] == {id(p) for p in codec.parameters()}
    assert not parts["encoder"] & parts["decoder"]
    assert set() < parts["synthesis"] < parts["decoder"]


def test_unknown_part_is_refused():
    with pytest.raises(KeyError, match="g_a"):
        make().set_trainable(["g_a"])
    with pytest.raises(KeyError, match="encoder"):
        IdentityCodec().set_trainable(["encoder"])


@pytest.mark.parametrize("parts", [(), ("decoder",), ("synthesis",)], ids="+".join)
def test_codec_whose_encoder_is_frozen_rounds_even_in_training(parts):
    codec = make(trainable=parts)
    reference = make(trainable=parts).eval()
    before = state(codec)
    first, second, expected = (c([picture()]) for c in (codec, codec, reference))
    assert torch.equal(first.bits, second.bits)
    assert torch.equal(first.reconstructions[0], second.reconstructions[0])
    assert torch.equal(first.bits, expected.bits)
    assert torch.equal(first.reconstructions[0], expected.reconstructions[0])
    assert_same_state(codec, before)


def test_noise_differs_between_passes():
    codec = make()
    first, second = (codec([picture()]) for _ in range(2))
    assert first.bits != second.bits
    assert not torch.equal(first.reconstructions[0], second.reconstructions[0])


def test_evaluation_ends_noise_and_training_brings_it_back():
    codec = make()
    assert not codec.eval().training
    assert torch.equal(codec([picture()]).bits, codec([picture()]).bits)
    assert codec.train().model.entropy_bottleneck.training
    assert not codec.train(False).model.entropy_bottleneck.training


@pytest.mark.parametrize("name", LEARNED)
def test_no_strided_1x1_convolution_sees_channels_last(name):
    # The gradient of one corrupts memory in that layout (torch 2.14.1, oneDNN, AVX-512).
    codec = make(name)
    seen = []
    for layer in codec.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1):
            layer.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    coded = codec([picture(128, 192)])
    assert not any(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert len(seen) == (3 if name.startswith("cheng2020") else 0)
    (coded.bits.sum() + coded.reconstructions[0].sum()).backward()


@pytest.mark.parametrize("name", ["mbt2018", "cheng2020-anchor"])
def test_masked_weights_stay_as_they_are(name):
    codec = make(name, trainable=()).eval()
    before = state(codec)
    codec([picture()])
    assert_same_state(codec, before)
    # CompressAI saves what its optimizer wrote under the mask; its forward wipes it in place.
    (masked,) = (k for k, m in codec.named_modules() if isinstance(m, MaskedConv2d))
    weights = state(codec)
    weights[f"{masked}.weight"] = torch.ones_like(weights[f"{masked}.weight"])
    codec.load_state_dict(weights)
    before = state(codec)
    assert before[f"{masked}.weight"].mean() == before[f"{masked}.mask"].mean()
    codec([picture()])
    assert_same_state(codec, before)


def test_copy_is_independent():
    codec = make()
    twin = copy.deepcopy(codec)
    for original, copied in zip(codec.modules(), twin.modules(), strict=True):
        if isinstance(original, EntropyModel):
            assert copied.quantize.__self__ is copied.forward.__self__ is copied
            assert original.quantize.__self__ is original
    expected = codec.eval()([picture()])
    assert torch.equal(twin.eval()([picture()]).bits, expected.bits)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(twin([picture()]).bits, expected.bits)
    assert torch.equal(codec([picture()]).bits, expected.bits)


def test_loading_into_a_copy_leaves_the_original_alone():
    codec = make()
    codec.refresh_tables()
    before = state(codec)
    twin = copy.deepcopy(codec)
    other = make()
    other.model.entropy_bottleneck.biases[0].data += 3
    other.model.entropy_bottleneck.matrices[0].data -= 1
    other.refresh_tables()
    twin.load_state_dict(other.state_dict())
    assert_same_state(codec, before)
    assert_same_state(twin, other.state_dict())


# ---- Precision ----


@pytest.mark.parametrize("name", [FACTORIZED, HYPERPRIOR, "mbt2018-mean", "mbt2018"])
def test_entropy_models_stay_in_float32_under_autocast(name):
    codec = make(name).eval()
    calls = []
    for module in codec.modules():
        if isinstance(module, EntropyModel):
            module.register_forward_hook(
                lambda module, x, kwargs, y: calls.append((module, x, kwargs, y)), with_kwargs=True
            )
    with torch.no_grad():
        expected = codec([picture()])
        calls.clear()
        with torch.autocast("cpu", torch.bfloat16):
            assert codec.model.g_a(picture()[None]).dtype == torch.bfloat16
            coded = codec([picture()])
        assert len(calls) == (1 if name == FACTORIZED else 2)
        for module, x, kwargs, (outputs, likelihoods) in list(calls):
            assert x[0].dtype == torch.bfloat16
            assert outputs.dtype == likelihoods.dtype == torch.float32
            named = {k: v.float() for k, v in kwargs.items()}
            assert torch.equal(module(*(t.float() for t in x), **named)[1], likelihoods)
    assert coded.bits.dtype == coded.reconstructions[0].dtype == torch.float32
    torch.testing.assert_close(coded.bits, expected.bits, rtol=0.03, atol=0)


def test_training_under_autocast_gives_finite_gradients():
    codec = make()
    with torch.autocast("cpu", torch.bfloat16):
        coded = codec([picture()])
        loss = coded.bits.sum() + coded.reconstructions[0].sum()
    found = gradients(codec, loss)
    assert any(k.startswith("model.g_a") for k in found)
    assert all(g.isfinite().all() for g in found.values())


def test_improbable_symbols_cost_finite_bits():
    codec = make()
    codec.model.g_a[-1].bias.data += 1e4
    coded = codec.eval()([picture()])
    # CompressAI floors likelihoods at 1e-9, 29.9 bits.
    symbols = 12 * 4 * 4 + 8
    assert coded.bits.item() == pytest.approx(symbols * 29.9, rel=0.05)


# ---- No codec at all ----


def test_identity_changes_nothing_and_costs_raw_rgb():
    codec = IdentityCodec()
    images = [picture(5, 7), picture(1, 3)]
    coded = codec(images)
    assert coded.bits.tolist() == coded.rounded_bits.tolist() == [24 * 35, 24 * 3]
    assert all(map(torch.equal, coded.reconstructions, images))
    assert codec.parts() == {}
    assert codec.auxiliary_loss() is None
    assert list(codec.parameters()) == []


# ---- Real bits ----

LARGE = picture(512, 640)


def calibrated(name, shift=0.0):
    """A codec whose entropy model, quantiles apart, has been fitted to latents about ``shift``."""
    codec = make(name, trainable=("decoder",))
    codec.model.g_a[-1].bias.data += shift
    steps = 60
    optimizer = torch.optim.Adam(codec.parameters(), 0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        (codec([picture(256, 256, seed=step)]).bits.sum() / 256**2).backward()
        nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return codec.eval()


@torch.no_grad()
def real_and_estimated_bits(codec, image):
    strings = codec.model.compress(image[None])["strings"]
    return 8 * sum(len(s) for stream in strings for s in stream), codec([image]).bits.item()


@pytest.mark.parametrize("name", [FACTORIZED, HYPERPRIOR])
def test_real_bits_are_the_estimated_ones(name):
    codec = calibrated(name)
    codec.refresh_tables()
    real, estimated = real_and_estimated_bits(codec, LARGE)
    assert estimated > 20000
    # Each of at most two streams is flushed to 32 bits.
    assert abs(real - estimated) < 0.01 * estimated + 64


def test_tables_of_unsolved_quantiles_cost_a_multiple():
    # As if the encoder had moved its latents out of the initial quantiles, -10 and 10.
    codec = calibrated(FACTORIZED, shift=30)
    codec.model.update()
    real, estimated = real_and_estimated_bits(codec, LARGE)
    assert real > 2 * estimated
    quantiles = codec.model.entropy_bottleneck.quantiles.clone()
    codec.refresh_tables()
    assert not torch.equal(codec.model.entropy_bottleneck.quantiles, quantiles)
    assert real_and_estimated_bits(codec, LARGE)[0] < 1.01 * estimated + 64


@pytest.mark.parametrize("parts", [(), ("encoder",), ("synthesis",)], ids="+".join)
def test_tables_of_a_frozen_entropy_model_stay_as_they_are(parts):
    codec = make()
    codec.refresh_tables()
    codec.set_trainable(parts)
    # Any other tables than those that follow from the weights, as after a change of machine.
    codec.model.entropy_bottleneck._quantized_cdf += 1
    codec.model.gaussian_conditional._quantized_cdf += 1
    before = state(codec)
    codec.train().refresh_tables()
    assert_same_state(codec, before)


def test_empty_tables_of_a_frozen_entropy_model_are_filled_and_nothing_else():
    codec = make(trainable=())
    before = state(codec)
    assert before["model.gaussian_conditional._quantized_cdf"].numel() == 0
    codec.refresh_tables()
    after = codec.state_dict()
    filled = {key for key in after if after[key].shape != before[key].shape}
    tables = ("_quantized_cdf", "_cdf_length", "_offset")
    assert filled == {
        *(f"model.{m}.{t}" for m in ("entropy_bottleneck", "gaussian_conditional") for t in tables),
        "model.gaussian_conditional.scale_table",
    }
    assert all(torch.equal(after[key], before[key]) for key in after if key not in filled)
    real, _ = real_and_estimated_bits(codec.eval(), picture())
    assert real > 0


def test_decoding_gives_the_estimated_reconstruction():
    codec = make("mbt2018-mean").eval()
    codec.refresh_tables()
    with torch.no_grad():
        decoded = codec.model.decompress(**codec.model.compress(picture()[None]))["x_hat"][0]
        expected = codec([picture()]).reconstructions[0]
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-4)

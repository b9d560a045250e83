"""What stands in for rounding in training, and how bits are counted."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from torch import nn

from codec_det.codec.learned.quantization import PROXIES, bits_of, set_quantization
from codec_det.codec.table import QUANTIZATIONS
from codec_det.errors import CodecDetError
from tests.test_codec import FACTORIZED, HYPERPRIOR, make, picture


def conditional(kind):
    module = GaussianConditional(None)
    count = set_quantization(nn.ModuleList([module]), kind)
    return module.train(), count


def coded(kind, y, scales, means=None):
    module, count = conditional(kind)
    with count:
        outputs, likelihoods = module(y, scales, means)
        bits, rounded = count.total()
    torch.testing.assert_close(bits, bits_of(likelihoods))
    return outputs, bits, rounded


def exact_bits(y, scales, means=None):
    module, _ = conditional("noise")
    return bits_of(module.eval()(y, scales, means)[1])


def test_every_proxy_has_a_name_for_configs():
    assert tuple(PROXIES) == QUANTIZATIONS


@pytest.mark.parametrize("kind", ["straight_through", "mixed", "threshold"])
def test_values_are_rounded_with_the_gradient_of_the_identity(kind):
    y = torch.tensor([[[[-1.3, 0.2, 0.7, 4.6]]]], requires_grad=True)
    means = torch.tensor([[[[0.25, 0.25, 0.0, 0.0]]]])
    outputs, _, rounded = coded(kind, y, torch.ones_like(y), means)
    torch.testing.assert_close(outputs, torch.tensor([[[[-1.75, 0.25, 1.0, 5.0]]]]))
    outputs.sum().backward()
    assert y.grad.tolist() == [[[[1, 1, 1, 1]]]]
    torch.testing.assert_close(rounded, exact_bits(y, torch.ones_like(y), means))
    assert not rounded.requires_grad


def test_threshold_proxy_charges_what_rounded_latents_cost():
    # As of a codec at low rate: nearly all latents are far below one step, scales at their floor.
    torch.manual_seed(0)
    y = torch.randn(2, 8, 16, 16) * 0.15
    scales = torch.full_like(y, 0.11).requires_grad_()
    _, bits, rounded = coded("threshold", y, scales)
    exact = exact_bits(y, scales)
    torch.testing.assert_close(bits, exact)
    torch.testing.assert_close(rounded, exact.detach())
    wanted = torch.autograd.grad(exact.sum(), scales)[0]
    torch.testing.assert_close(torch.autograd.grad(bits.sum(), scales)[0], wanted)
    _, noisy, _ = coded("noise", y, scales)
    assert noisy.min() > 5 * exact.max()


def test_threshold_proxy_slopes_by_what_crossing_costs_and_only_near_a_threshold():
    y = torch.tensor([[[[-0.6, -0.4, 0.1, 0.4, 0.6, 0.9, 1.4]]]], requires_grad=True)
    scales = torch.full_like(y, 0.5)
    _, bits, _ = coded("threshold", y, scales)
    (slopes,) = torch.autograd.grad(bits.sum(), y)
    zero, one, two = (
        exact_bits(torch.full((1, 1), k), scales[0, 0, :1, :1]).item() for k in (0.0, 1.0, 2.0)
    )
    first, second = 2 * (one - zero), 2 * (two - one)
    expected = torch.tensor([[[[-first, -first, 0, first, first, 0, second]]]])
    torch.testing.assert_close(slopes, expected, rtol=1e-4, atol=1e-4)
    # And a predicted mean is drawn towards the latent.
    y = torch.full((1, 1, 1, 1), 0.6)
    mean = torch.zeros_like(y).requires_grad_()
    _, bits, _ = coded("threshold", y, torch.full_like(y, 0.5), mean)
    bits.sum().backward()
    assert mean.grad.item() < 0


def test_bottleneck_rounds_about_its_medians_which_get_no_gradient():
    torch.manual_seed(0)
    module = EntropyBottleneck(3)
    module.quantiles.data += torch.tensor([0.0, 0.3, -0.4]).reshape(3, 1, 1)
    count = set_quantization(nn.ModuleList([module]), "threshold")
    z = (torch.randn(2, 3, 8, 8) * 3).requires_grad_()
    with count:
        outputs, _ = module.train()(z)
        bits, rounded = count.total()
    expected, likelihoods = module.eval()(z)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(rounded, bits_of(likelihoods))
    gradients = torch.autograd.grad(bits.sum(), [z, module.quantiles], allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


class _Slices(CompressionModel):
    """Codes its latents in two slices, with one entropy model for both."""

    def __init__(self, forgets=False):
        super().__init__()
        self.entropy_bottleneck = EntropyBottleneck(2)
        self.gaussian_conditional = GaussianConditional(None)
        self.forgets = forgets

    def forward(self, x):
        halves = x.chunk(2, 1)
        if not self.forgets:
            self.entropy_bottleneck(halves[0])
        return [self.gaussian_conditional(half, torch.ones_like(half))[0] for half in halves]


@pytest.mark.parametrize("training", [False, True])
def test_all_calls_of_an_entropy_model_are_counted(training):
    torch.manual_seed(0)
    model = _Slices().train(training)
    count = set_quantization(model, "straight_through")
    x = torch.randn(3, 4, 8, 8) * 2
    with count:
        model(x)
        bits, rounded = count.total()
    model.eval()
    alone = [bits_of(model.entropy_bottleneck(x[:, :2])[1])]
    alone += [bits_of(model.gaussian_conditional(h, torch.ones_like(h))[1]) for h in x.chunk(2, 1)]
    torch.testing.assert_close(bits, sum(alone))
    torch.testing.assert_close(rounded, sum(alone))


def test_entropy_model_that_is_never_called_is_named():
    model = _Slices(forgets=True)
    count = set_quantization(model, "noise")
    with count:
        model(torch.randn(1, 4, 8, 8))
        with pytest.raises(CodecDetError, match="never called entropy_bottleneck"):
            count.total()
    with pytest.raises(CodecDetError, match="Linear has no entropy model"):
        set_quantization(nn.Linear(1, 1), "noise")


def test_calls_outside_of_a_count_are_not_kept():
    model = _Slices()
    count = set_quantization(model, "noise")
    model(torch.randn(1, 4, 8, 8))
    with count:
        model(torch.randn(1, 4, 8, 8))
        (bits,) = count.total()[0].tolist()
        model(torch.randn(1, 4, 8, 8))
        assert count.total()[0].item() > 1.5 * bits


@pytest.mark.parametrize("name", [FACTORIZED, HYPERPRIOR, "mbt2018-mean", "mbt2018"])
@pytest.mark.parametrize("kind", ["straight_through", "mixed", "threshold"])
def test_decoder_sees_in_training_what_it_sees_in_evaluation(name, kind):
    codec = make(name, quantization=kind)
    first = codec([picture()])
    evaluated = codec.eval()([picture()])
    torch.testing.assert_close(first.reconstructions, evaluated.reconstructions, rtol=0, atol=1e-4)
    torch.testing.assert_close(first.latents, evaluated.latents, rtol=0, atol=1e-4)
    torch.testing.assert_close(first.rounded_bits, evaluated.bits, rtol=1e-4, atol=0)
    exact = torch.isclose(first.bits, first.rounded_bits, rtol=1e-4).item()
    assert exact == (kind != "mixed")


def test_rounded_bits_in_training_are_those_of_evaluation():
    images = [picture(64, 64), picture(64, 128, seed=1)]
    codec = make(FACTORIZED)
    coded = codec(images)
    assert not coded.rounded_bits.requires_grad
    expected = codec.eval()(images).bits
    torch.testing.assert_close(coded.rounded_bits, expected, rtol=1e-6, atol=0)
    assert not torch.allclose(coded.bits, expected, rtol=1e-5)
    # Behind a hyperprior, noise in the side information changes the scales a little.
    codec = make(HYPERPRIOR)
    coded = codec(images)
    torch.testing.assert_close(coded.rounded_bits, codec.eval()(images).bits, rtol=0.05, atol=0)

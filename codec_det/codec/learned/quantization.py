"""How CompressAI's entropy models quantize, count bits, and in which precision, set per instance.

What differs from CompressAI's own behaviour, each for a reason its training loop does not meet:

- stand-ins for rounding while the encoder trains, beside additive noise: see :data:`PROXIES`;
- bits are counted at every call, so that a model may use an entropy model more than once;
- the medians get no gradient from the main loss (in eval mode it would reach them through
  rounding; the auxiliary loss alone places the quantiles);
- always float32: likelihoods are floored at 1e-9, below what float16 can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from torch import Tensor, nn

from ...errors import CodecDetError

ZONE = 0.25
"""Of the "threshold" proxy: how near a rounding threshold a latent is moved by the rate, in
quantization steps."""


class BitCount:
    """Gathers the bits of all calls of a model's entropy models, while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {m: n for n, m in model.named_modules() if isinstance(m, EntropyModel)}
        self._calls: list[tuple[EntropyModel, Tensor, Tensor]] | None = None

    def __enter__(self) -> BitCount:
        self._calls = []
        return self

    def __exit__(self, *_: object) -> None:
        self._calls = None

    def add(self, module: EntropyModel, likelihoods: Tensor, rounded: Tensor) -> None:
        """Count one call by the likelihoods (b, ...) of its symbols: the proxy's, and rounded."""
        if self._calls is not None:
            self._calls.append((module, bits_of(likelihoods), bits_of(rounded.detach())))

    def total(self) -> tuple[Tensor, Tensor]:
        """Bits (b,) so far: by the differentiable proxy, and of rounded latents.

        Raises:
            CodecDetError: if an entropy model was not called, so that its bits are missing.
        """
        calls = self._calls or []
        missing = set(self._names) - {module for module, *_ in calls}
        if missing:
            raise CodecDetError(
                f"the codec never called {', '.join(sorted(self._names[m] for m in missing))}: its "
                "bits would not be counted. Call the entropy model itself, not its parts, or "
                "remove it"
            )
        return torch.stack([c[1] for c in calls]).sum(0), torch.stack([c[2] for c in calls]).sum(0)


def set_quantization(model: nn.Module, kind: str, *, whole_symbols: bool = False) -> BitCount:
    """Install a proxy of :data:`PROXIES` in every entropy model of ``model``; returns their count.

    Args:
        whole_symbols: means say how likely values are, but values are whole numbers whatever the
            means; else they are whole numbers from the means.

    Raises:
        CodecDetError: if ``model`` has no entropy model.
    """
    count = BitCount(model)
    modules = [m for m in model.modules() if isinstance(m, EntropyModel)]
    if not modules:
        raise CodecDetError(f"{type(model).__name__} has no entropy model: it has no rate")
    for module in modules:
        module.quantize = MethodType(_quantize, module)
        module.forward = MethodType(_forward, module)
        module.proxy = kind
        module.adds_noise = kind == "noise"
        module.count = count
        module.has_whole_symbols = whole_symbols and isinstance(module, GaussianConditional)
    return count


def bits_of(likelihoods: Tensor) -> Tensor:
    """(b, ...) likelihoods of symbols to (b,) bits: the sum of -log2."""
    return -torch.log2(likelihoods.float()).flatten(1).sum(1)


def _quantize(self: EntropyModel, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
    original = type(self).quantize
    means = None if means is None or self.has_whole_symbols else means.detach()
    if mode == "noise" and not self.adds_noise:
        return _straight_through(inputs, original(self, inputs.detach(), "dequantize", means))
    return original(self, inputs, mode, means)


def _forward(
    self: EntropyModel, inputs: Tensor, *args: Tensor | None, **kwargs: Tensor | bool | None
) -> tuple[Tensor, Tensor]:
    inputs, *rest = (_float32(x) for x in (inputs, *args))
    kwargs = {key: _float32(value) for key, value in kwargs.items()}

    def call(x: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        return type(self).forward(self, x, *rest, **(kwargs | {"training": training}))

    with torch.autocast(inputs.device.type, enabled=False):
        if self.training:
            centre = _centre(self, inputs, rest, kwargs)
            outputs, likelihoods, rounded = PROXIES[self.proxy](self, call, inputs, centre)
        else:
            outputs, likelihoods = call(inputs, training=False)
            rounded = likelihoods
        self.count.add(self, likelihoods, rounded)
    return outputs, likelihoods


# Calls an entropy model as CompressAI defined it: latents to outputs and likelihoods.
_Call = Callable[..., tuple[Tensor, Tensor]]


def _noise(
    self: EntropyModel, call: _Call, inputs: Tensor, _: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform noise for rate and decoder (Ballé, Laparra and Simoncelli 2017)."""
    outputs, likelihoods = call(inputs, training=True)
    with torch.no_grad():
        return outputs, likelihoods, call(inputs, training=False)[1]


def _rounding(
    self: EntropyModel, call: _Call, inputs: Tensor, _: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounded values for both, with the gradient of the identity (Theis et al. 2017)."""
    outputs, likelihoods = call(inputs, training=True)
    return outputs, likelihoods, likelihoods


def _mixed(
    self: EntropyModel, call: _Call, inputs: Tensor, _: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise for the rate, rounded values for what decodes (Minnen and Singh 2020)."""
    self.adds_noise = True
    _, likelihoods = call(inputs, training=True)
    self.adds_noise = False
    with torch.no_grad():
        values, rounded = call(inputs, training=False)
    return _straight_through(inputs, values), likelihoods, rounded


def _threshold(
    self: EntropyModel, call: _Call, inputs: Tensor, centre: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounded values for both; the rate follows a latent where rounding could go either way.

    Its value is exact, and so is its gradient to scales: uniform noise charges a latent whose scale
    is at its floor 0.1 to 0.2 bits that are never spent. Latents within :data:`ZONE` of a threshold
    get the slope of what crossing it costs, others none, where straight-through rounding takes the
    derivative of a likelihood that no rounded latent moves along.
    """
    position = inputs - centre
    symbol = position.detach().floor()
    low = symbol + (centre.detach() if isinstance(centre, Tensor) else centre)
    (_, below), (_, above) = call(low, training=False), call(low + 1, training=False)
    beyond = position - symbol - 0.5
    is_above = beyond.detach() > 0
    rounded = torch.where(is_above, above, below)
    share = (beyond / (2 * ZONE)).clamp(-0.5, 0.5)
    cost = (above.detach() / below.detach()).log()
    likelihoods = rounded * torch.exp((share - share.detach()) * cost)
    return _straight_through(inputs, low + is_above), likelihoods, rounded


PROXIES: dict[str, Any] = {
    "noise": _noise,
    "straight_through": _rounding,
    "mixed": _mixed,
    "threshold": _threshold,
}
"""Stand-ins for rounding while the encoder trains, by the names that a config uses."""


def _float32(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) else x


def _straight_through(inputs: Tensor, values: Tensor) -> Tensor:
    """``values``, with the gradient of ``inputs``."""
    return inputs + (values - inputs).detach()


def _centre(
    self: EntropyModel, inputs: Tensor, rest: list[Tensor], kwargs: dict[str, Any]
) -> Tensor | float:
    """What is subtracted before rounding: medians, or predicted means."""
    if isinstance(self, EntropyBottleneck):
        medians = self._get_medians().detach()
        return medians.reshape(1, -1, *[1] * (inputs.dim() - 2))
    if type(self) is GaussianConditional and not self.has_whole_symbols:
        means = kwargs.get("means", rest[1] if len(rest) > 1 else None)
        return 0.0 if means is None else means
    return 0.0

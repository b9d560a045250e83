"""The entropy model of a trained codec in integers, made once, when a model is deployed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from compressai.entropy_models import EntropyModel as CompressAIEntropyModel
from compressai.models import CompressionModel, MeanScaleHyperprior, ScaleHyperprior
from torch import nn

from ...bitstream.ans import Tables
from ...bitstream.entropy import EntropyModel
from ...bitstream.expected import DEFAULT, Expected
from ...bitstream.fixed_point import EXACT, SLOPE_BITS, FixedPointTransform, Layer
from ...bitstream.hyperprior import Hyperprior
from ...bitstream.prediction import Prediction
from ...errors import WeightsError
from ..table import find_codec, learned_codecs
from .prediction import FramePrediction

# Fractional bits of weights and activations, best first: the first whose sums are proven exact is
# taken. On the packaged codecs the first costs 0.003 % rate or less, the last 0.05 %.
PRECISIONS = ((14, 12), (12, 10), (10, 8), (8, 6))
# Fixed-point weights are stored in 32 bits; rounding may add a half.
WEIGHT_LIMIT = 2**31 - 1

Frozen = TypeVar("Frozen")


def freeze_entropy_model(
    name: str, model: CompressionModel, expected: Expected = DEFAULT
) -> EntropyModel:
    """Integer tables and hyper-synthesis of a CompressAI model whose tables are up to date.

    Args:
        name: of the codec, as in a config.
        expected: what files need not say of their pictures.

    Raises:
        WeightsError: if this codec has no exact entropy model, its tables are missing, or its
            weights are not finite.
    """
    entry = find_codec(name)
    if entry.no_files:
        raise WeightsError(
            f"{name} cannot be written to files ({entry.no_files}): choose from "
            f"{', '.join(learned_codecs(files=True))}"
        )
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise WeightsError(f"{name} has weights that are not finite: take an earlier checkpoint")
    bottleneck = model.entropy_bottleneck
    medians = _array(bottleneck.quantiles[:, 0, 1])
    with_hyperprior = isinstance(model, ScaleHyperprior)
    if not with_hyperprior:
        return EntropyModel(
            codec=entry.receiver,
            latent_stride=entry.stride,
            channels=len(medians),
            tables=_tables(bottleneck),
            medians=medians,
            hyperprior=None,
            expected=expected,
        )
    hyperprior = _freeze_hyperprior(name, model)
    channels = model.M
    return EntropyModel(
        codec=entry.receiver,
        latent_stride=entry.stride,
        channels=channels,
        tables=_tables(model.gaussian_conditional),
        medians=np.zeros(channels, np.float32),
        hyperprior=hyperprior,
        expected=expected,
    )


def freeze_prediction(name: str, prediction: FramePrediction, pictures: EntropyModel) -> Prediction:
    """The same of predicted frames.

    Args:
        pictures: of key frames, as :func:`freeze_entropy_model` makes it.

    Raises:
        WeightsError: as that.
    """
    if not all(torch.isfinite(p).all() for p in prediction.parameters()):
        raise WeightsError(f"{name} has weights that are not finite: take an earlier checkpoint")
    tables = _tables(prediction.entropy_bottleneck)
    scales = _scales(prediction)
    # The nearest table: where next to nothing is left to code, the next larger one would cost
    # several percent.
    between = np.sqrt(scales[:-1] * scales[1:])

    def at(weight_bits: int, activation_bits: int) -> Prediction | None:
        hyperprior = _hyperprior_at(prediction, tables, between, weight_bits, activation_bits)
        network = _freeze_transform(prediction.network, weight_bits, activation_bits)
        try:
            return Prediction(pictures, hyperprior, network)
        except WeightsError:
            return None

    exact = nn.ModuleList([prediction.h_s, prediction.network])
    return _best_precision(f"{name}: in the prediction of frames,", exact, at)


def _freeze_hyperprior(name: str, model: ScaleHyperprior) -> Hyperprior:
    tables, scales = _tables(model.entropy_bottleneck), _scales(model)

    def at(weight_bits: int, activation_bits: int) -> Hyperprior | None:
        hyperprior = _hyperprior_at(model, tables, scales[:-1], weight_bits, activation_bits)
        sums = hyperprior.transform.partial_sums(*hyperprior.input_range)
        return hyperprior if max(sums) < EXACT else None

    return _best_precision(f"{name}:", model.h_s, at)


def _scales(model: ScaleHyperprior | FramePrediction) -> np.ndarray:
    """(T,) of the tables, ascending."""
    return _array(model.gaussian_conditional.scale_table).astype(np.float64)


def _hyperprior_at(
    model: ScaleHyperprior | FramePrediction,
    tables: Tables,
    thresholds: np.ndarray,
    weight_bits: int,
    activation_bits: int,
) -> Hyperprior:
    transform = _freeze_transform(model.h_s, weight_bits, activation_bits)
    medians = _array(model.entropy_bottleneck.quantiles[:, 0, 1]).astype(np.float64)
    return Hyperprior(
        tables,
        np.rint(medians * 2**activation_bits).astype(np.int64),
        transform,
        # A whole number is above a real one exactly if it is above its floor.
        np.floor(thresholds * 2**transform.output_bits).astype(np.int64),
        isinstance(model, MeanScaleHyperprior) or getattr(model, "has_means", False),
    )


def _best_precision(
    who: str, module: nn.Module, freeze_at: Callable[[int, int], Frozen | None]
) -> Frozen:
    """The first of :data:`PRECISIONS` at which sums are proven exact.

    Raises:
        WeightsError: if there is none.
    """
    largest = max(float(w.detach().abs().max()) for w in module.parameters() if w.dim() == 4)
    for weight_bits, activation_bits in PRECISIONS:
        if largest * 2**weight_bits < WEIGHT_LIMIT:
            frozen = freeze_at(weight_bits, activation_bits)
            if frozen is not None:
                return frozen
    raise WeightsError(
        f"{who} no precision makes sums in the hyper-synthesis exact: its weights (up to "
        f"{largest:.3g}) or the range of its hyper-latents are too large; train with "
        "SOLVER.WEIGHT_DECAY, or take an earlier checkpoint"
    )


def _freeze_transform(
    h_s: nn.Sequential, weight_bits: int, activation_bits: int
) -> FixedPointTransform:
    layers: list[Layer] = []
    for module in h_s:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            weight = _array(module.weight).astype(np.float64)
            upsampling = 1
            if isinstance(module, nn.ConvTranspose2d):
                weight, upsampling = weight.swapaxes(0, 1), module.stride[0]
            bias = np.zeros(len(weight))
            if module.bias is not None:
                bias = _array(module.bias).astype(np.float64)
            layers.append(
                Layer(
                    np.rint(weight * 2**weight_bits).astype(np.int32),
                    np.rint(bias * 2 ** (weight_bits + activation_bits)).astype(np.int64),
                    upsampling,
                    1 << SLOPE_BITS,
                )
            )
        elif isinstance(module, (nn.ReLU, nn.LeakyReLU)):
            slope = getattr(module, "negative_slope", 0.0)
            layers[-1] = layers[-1]._replace(slope=round(slope * 2**SLOPE_BITS))
        else:
            raise TypeError(f"no fixed-point form of {type(module).__name__} is known")
    return FixedPointTransform(layers, weight_bits, activation_bits)


def _tables(module: CompressAIEntropyModel) -> Tables:
    cdf, lengths, offsets = (
        _array(getattr(module, name)) for name in ("_quantized_cdf", "_cdf_length", "_offset")
    )
    if not cdf.size:
        raise WeightsError("the codec has no CDF tables: export a checkpoint that has them")
    rows = [row[:length] for row, length in zip(cdf, lengths, strict=True)]
    try:
        return Tables(np.concatenate(rows), lengths, offsets)
    except ValueError as error:
        raise WeightsError(f"the codec's CDF tables are damaged: {error}") from None


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()

"""One optimizer for the whole chain: parameter groups, the codec's gradient bound, divergence."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils.events import get_event_storage
from torch import nn

from ..errors import ConfigError
from ..meta_arch import CodecDetector


def parameter_groups(cfg: CfgNode, model: CodecDetector) -> list[dict[str, Any]]:
    """Groups of trainable parameters: detector, bridge, codec (no weight decay), quantiles, gains.

    CompressAI's own ``net_aux`` optimizers assert that every parameter trains, which no regime that
    freezes something meets.
    """
    solver = cfg.SOLVER
    detector = get_default_optimizer_params(
        model.detector,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    codec = get_default_optimizer_params(
        model.codec,
        base_lr=1.0,
        weight_decay=0.0,
        overrides={"quantiles": {"lr": solver.QUANTILES_LR}, "log_gains": {"lr": solver.GAINS_LR}},
        lr_factor_func=lambda name: solver.GATE_LR if ".gate." in name else solver.CODEC_LR,
    )
    bridge = []
    if model.bridge is not None:
        bridge = get_default_optimizer_params(
            model.bridge, base_lr=solver.BRIDGE_LR, weight_decay=solver.WEIGHT_DECAY
        )
    return detector + bridge + codec


def build_optimizer(cfg: CfgNode, model: CodecDetector) -> torch.optim.Optimizer:
    """Build ``SOLVER.OPTIMIZER`` over what the regime trains.

    Before every step the L2 norm of the codec's gradient is limited to ``SOLVER.CODEC_CLIP_NORM``
    (as CompressAI trains) and logged as "codec_grad_norm", and a gradient that is not finite stops
    training, so that no weight is spoilt.

    Raises:
        ConfigError: if nothing trains.
    """
    groups = parameter_groups(cfg, model)
    if not groups:
        raise ConfigError(
            "nothing trains: MODEL.CODEC.TRAINABLE is empty and MODEL.DETECTOR.TRAINABLE is False; "
            "use --eval-only, or choose a regime that trains, such as configs/jft_R50.yaml"
        )
    if cfg.SOLVER.OPTIMIZER == "SGD":
        optimizer: torch.optim.Optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)(
            groups,
            lr=cfg.SOLVER.BASE_LR,
            momentum=cfg.SOLVER.MOMENTUM,
            nesterov=cfg.SOLVER.NESTEROV,
        )
    else:
        optimizer = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(
            groups, lr=cfg.SOLVER.BASE_LR
        )
    guard = _GradientGuard(model, cfg.SOLVER.CODEC_CLIP_NORM)
    optimizer.register_step_pre_hook(lambda *_: guard())
    return optimizer


class _GradientGuard:
    """Limits and logs the codec's gradient norm, and refuses gradients that are not finite."""

    def __init__(self, model: CodecDetector, max_norm: float) -> None:
        self._codec = [
            p
            for name, p in model.codec.named_parameters()
            if p.requires_grad and not name.endswith("quantiles")
        ]
        own = (model.detector, *([] if model.bridge is None else [model.bridge]))
        self._detector = [p for m in own for p in m.parameters() if p.requires_grad]
        self._max_norm = max_norm or float("inf")

    def __call__(self) -> None:
        if self._codec:
            norm = nn.utils.clip_grad_norm_(self._codec, self._max_norm)
            get_event_storage().put_scalar("codec_grad_norm", _finite(norm, "codec"))
        if self._detector:
            gradients = [p.grad for p in self._detector if p.grad is not None]
            _finite(nn.utils.get_total_norm(gradients), "detector")


def _finite(norm: torch.Tensor, part: str) -> float:
    value = norm.item()
    if not value < float("inf"):
        raise FloatingPointError(f"the gradient of the {part} is not finite (norm {value})")
    return value

"""What transforms cost: multiply-accumulate operations per pixel, and parameters."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Of the picture that operations are counted for; a multiple of any codec's strides.
_SIDE = 256
_INPUTS = {"g_a": None, "h_a": "g_a", "h_s": "h_a", "g_s": "g_a"}


def complexity(model: nn.Module) -> dict[str, dict[str, float]]:
    """By transform: "kmac_per_pixel" of the coded picture, in thousands, and "parameters".

    All products count, also those of GDN, which many published figures leave out. h_s is counted as
    the float transform; files have it in fixed point, of the same size.

    Args:
        model: a CompressAI model; transforms of others that take other inputs are not counted.
    """
    found: dict[str, dict[str, float]] = {}
    maps: dict[str | None, Any] = {None: torch.empty(1, 3, _SIDE, _SIDE, device="meta")}
    for name, source in _INPUTS.items():
        if not hasattr(model, name):
            continue
        # On no device nothing is computed, and fast paths that a counter cannot see do not apply.
        part = deepcopy(getattr(model, name)).to("meta").eval()
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                maps[name] = part(maps[source])
        except (KeyError, RuntimeError, TypeError):
            continue
        found[name] = {
            # An operation is a multiplication or an addition.
            "kmac_per_pixel": counter.get_total_flops() / 2 / _SIDE**2 / 1000,
            "parameters": sum(p.numel() for p in part.parameters()),
        }
    return found

"""Activation checkpointing of transforms: less memory in training, for a second forward pass.

The first and last layers of a transform work at half the picture's size, on all channels, and make
most of what a codec keeps in memory for the backward pass. With checkpointing (Chen et al.,
"Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174) a transform keeps its input
alone. The rest is computed again when the backward pass comes to it: by then the detector, and of
two transforms the later, have freed theirs.
"""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute_activations(transform: nn.Sequential) -> None:
    """Make ``transform`` keep its input alone, wherever gradients are computed.

    Its weights keep their names, and its results and gradients their values: nothing in a
    transform is drawn at random, or depends on how often it is computed.
    """
    transform.forward = MethodType(_forward, transform)  # type: ignore[method-assign]


def _forward(self: nn.Sequential, x: Tensor) -> Tensor:
    plain = MethodType(type(self).forward, self)
    trains = x.requires_grad or any(p.requires_grad for p in self.parameters())
    if not (trains and torch.is_grad_enabled()):
        # Nothing would be kept anyway, and exporters could not trace it.
        return plain(x)
    return checkpoint(plain, x, use_reentrant=False, preserve_rng_state=False)

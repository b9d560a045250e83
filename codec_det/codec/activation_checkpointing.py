"""Activation checkpointing of transforms: less memory in training, for a second forward pass.

The first and last layers of a transform work at half the picture's size, on all channels, and make
most of what a training step keeps in memory for its backward pass. With checkpointing (Chen et al.,
"Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174), only the inputs of stages are
kept; what lies between is computed again, stage by stage, when the backward pass comes to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType

import torch
from compressai.layers import GDN
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_stages(transform: nn.Sequential) -> None:
    """Make ``transform`` keep the inputs of its stages alone, wherever gradients are computed.

    Its weights keep their names, and its results and gradients their values: nothing in a
    transform is drawn at random, or depends on how often it is computed.
    """
    transform.forward = MethodType(_forward, transform)  # type: ignore[method-assign]


def stages(transform: nn.Sequential) -> Iterator[nn.Sequential]:
    """The layers of ``transform``, each GDN in one stage with the convolution beside it.

    Between the two lies a tensor as large as the stage's own input or output, which need not be
    kept either.
    """
    layers = list(transform)
    while layers:
        size = 2 if len(layers) > 1 and isinstance(layers[1], GDN) else 1
        yield nn.Sequential(*layers[:size])
        del layers[:size]


def _forward(self: nn.Sequential, x: Tensor) -> Tensor:
    trains = x.requires_grad or any(p.requires_grad for p in self.parameters())
    if not (trains and torch.is_grad_enabled()):
        # Nothing would be kept anyway, and exporters could not trace it.
        return type(self).forward(self, x)
    for stage in stages(self):
        x = checkpoint(stage, x, use_reentrant=False, preserve_rng_state=False)
    return x

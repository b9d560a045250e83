"""Predicted frames: an entropy model that knows the decoded latents of the two frames before.

.. code-block:: none

    y - ŷ' ─► h_a ─► z ─► Q ─► ẑ ─► h_s ─► about: scales (means) of y - ŷ'
                                             │
    ŷ', ŷ'' ─────────────────────────────────┴─► network ─► corrections, gate
                                                              │
    scales of y, change = gate · ŷ' + corrected means - ŷ' ◄──┘
    means of y = ŷ' + Q(change)

ŷ' are latents of the frame before, as decoders have them, and ŷ'' of the frame before that, of
which the network sees where things go. Nothing is searched: where nothing moves,
the mean is what was there, and the scale is next to nothing. Where something does, the gate, from 0
to 1, lets go of it. A mean is a whole number of steps from what was there, so that a latent has the
values that it may have in key frames, zero among them: with other means all would stray from those
by up to half a step, frame by frame, and nothing would bring them back.

Shape glossary: as in :mod:`codec_det.bitstream.entropy`, b frames at once. "Before" are latents
(b, 2M, h, w) of the two frames before, the last first; of a key frame, its own twice.
"""

from __future__ import annotations

import torch
from compressai.models import CompressionModel, MeanScaleHyperprior, ScaleHyperprior
from torch import Tensor, nn

from ...bitstream.frame_encoder import DEAD_ZONE
from ...bitstream.prediction import FRAMES, LIMIT
from ..base import clamp_01


class FramePrediction(CompressionModel):
    """Scales and means of predicted frames.

    With the weights of a picture codec's hyperprior, and before it is trained, it codes what has
    changed since the frame before as that codec codes pictures.

    Args:
        hyperprior: a model of the architecture of key frames, whose hyperprior it takes.
    """

    def __init__(self, hyperprior: ScaleHyperprior) -> None:
        super().__init__()
        # The mean-scale codec's hyper-analysis keeps the sign that the scale hyperprior's drops.
        self.has_means = isinstance(hyperprior, MeanScaleHyperprior)
        self.h_a, self.h_s = hyperprior.h_a, hyperprior.h_s
        self.entropy_bottleneck = hyperprior.entropy_bottleneck
        self.gaussian_conditional = hyperprior.gaussian_conditional
        self.network = _network(hyperprior.N, hyperprior.M, 1 + self.has_means)

    def forward(self, y: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Code frames.

        Args:
            y: (b, M, h, w), unrounded.
            before: (b, 2M, h, w), decoded.

        Returns:
            Latents (b, M, h, w) as the synthesis transform takes them, in training by the proxy for
            rounding; and what is before the next frames, rounded, with a gradient.
        """
        previous = before[:, : y.shape[1]]
        z_hat, _ = self.entropy_bottleneck(self.hyper_analysis(y, previous))
        scales, expected = self.scales_and_means(z_hat, before)
        means = whole_steps(expected, previous)
        # Straight through: what trains the encoder is the latents' own gradient.
        y = y + (towards(y, means) - y).detach()
        # Trained by what is expected, to the fraction: means that jump have no slope.
        fraction = expected - means if self.training else None
        steps, _ = self.gaussian_conditional(y - means, scales, means=fraction)
        return means + steps, torch.cat([rounded(y, means), previous], 1)

    def hyper_analysis(self, y: Tensor, previous: Tensor) -> Tensor:
        """(b, N, h', w'), unrounded."""
        change = y - previous
        return self.h_a(change if self.has_means else change.abs())

    def scales_and_means(self, z_hat: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Of latents, before :func:`whole_steps`, (b, M, h, w) each.

        Args:
            z_hat: (b, N, h', w').
            before: (b, 2M, h, w), decoded.
        """
        # What :class:`codec_det.bitstream.prediction.Prediction` does in integers.
        coarse = self.h_s(z_hat)[..., : before.shape[-2], : before.shape[-1]]
        seen = before.clamp(-LIMIT, LIMIT)
        fine = self.network(torch.cat([coarse.clamp(-LIMIT, LIMIT), seen], 1))
        scales, means, gate = fine.chunk(3, 1)
        of_change = coarse.chunk(1 + self.has_means, 1)
        means = means + clamp_01(gate) * seen.chunk(2, 1)[0]
        return scales + of_change[0], sum(of_change[1:], means)


def whole_steps(means: Tensor, previous: Tensor) -> Tensor:
    """Means a whole number of steps from what was there, without a gradient."""
    return (previous + (means - previous.clamp(-LIMIT, LIMIT)).round()).detach()


def towards(y: Tensor, means: Tensor) -> Tensor:
    """Latents moved by :data:`DEAD_ZONE` towards their means."""
    rest = y - means
    return means + rest.sign() * (rest.abs() - DEAD_ZONE).clamp(min=0)


def rounded(y: Tensor, means: Tensor | float) -> Tensor:
    """Latents as they are decoded, with the gradient of ``y``."""
    return y + (torch.round(y - means) + means - y).detach()


def _network(hidden: int, latents: int, of_change: int) -> nn.Sequential:
    """Before training, it corrects nothing and keeps the gate open.

    Args:
        of_change: what the hyper-synthesis gives per latent.
    """
    last = nn.Conv2d(2 * hidden, 3 * latents, 1)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    nn.init.ones_(last.bias[2 * latents :])
    return nn.Sequential(
        nn.Conv2d((of_change + FRAMES) * latents, 2 * hidden, 3, padding=1),
        nn.LeakyReLU(),
        nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1),
        nn.LeakyReLU(),
        last,
    )

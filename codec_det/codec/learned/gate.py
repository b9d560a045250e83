"""An analysis transform that leaves out what a detector does not look at.

.. code-block:: none

    x ─► g_a ─► y ───────────────────────────────────────► · ─► y
                └► y / (1 + |y|) ─► 3x3 ─► 3x3 ─► 1x1 ─► 1 + · ─► gates, from 0 to 1

Latents whose gate is 0 cost next to nothing. Only the encoder knows of gates: files are those of
the codec without them, for its receivers. All gates are open at first, and pictures then coded as
ever.

A transform that trains can learn to leave out, too. But it has to learn that for each of its
patterns; a gate sees what they make together, and learns within a few hundred iterations what trees
are.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import clamp_01

WIDTH = 64


class GatedAnalysis(nn.Module):
    """An analysis transform, and gates of its latents.

    Args:
        transform: pictures (b, 3, H, W) to latents (b, m, h, w).
        m: channels of the latents.

    Attributes:
        transform: that.
        gate: normalized latents (b, m, h, w) to what is added to open gates.
    """

    def __init__(self, transform: nn.Module, m: int) -> None:
        super().__init__()
        self.transform = transform
        last = nn.Conv2d(WIDTH, m, 1)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.gate = nn.Sequential(
            nn.Conv2d(m, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, H, W), RGB in [0, 1], to latents."""
        y = self.transform(x).float()
        return y * self.gates(y)

    def gates(self, y: Tensor) -> Tensor:
        """Of latents of the transform, (b, m, h, w) to the same."""
        gates = 1 + self.gate(F.softsign(y)).float()
        # A gate that is shut, or wide open, can move again.
        return clamp_01(gates) if self.training else gates.clamp(0, 1)

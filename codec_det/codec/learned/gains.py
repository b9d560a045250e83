"""Variable rate: every channel of the latents is scaled by a gain before it is quantized, and back
before synthesis (Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate
adaptation", arXiv 2003.02014).

.. code-block:: none

    x ─► g_a ─► y ─► · gain ─► h_a, Q, entropy model ─► y_hat ─► · inverse gain ─► g_s ─► x_hat

Small gains are coarse quantization. What is between the two knows of no levels: hyper-latents tell
of the gained latents whatever is to be known of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from compressai.models import CompressionModel
from torch import Tensor, nn


class Gains(nn.Module):
    """Gains of all levels, all 1 at first.

    Args:
        levels: 2 or more.
        channels: M, of the latents.
    """

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.log_gains = nn.Parameter(torch.zeros(levels, channels))

    def forward(self, levels: Tensor) -> Tensor:
        """Gains (b, M, 1, 1) at levels (b,) from 0 to one less than there are.

        Between two levels, they are interpolated geometrically.
        """
        below = levels.floor().long().clamp(0, len(self.log_gains) - 2)
        share = (levels - below).unsqueeze(1)
        log = torch.lerp(self.log_gains[below], self.log_gains[below + 1], share)
        return log.exp()[:, :, None, None]

    def as_array(self) -> np.ndarray:
        """Logarithms of all gains (levels, M)."""
        return self.log_gains.detach().cpu().numpy()


@contextmanager
def gained(model: CompressionModel, gain: Tensor, inverse: Tensor) -> Iterator[None]:
    """Within it, what g_a gives, and what g_s takes, is multiplied by gains (b, M, 1, 1)."""
    before = model.g_a.register_forward_hook(lambda g_a, x, y: y * gain)
    # Before all others: whoever looks at what g_s takes is to see that.
    after = model.g_s.register_forward_pre_hook(
        lambda g_s, inputs: (inputs[0] * inverse,), prepend=True
    )
    with before, after:
        yield

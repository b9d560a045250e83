"""Reach a given rate: the weight of the rate in the loss is adapted while training."""

from __future__ import annotations

import math
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..meta_arch import CodecDetector


class TargetRate(HookBase):
    """Adapts a model's β so that training ends near a target rate.

    A proportional-integral controller on log β, driven by the log ratio of the measured to the
    wanted rate: comparing regimes needs equal rates, and which β gives which rate depends on the
    regime. The measured rate is that of rounded latents, which is what will be coded; the noisy
    proxy in the loss differs from it by several percent at low rates.

    The wanted rate goes from that of the first batch to the target in the first part of training,
    by equal factors. Asked for a third of its rate at once, a codec is ruined: β grew to a hundred
    times what the target needs, and 33 dB became 22 dB in 40 iterations.

    The integral part is scaled to the length of training, as the codec needs time to follow: in one
    horizon of iterations a rate that is off by a factor e changes β by a factor e.

    Args:
        model: its ``beta`` is the starting point and is set after every iteration.
        target_bpp: bits per pixel.
        max_iter: length of training in iterations.
    """

    # Of training, until the target is wanted.
    APPROACH = 0.4
    # Of training; a shorter one reacts to noise, a longer one ends before it has settled.
    HORIZON = 0.05
    # Damps the integral part: the codec follows β late, and without it both would swing.
    PROPORTIONAL = 4.0

    def __init__(self, model: CodecDetector, target_bpp: float, max_iter: int) -> None:
        self._model = model
        self._target = math.log(target_bpp)
        self._approach = self.APPROACH * max_iter
        self._horizon = max(self.HORIZON * max_iter, 10.0)
        self._integral = math.log(model.beta)
        self._log_rate: float | None = None
        # Log of the first batch's rate over the target, and the batches since.
        self._start = 0.0
        self._steps = 0

    def before_train(self) -> None:
        # On resume the state was loaded after the model was built.
        self._model.beta = self._beta()

    def after_step(self) -> None:
        assert self._model.batch_rate is not None, "an iteration has just ended"
        bits, pixels = self._model.batch_rate
        totals = comm.all_gather((bits.item(), pixels))
        rate = sum(b for b, _ in totals) / sum(p for _, p in totals)
        self._update(math.log(rate))
        self._model.beta = self._beta()

    def state_dict(self) -> dict[str, float | None]:
        return {
            "integral": self._integral,
            "log_rate": self._log_rate,
            "start": self._start,
            "steps": self._steps,
            "beta": self._model.beta,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._integral, self._log_rate = state["integral"], state["log_rate"]
        # Older checkpoints wanted the target at once.
        self._start, self._steps = state.get("start", 0.0), state.get("steps", 0)

    def _update(self, log_rate: float) -> None:
        if self._log_rate is None:
            self._log_rate, self._start = log_rate, log_rate - self._target
        self._steps += 1
        # Batches differ in content; the running mean spans about 5 of them.
        self._log_rate += 0.2 * (log_rate - self._log_rate)
        self._integral += self._excess() / self._horizon

    def _excess(self) -> float:
        """Log of the rate over the one that is wanted by now."""
        if self._log_rate is None:
            return 0.0
        left = max(0.0, 1 - self._steps / self._approach)
        return self._log_rate - self._target - self._start * left

    def _beta(self) -> float:
        return math.exp(self._integral + self.PROPORTIONAL * self._excess())

"""Reach given rates: the weights of the rate in the loss are adapted while training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..meta_arch import CodecDetector


class TargetRate(HookBase):
    """Adapts a model's β, one for each level, so that training ends near target rates.

    Args:
        model: its ``betas`` are the starting points and are set after every iteration.
        targets: bits per pixel, one for each level.
        max_iter: length of training in iterations.
    """

    def __init__(self, model: CodecDetector, targets: Sequence[float], max_iter: int) -> None:
        self._model = model
        pairs = zip(targets, model.betas, strict=True)
        self._controllers = [_Controller(target, beta, max_iter) for target, beta in pairs]

    def before_train(self) -> None:
        # On resume the state was loaded after the model was built.
        self._set_betas()

    def after_step(self) -> None:
        assert self._model.batch_rate is not None, "an iteration has just ended"
        gathered = comm.all_gather([x.tolist() for x in self._model.batch_rate])
        for level, controller in enumerate(self._controllers):
            bits, pixels = (sum(sums[level] for sums in x) for x in zip(*gathered, strict=True))
            # A small batch may have no picture of a level.
            controller.step(bits / pixels if pixels else None)
        self._set_betas()

    def state_dict(self) -> dict[str, Any]:
        levels = [one.state_dict() for one in self._controllers]
        return {"levels": levels, "betas": list(self._model.betas)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Older checkpoints have that of a fixed rate.
        for one, saved in zip(self._controllers, state.get("levels", [state]), strict=True):
            one.load_state_dict(saved)

    def _set_betas(self) -> None:
        self._model.betas = [one.beta for one in self._controllers]


def adapted_betas(state: dict[str, Any]) -> list[float]:
    """The β that training ended with, from a hook's saved state."""
    return list(state["betas"]) if "betas" in state else [state["beta"]]


class _Controller:
    """Proportional-integral on log β, driven by the log ratio of the measured to the wanted rate.

    Comparing regimes needs equal rates, and which β gives which rate depends on the regime. The
    measured rate is that of rounded latents, which is what will be coded; the noisy proxy in the
    loss differs from it by several percent at low rates.

    The wanted rate goes from that of the first batches to the target in the first part of training,
    by equal factors. Asked for a third of its rate at once, a codec is ruined: β grew to a hundred
    times what the target needs, and 33 dB became 22 dB in 40 iterations. One batch alone will not
    do for a start: of a level, it may have a single clip, whose rate is half or twice the mean.

    The integral part is scaled to the length of training, as the codec needs time to follow: in one
    horizon of iterations a rate that is off by a factor e changes β by a factor e.
    """

    # Of training, until the target is wanted.
    APPROACH = 0.4
    # Of training; a shorter one reacts to noise, a longer one ends before it has settled.
    HORIZON = 0.05
    # Damps the integral part: the codec follows β late, and without it both would swing.
    PROPORTIONAL = 4.0
    # Of the horizon: how many batches, which differ in content, the running mean spans.
    SPAN = 0.5

    def __init__(self, target_bpp: float, beta: float, max_iter: int) -> None:
        self._target = math.log(target_bpp)
        self._approach = self.APPROACH * max_iter
        self._horizon = max(self.HORIZON * max_iter, 10.0)
        self._span = self.SPAN * self._horizon
        self._integral = math.log(beta)
        self._log_rate: float | None = None
        # Log of the mean rate in the first horizon over the target; batches that had a rate.
        self._start = 0.0
        self._batches = 0.0
        self._steps = 0

    @property
    def beta(self) -> float:
        """What β is to be now."""
        return math.exp(self._integral + self.PROPORTIONAL * self._excess())

    def step(self, rate: float | None) -> None:
        """An iteration has ended; its rate is None where it had no such pictures."""
        self._steps += 1
        if rate is None:
            return
        self._batches += 1
        # Of rates, not of their logs: where batches differ much, that would be too low.
        self._log_rate = _log_mean(self._log_rate or 0.0, rate, min(self._batches, self._span))
        if self._batches <= self._horizon:
            first = _log_mean(self._target + self._start, rate, self._batches)
            self._start = first - self._target
        self._integral += self._excess() / self._horizon

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "integral": self._integral,
            "log_rate": self._log_rate,
            "start": self._start,
            "batches": self._batches,
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self._integral, self._log_rate = state["integral"], state["log_rate"]
        # Older checkpoints took the first batch for a start, or wanted the target at once.
        self._batches = state.get("batches", 0.0 if self._log_rate is None else math.inf)
        self._start, self._steps = state.get("start", 0.0), state.get("steps", 0)

    def _excess(self) -> float:
        """Log of the rate over the one that is wanted by now."""
        if self._log_rate is None:
            return 0.0
        left = max(0.0, 1 - self._steps / self._approach)
        return self._log_rate - self._target - self._start * left


def _log_mean(log_mean: float, rate: float, count: float) -> float:
    """Log of the mean of ``count`` rates, of which ``rate`` is the last."""
    mean = math.exp(log_mean)
    return math.log(mean + (rate - mean) / count)

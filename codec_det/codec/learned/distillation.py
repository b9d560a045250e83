"""Distillation: a light encoder learns to give the latents of the full one that it stands in for.

.. code-block:: none

    x ─┬─► full g_a ─► y* ─► full h_a ─► z*     loss: mean (y - y*)² + mean (z - z*)²
       └─► light g_a ─► y ─► h_a ─► z

It needs neither decoder nor detector nor labels. Latents are in quantization steps, so errors of
less than a half are mostly rounded away. They are compared as they are before gains of levels.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from compressai.models import MeanScaleHyperprior
from torch import Tensor, nn

from ...errors import WeightsError

if TYPE_CHECKING:
    from .learned_codec import LearnedCodec

Analysed = tuple[Tensor, Tensor]
"""Padded pictures (b, 3, H, W) and what the light g_a made of them (b, M, h, w)."""


class Teacher:
    """The full encoder that a light one learns from.

    It is no module: it belongs to no checkpoint, and never trains.

    Args:
        student: the light codec.
        full: a codec of the full architecture and the same widths.
        weight: of the distance in the loss.

    Attributes:
        is_loaded: whether it has any but random weights.
    """

    def __init__(self, student: LearnedCodec, full: LearnedCodec, weight: float) -> None:
        self._student = student
        self.weight = weight
        parts = {name: getattr(full.model, name) for name in ("g_a", "h_a")}
        self._encoder = nn.ModuleDict(parts).eval().requires_grad_(False)
        self.is_loaded = False

    def take(self, weights: MutableMapping, prefix: str) -> None:
        """Load the full encoder out of weights of a full codec, whose keys begin with ``prefix``.

        Raises:
            WeightsError: if they do not fit, as those of other widths.
        """
        keys = self._encoder.state_dict()
        own = {key: weights[prefix + key] for key in keys if prefix + key in weights}
        try:
            self._encoder.load_state_dict(own)
        except RuntimeError as error:
            raise WeightsError(
                f"the weights have no encoder that {self._student.name} could learn from "
                f"({str(error).splitlines()[-1].strip()}): give those of a "
                f"{self._student.entry.full}, and set MODEL.CODEC.QUALITY, N and M to its widths"
            ) from None
        self.is_loaded = True

    @contextmanager
    def watch(self) -> Iterator[list[Analysed]]:
        """Within it, what the light g_a takes and gives is gathered."""
        g_a = self._student.model.g_a
        pictures: list[Tensor] = []
        seen: list[Analysed] = []
        # Before hooks of its own, which may move the picture.
        before = g_a.register_forward_pre_hook(lambda _, x: pictures.extend(x), prepend=True)
        after = g_a.register_forward_hook(lambda _, __, y: seen.append((pictures[-1], y)))
        with before, after:
            yield seen

    def distance(self, seen: Sequence[Analysed]) -> Tensor:
        """Mean squared difference of latents and, added to it, of hyper-latents.

        Args:
            seen: of :meth:`watch`.
        """
        self._encoder.to(seen[0][0].device)
        found: list[list[Tensor]] = [[], []]
        for x, y in seen:
            with torch.no_grad():
                wanted = self._encoder["g_a"](x)
                hyper = self._encoder["h_a"](self._input(wanted))
            mine = self._student.model.h_a(self._input(y))
            for errors, a, b in zip(found, (y, mine), (wanted, hyper), strict=True):
                errors.append(F.mse_loss(a.float(), b.float(), reduction="none").flatten())
        latents, hyper_latents = (torch.cat(errors).mean() for errors in found)
        return latents + hyper_latents

    def _input(self, y: Tensor) -> Tensor:
        """What h_a is given of latents."""
        return y if isinstance(self._student.model, MeanScaleHyperprior) else y.abs()

"""Distillation: a light encoder learns to give the latents of the full one that it stands in for.

.. code-block:: none

    x ─┬─► full g_a ─► y*     loss: mean (y - y*)²
       └─► light g_a ─► y

It needs neither decoder nor detector nor labels. Latents are in quantization steps, so errors of
less than a half are mostly rounded away. They are compared as they are before gains of levels. h_a
and gains are the full codec's, and stay so unless something else in the loss trains them.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

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
        self._g_a = full.model.g_a.eval().requires_grad_(False)
        self.is_loaded = False

    def take(self, weights: MutableMapping, prefix: str) -> None:
        """Load the full encoder out of weights of a full codec, whose keys begin with ``prefix``.

        Raises:
            WeightsError: if they do not fit, as those of other widths.
        """
        prefix = f"{prefix}g_a."
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        try:
            self._g_a.load_state_dict(own)
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
        """Mean squared difference of latents.

        Args:
            seen: of :meth:`watch`.
        """
        self._g_a.to(seen[0][0].device)
        errors = []
        for x, y in seen:
            with torch.no_grad():
                wanted = self._g_a(x)
            errors.append(F.mse_loss(y.float(), wanted.float(), reduction="none").flatten())
        return torch.cat(errors).mean()

    def train_alone(self) -> None:
        """Let nothing of the student train but g_a: all else has nothing to learn from here."""
        self._student.requires_grad_(False)
        self._student.model.g_a.requires_grad_(True)

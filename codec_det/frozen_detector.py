"""What of a detector trains, and what stays as it is."""

from __future__ import annotations

import difflib

from torch import nn

from .errors import ConfigError
from .regimes import Regime


def freeze(detector: nn.Module, regime: Regime) -> None:
    """Let exactly those parameters of a detector train that a regime trains.

    Parameters that the detector itself has frozen stay so.

    Raises:
        ConfigError: if the regime names a part that the detector has not.
    """
    names = [name for name, _ in detector.named_modules()]
    for part in regime.detector_parts:
        if part not in names:
            close = difflib.get_close_matches(part, names, n=1, cutoff=0) or names[:1]
            raise ConfigError(
                f"MODEL.DETECTOR.TRAINABLE_PARTS names '{part}', which the detector has not: did "
                f"you mean {close[0]}?"
            )
    for name, parameter in detector.named_parameters():
        if not regime.trains_detector(name):
            parameter.requires_grad_(False)


def keep_statistics(detector: nn.Module, regime: Regime) -> None:
    """Put layers that behave by mode (batch norm, dropout) in eval mode where nothing trains.

    Containers stay in training mode, because a detectron2 detector only returns losses there.
    """
    by_mode = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for name, layer in detector.named_modules():
        if isinstance(layer, by_mode) and not regime.trains_detector(name):
            layer.eval()

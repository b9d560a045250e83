"""Weights of learned codecs as they are found in files, made to fit a model before loading.

CompressAI does this in ``CompressionModel.load_state_dict``, which PyTorch bypasses as soon as the
model is a submodule of another; fvcore then drops tables of other sizes with just a warning.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel
from compressai.layers import MaskedConv2d
from compressai.models.utils import remap_old_keys
from compressai.zoo import load_state_dict as rename_oldest_keys
from torch import Tensor, nn

TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")


def adapt_state_dict(model: nn.Module, state_dict: MutableMapping, prefix: str) -> None:
    """Rename old keys of ``state_dict`` in place and give ``model``'s tables the sizes found there.

    Args:
        model: a CompressAI model, addressed in ``state_dict`` by keys that start with ``prefix``.
    """
    own = {k[len(prefix) :]: state_dict.pop(k) for k in list(state_dict) if k.startswith(prefix)}
    own = rename_oldest_keys(own)
    for name, module in model.named_modules():
        if isinstance(module, EntropyBottleneck):
            own = remap_old_keys(name, own)
        if isinstance(module, EntropyModel):
            for table in TABLES:
                buffer, found = getattr(module, table, None), own.get(f"{name}.{table}")
                if buffer is not None and found is not None:
                    setattr(module, table, buffer.new_empty(found.shape))
        if isinstance(module, MaskedConv2d):
            weight = own.get(f"{name}.weight")
            if weight is not None and weight.shape == module.mask.shape:
                # Its forward would wipe in place what an optimizer has left under the mask.
                own[f"{name}.weight"] = weight * module.mask.to(weight)
    state_dict.update({prefix + k: v for k, v in own.items()})


def codec_weights(checkpoint: dict) -> dict[str, Tensor]:
    """The weights of a learned codec out of any file that holds one: ``model.*`` and gains.

    Accepts a CompressAI zoo file (a plain state dict), a CompressAI training checkpoint
    (``state_dict``), a codec_det checkpoint or codec export (``model`` with ``codec.*``).
    Half-precision weights, used to ship small files, become float32.
    """
    weights = checkpoint.get("state_dict", checkpoint.get("model", checkpoint))
    if any(key.startswith("codec.model.") for key in weights):
        prefix = "codec."
        weights = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
    else:
        weights = {f"model.{k}": v for k, v in weights.items()}
    return {
        k: v.float() if getattr(v, "dtype", None) == torch.float16 else v
        for k, v in weights.items()
    }

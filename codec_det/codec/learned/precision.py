"""What deployed transforms compute in: bfloat16 where the processor multiplies it, else float32.

Only tools that code for use choose by the processor. Evaluation computes in float32 everywhere, and
so does training unless its config says otherwise, so that figures do not depend on the machine.
"""

from __future__ import annotations

from typing import Any

import torch

# For people, wherever a tool computes in bfloat16.
BFLOAT16_NOTE = (
    "inner layers of the transforms in bfloat16, which this processor multiplies faster "
    "(in float32: ATEN_CPU_CAPABILITY=avx2)"
)


def transforms_dtype(device: str) -> torch.dtype:
    """For :func:`codec_det.codec.learned.fast_transforms.set_inner_dtype`, on ``device``."""
    faster = device.startswith("cpu") and multiplies_bfloat16()
    return torch.bfloat16 if faster else torch.float32


def multiplies_bfloat16() -> bool:
    """Whether this processor has AVX512_BF16, and PyTorch is not told to stay below AVX-512."""
    # Older versions of PyTorch cannot be asked.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    allowed = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return allowed and capabilities.get("avx512_bf16", False)

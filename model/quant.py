"""The int8 format of the default weights: one scale a row, symmetric, no zero points.

weight[r, c] ~ rows[r, c] * scale[r],  rows int8 in [-127, 127], scale float16 = max|weight[r]| / 127
"""

from __future__ import annotations

import torch
from torch import Tensor


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [out, in] as int8 with float16 scales [out]; rounds with the stored scale."""
    peak = weight.float().abs().amax(dim=1)
    # Away from zero and from float16 overflow, so that no row divides by zero.
    scale = (peak / 127).clamp(min=6.2e-5, max=65504.0).to(torch.float16)
    rows = torch.round(weight.float() / scale.float().unsqueeze(1)).clamp(-127, 127)
    return rows.to(torch.int8), scale


def dequantize_int8(rows: Tensor, scale: Tensor) -> Tensor:
    """Float32 weights [out, in] of quantized rows."""
    return rows.float() * scale.float().unsqueeze(1)

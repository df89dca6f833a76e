"""Rounding to our own int8, fp8 and int4, all symmetric without zero points.

    int8   weight[r, c] ~ rows[r, c] * scale[r]                 rows int8 in [-127, 127]
    fp8    weight[r, c] ~ rows[r, c] * scale[r]                 rows float8 e4m3, at most 448
    int4   weight[r, c] ~ (q[r, c] - 8) * scale[r, c // group]  q in [0, 15]

Scales are float16, and values are rounded with the scale as it is stored. Imports write int4, and int8
in groups of columns as well, as tiles (`kernels/tiled.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qcoder.kernels.int4_linear import ZERO

CLIPS = (1.0, 0.93, 0.86)
"""Shares of the largest weight of a group at which int4 may end.

Cutting off the largest makes the steps smaller for all others; the share with the least squared error
is taken. Error of normal weights in groups of 128: 9.8 %, without a choice 10.3 %, with 7 steps to both
sides 11.7 %.
"""


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


def quantize_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [out, in] as float8 e4m3 with float16 scales [out]."""
    scale = _half(weight.float().abs().amax(dim=1, keepdim=True) / 448)
    rows = (weight.float() / scale).clamp_(-448, 448).to(torch.float8_e4m3fn)
    return rows, scale.squeeze(1).to(torch.float16)


def quantize_int4(
    weight: Tensor, group: int, clips: Sequence[float] = CLIPS
) -> tuple[Tensor, Tensor]:
    """Weights [out, in] as q [out, in] uint8 with float16 scales [out, in / group].

    The weight of the largest magnitude becomes -8 steps, the side that has one step more. `clips`: see
    `CLIPS`; (1.0,) leaves out of no weight more than a step.
    """
    parts = weight.float().view(weight.shape[0], -1, group)
    low, high = parts.amin(dim=-1, keepdim=True), parts.amax(dim=-1, keepdim=True)
    peak = torch.where(-low > high, low, high)
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for clip in clips:
        scale = _half(peak * (-clip / ZERO))
        values = torch.round(parts / scale).clamp_(-ZERO, ZERO - 1)
        error = (values * scale).sub_(parts).square_().sum(dim=-1, keepdim=True)
        if best is None:
            best = (error, values, scale)
        else:
            better = error < best[0]
            best = (
                torch.where(better, error, best[0]),
                torch.where(better, values, best[1]),
                torch.where(better, scale, best[2]),
            )
    assert best is not None
    values = torch.flatten(best[1] + ZERO, -2).to(torch.uint8)
    return values, best[2].squeeze(-1).to(torch.float16)


def _half(scale: Tensor) -> Tensor:
    """Float32 values that float16 can hold, none of them so small that it divides by zero."""
    sign = torch.where(scale < 0, -1.0, 1.0)
    return (sign * scale.abs().clamp(min=6.2e-5, max=65504.0)).to(torch.float16).float()

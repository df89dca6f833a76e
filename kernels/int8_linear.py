"""Linear layer over int8 rows with one scale a row: y = x @ (rows * scale)^T + bias.

Torch's packed int8 product takes bfloat16 activations only at speed (float32 activations run 9 times
slower than a float32 matrix, and float16 ones 20 times): it rounds activations and results to 8 bits
of mantissa, 0.3 % relative error. That is what a bfloat16 model does anyway, so it serves those; the
float32 models of the product keep dequantized matrices instead. Measured on 640 x 384, weights from
memory, one thread, us: float32 90, bfloat16 37, packed int8 14 for one token; for 64 tokens and more
a dequantized bfloat16 matrix is 2 to 3 times faster than the packed product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.dispatch import choose

FEW_TOKENS = 16
"""Up to here the packed product is the faster one."""


def int8_linear_reference(x: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """x: [tokens, in], rows: [out, in] int8, scale: [out]; returns [tokens, out] like x."""
    weight = rows.float() * scale.float().unsqueeze(1)
    return F.linear(x.float(), weight).to(x.dtype)


def int8_linear_cpu(x: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """The same; float32 activations are never rounded.

    The scale is applied to the result in float32 unless it is bfloat16 already: a rounded scale
    would be an error of its whole row.
    """
    if x.dtype != torch.bfloat16 or x.shape[0] > FEW_TOKENS:
        weight = rows.to(x.dtype)  # integers to 127 are exact in every float type
        return (F.linear(x, weight).float() * scale.float()).to(x.dtype)
    one = torch.ones(rows.shape[0], dtype=torch.bfloat16)
    y: Tensor = torch._weight_int8pack_mm(x, rows, one)
    return (y.float() * scale.float()).to(x.dtype)


int8_linear = choose(cpu=int8_linear_cpu, reference=int8_linear_reference)

"""Products with int8 rows as they lie on disk, for models too large for `int8_linear.py`'s copies.

    y = (x @ rows^T) * scale,   rows [out, in] int8, scale [out]

For bfloat16 activations torch has a product of exactly this form, which reads each byte once: 8.5 ms for
[20000, 2048] and one token on one thread, where turning the rows into floats takes 95 ms. For
float32 it would round the activations, so rows become floats a slice at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.kernels.dispatch import choose
from qcoder.kernels.sliced_linear import sliced_linear

FEW_TOKENS = 16
"""Beyond, a product of floats is faster: each token reads all rows again."""


def int8_rows_linear_reference(x: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """x: [tokens, in], rows: [out, in] int8, scale: [out]; returns [tokens, out] like x."""
    return (x.double() @ rows.double().T * scale.double()).to(x.dtype)


def int8_rows_linear_cpu(x: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """The same, by torch's own product where there is one."""
    if x.dtype == torch.bfloat16 and x.shape[0] <= FEW_TOKENS:
        y: Tensor = torch._weight_int8pack_mm(x.contiguous(), rows, scale.to(x.dtype).contiguous())
        return y
    floats = sliced_linear(x, rows.shape[0], lambda start, stop: rows[start:stop].to(x.dtype))
    return floats * scale.to(x.dtype)


int8_rows_linear = choose(cpu=int8_rows_linear_cpu, reference=int8_rows_linear_reference)

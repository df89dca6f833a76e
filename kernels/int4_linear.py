"""Products with int4 matrices: two values a byte, a scale a group of neighbouring columns.

    W[r, c] = (q[r, c] - 8) * scale[r, c // group]              symmetric, `offset` is None
    W[r, c] = q[r, c] * scale[r, c // group] + offset[r, c // group]     otherwise

q is 0 to 15; column 2i is the low half of byte i, column 2i + 1 the high half. The group is the
columns divided by the scales of a row, usually 32 or 128. Sums are in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.kernels.dispatch import choose
from qcoder.kernels.sliced_linear import SLICE_ELEMENTS

ZERO = 8
"""The half byte that means 0 where there is no offset."""


def unpack_int4(packed: Tensor) -> Tensor:
    """[..., in / 2] uint8 as the values 0 to 15 [..., in] uint8."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)


def pack_int4(values: Tensor) -> Tensor:
    """The inverse: values 0 to 15 [..., in] uint8, `in` even, as [..., in / 2]."""
    return values[..., ::2] | (values[..., 1::2] << 4)


def dequantize_int4(packed: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    """Float32 matrix [..., in] of packed [..., in / 2], scale and offset [..., groups]."""
    wide = scale.float().unsqueeze(-1)
    shift = wide * -ZERO if offset is None else offset.float().unsqueeze(-1)
    values = unpack_int4(packed).view(*scale.shape, -1).float()
    return torch.flatten(values * wide + shift, -2)


def int4_linear_reference(
    x: Tensor, packed: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Tensor:
    """x: [tokens, in], packed: [out, in / 2], scale, offset: [out, groups]; [tokens, out]."""
    matrix = dequantize_int4(packed, scale, offset).double()
    return (x.double() @ matrix.T).to(x.dtype)


def int4_linear_cpu(
    x: Tensor, packed: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Tensor:
    """The same, a slice of rows at a time, low and high halves apart.

    Even columns meet the low halves and odd ones the high halves, so no value has to move to its
    column; offsets are multiplied with the sums of the groups of x. One pass over the floats is left.
    """
    tokens, groups = x.shape[0], scale.shape[1]
    pairs = x.float().view(tokens, -1, 2)
    even, odd = pairs[..., 0].contiguous(), pairs[..., 1].contiguous()
    sums = x.float().view(tokens, groups, -1).sum(-1)
    step = max(1, SLICE_ELEMENTS // x.shape[1])
    y = torch.empty(tokens, packed.shape[0])
    for start in range(0, packed.shape[0], step):
        rows, wide = packed[start : start + step], scale[start : start + step].float()
        shift = wide * -ZERO if offset is None else offset[start : start + step].float()
        part = torch.addmm(sums @ shift.T, even, _scaled(rows & 15, wide).T)
        torch.addmm(part, odd, _scaled(rows >> 4, wide).T, out=y[:, start : start + step])
    return y.to(x.dtype)


def _scaled(halves: Tensor, scale: Tensor) -> Tensor:
    """Halves [rows, in / 2] times the scales [rows, groups], float32."""
    return torch.flatten(halves.view(*scale.shape, -1) * scale.unsqueeze(-1), 1)


int4_linear = choose(cpu=int4_linear_cpu, reference=int4_linear_reference)

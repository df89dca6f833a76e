"""GGUF's packed weights: blocks of 32 or 256 neighbouring columns with their scales, as floats.

    kind   columns  bytes  layout of a block, from its first byte on
    Q4_0        32     18  d f16, 16 x (value j low, value j + 16 high);  w = d * (q - 8)
    Q4_1        32     20  d f16, m f16, then as Q4_0;  w = d * q + m
    Q5_0        32     22  d f16, 4 bytes of fifth bits, then as Q4_0;  w = d * (q - 16)
    Q5_1        32     24  d f16, m f16, 4 bytes of fifth bits, then as Q4_0;  w = d * q + m
    Q8_0        32     34  d f16, 32 x int8;  w = d * q
    Q4_K       256    144  d f16, dmin f16, 12 bytes of 8 scales and 8 minima of 6 bits, 128 bytes;
                           w = d * scale * q - dmin * minimum, for 32 columns each
    Q5_K       256    176  as Q4_K, with 32 bytes of fifth bits before the 128
    Q6_K       256    210  128 bytes of low 4 bits, 64 of high 2 bits, 16 scales int8, d f16;
                           w = d * scale * (q - 32), for 16 columns each

Blocks stay as they are on disk; `Blocks` turns the rows of a product into floats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qcoder.kernels.sliced_linear import sliced_linear


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A matrix of packed blocks; data: [out, bytes of a row] uint8."""

    data: Tensor
    kind: str

    @property
    def out_size(self) -> int:
        """Number of rows."""
        return self.data.shape[0]

    @property
    def size_bytes(self) -> int:
        """Memory of the blocks."""
        return self.data.nbytes

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows [stop - start, in] as float32."""
        return dequantize_blocks(self.data[start:stop], self.kind)

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        return sliced_linear(x, self.out_size, self.floats)


def dequantize_blocks(data: Tensor, kind: str) -> Tensor:
    """Float32 [rows, in] of packed rows [rows, bytes]."""
    _, size_bytes, floats = KINDS[kind]
    if data.is_meta:
        return data.new_empty(
            (data.shape[0], row_columns(kind, data.shape[1])), dtype=torch.float32
        )
    return floats(data.reshape(-1, size_bytes)).view(data.shape[0], -1)


def row_bytes(kind: str, columns: int) -> int:
    """Bytes of a row; raises ValueError if it does not end with a block."""
    block, size_bytes, _ = KINDS[kind]
    if columns % block:
        raise ValueError(f"{columns} columns are no whole number of {kind} blocks of {block}")
    return columns // block * size_bytes


def row_columns(kind: str, size_bytes: int) -> int:
    """Columns of a row of so many bytes."""
    return size_bytes // KINDS[kind][1] * KINDS[kind][0]


def _half(data: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of every block: [blocks, 1] float32."""
    return data[:, start : start + 2].contiguous().view(torch.float16).float()


def _halves(data: Tensor) -> Tensor:
    """[..., n] bytes as [..., 2 n] values: all the low halves, then all the high ones."""
    return torch.cat((data & 15, data >> 4), dim=-1)


def _q4_0(data: Tensor) -> Tensor:
    return _half(data, 0) * (_halves(data[:, 2:]).float() - 8)


def _q4_1(data: Tensor) -> Tensor:
    return _half(data, 0) * _halves(data[:, 4:]).float() + _half(data, 2)


def _five_bits(low: Tensor, fifth: Tensor) -> Tensor:
    """Values 0 to 31 [blocks, 32] of 16 bytes of halves and 4 bytes of bits, lowest first."""
    places = torch.arange(8, dtype=torch.uint8)
    return _halves(low) | (((fifth.unsqueeze(-1) >> places) & 1).flatten(1) << 4)


def _q5_0(data: Tensor) -> Tensor:
    return _half(data, 0) * (_five_bits(data[:, 6:], data[:, 2:6]).float() - 16)


def _q5_1(data: Tensor) -> Tensor:
    return _half(data, 0) * _five_bits(data[:, 8:], data[:, 4:8]).float() + _half(data, 2)


def _q8_0(data: Tensor) -> Tensor:
    return _half(data, 0) * data[:, 2:].contiguous().view(torch.int8).float()


def _scales_and_minima(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Two times eight 6-bit numbers from 12 bytes: [blocks, 8] float32 each.

    Bytes 0-3 and 4-7 hold the first four of each and, in their top bits, the upper two bits of the
    last four, whose lower four bits are the halves of bytes 8-11.
    """
    first, second, rest = torch.split(packed, 4, dim=-1)
    scale = torch.cat((first & 63, (rest & 15) | (first >> 6 << 4)), dim=-1)
    minimum = torch.cat((second & 63, (rest >> 4) | (second >> 6 << 4)), dim=-1)
    return scale.float(), minimum.float()


def _k_block(data: Tensor, values: Tensor) -> Tensor:
    """w = d * scale * q - dmin * minimum for values [blocks, 8, 32]."""
    scale, minimum = _scales_and_minima(data[:, 4:16])
    wide = (_half(data, 0) * scale).unsqueeze(-1)
    return wide * values.float() - (_half(data, 2) * minimum).unsqueeze(-1)


def _q4_k(data: Tensor) -> Tensor:
    return _k_block(data, _halves(data[:, 16:].reshape(-1, 4, 32)).view(-1, 8, 32))


def _q5_k(data: Tensor) -> Tensor:
    low = _halves(data[:, 48:].reshape(-1, 4, 32)).view(-1, 8, 32)
    places = torch.arange(8, dtype=torch.uint8).view(1, 8, 1)
    high = (data[:, 16:48].unsqueeze(1) >> places) & 1
    return _k_block(data, low | (high << 4))


def _q6_k(data: Tensor) -> Tensor:
    # Each half of a block: 64 low bytes and 32 high bytes make four rows of 32 columns.
    low = _halves(data[:, :128].reshape(-1, 2, 64)).view(-1, 2, 4, 32)
    places = torch.arange(0, 8, 2, dtype=torch.uint8).view(1, 1, 4, 1)
    high = (data[:, 128:192].reshape(-1, 2, 1, 32) >> places) & 3
    values = (low | (high << 4)).view(-1, 16, 16).float() - 32
    scale = data[:, 192:208].contiguous().view(torch.int8).float() * _half(data, 208)
    return scale.unsqueeze(-1) * values


KINDS: dict[str, tuple[int, int, Callable[[Tensor], Tensor]]] = {
    "Q4_0": (32, 18, _q4_0),
    "Q4_1": (32, 20, _q4_1),
    "Q5_0": (32, 22, _q5_0),
    "Q5_1": (32, 24, _q5_1),
    "Q8_0": (32, 34, _q8_0),
    "Q4_K": (256, 144, _q4_k),
    "Q5_K": (256, 176, _q5_k),
    "Q6_K": (256, 210, _q6_k),
}
"""Kind -> columns and bytes of a block, and how its bytes [blocks, bytes] become floats."""

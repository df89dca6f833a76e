"""Tiled matrices: int4 or int8 weights in the order in which the compiled kernels read them.

A matrix [rows, columns] is cut into tiles of 16 rows; a tile holds its columns group after group,
each group's values followed by 16 float16 scales. Within a group, 64 bytes hold for each of the 16
rows four neighbouring columns (int8, stored as value + 128), or eight, of which the first four are
the low halves of the bytes (int4, stored as value + 8):

    [rows / 16] [columns / group] { [group / 4 or 8] [16 rows] [4 bytes], [16] float16 }

One sequential stream a tile, so a matrix can be multiplied where it lies in a mapped file. The
activations are rounded to int8 by groups of the same size; `tiled_linear`, `residual_linear` and
`tiled_experts` are the plain versions of what `native_library.Native` computes, rounding included.

Two planes: a matrix whose largest products alone have to be exact (the head) can be int4 with a second
int4 matrix of what the first leaves out of each weight. The first gives all products, the second adds
to those of the tiles with the largest ones: half of the bytes of int8, with its precision where a
token is likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_ROWS = 16
GROUPS = (32, 128)
REFINED_SHARE, LEAST_REFINED = 16, 16
"""One of so many tiles of a matrix in two planes, or so many tiles, are multiplied with both."""

OFFSETS = {4: 8, 8: 128}
"""Stored minus meant, by bits."""


@dataclass(frozen=True, slots=True)
class TiledShape:
    """Shape and format of a tiled matrix; raises `ValueError` for one that has no tiles."""

    rows: int
    columns: int
    bits: int
    group: int

    def __post_init__(self) -> None:
        if self.bits not in OFFSETS or self.group not in GROUPS:
            raise ValueError(f"no kernels for int{self.bits} in groups of {self.group}")
        if self.rows % TILE_ROWS or self.columns % self.group:
            raise ValueError(
                f"[{self.rows}, {self.columns}] does not divide into tiles of {TILE_ROWS} rows and "
                f"groups of {self.group} columns"
            )

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return self.columns // self.group

    @property
    def group_bytes(self) -> int:
        """Bytes of 16 rows of a group, scales included."""
        return self.group * TILE_ROWS * self.bits // 8 + 2 * TILE_ROWS

    @property
    def size_bytes(self) -> int:
        """Bytes of the matrix."""
        return self.rows // TILE_ROWS * self.groups * self.group_bytes


def tile(values: Tensor, scales: Tensor, shape: TiledShape) -> Tensor:
    """uint8 [size_bytes] of stored values [rows, columns] uint8 and scales [rows, groups]."""
    step = 32 // shape.bits  # columns a chunk: 4 or 8
    parts = values.view(-1, TILE_ROWS, shape.groups, shape.group // step, step)
    parts = parts.permute(0, 2, 3, 1, 4)
    if shape.bits == 4:
        parts = parts[..., :4] | (parts[..., 4:] << 4)
    data = parts.reshape(-1, shape.groups, shape.group_bytes - 2 * TILE_ROWS)
    halves = scales.to(torch.float16).view(-1, TILE_ROWS, shape.groups).transpose(1, 2)
    tail = halves.contiguous().view(torch.uint8).view(-1, shape.groups, 2 * TILE_ROWS)
    return torch.cat([data, tail], dim=-1).flatten()


def tile_values(data: Tensor, shape: TiledShape) -> tuple[Tensor, Tensor]:
    """Stored values [rows, columns] uint8 and scales [rows, groups] float16 of `tile`'s bytes."""
    data = data.view(-1, shape.groups, shape.group_bytes)
    values, tail = data[..., : -2 * TILE_ROWS], data[..., -2 * TILE_ROWS :]
    parts = values.reshape(*data.shape[:2], -1, TILE_ROWS, 4)
    if shape.bits == 4:
        parts = torch.cat([parts & 15, parts >> 4], dim=-1)
    scales = tail.contiguous().view(torch.float16).transpose(1, 2)
    rows = parts.permute(0, 3, 1, 2, 4).reshape(shape.rows, shape.columns)
    return rows, scales.reshape(shape.rows, shape.groups)


def untile(data: Tensor, shape: TiledShape) -> Tensor:
    """Float32 matrix [rows, columns] of `tile`'s bytes."""
    return dequantize(*tile_values(data, shape), shape.bits)


def quantize(matrix: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """Stored values [rows, columns] uint8 and float16 scales [rows, groups]; rounds to nearest."""
    grouped = matrix.float().view(matrix.shape[0], -1, group)
    most = OFFSETS[bits] - 1
    scale = (grouped.abs().amax(-1) / most).clamp(min=6.2e-5, max=65504.0).to(torch.float16)
    values = torch.round(grouped / scale.float().unsqueeze(-1)).clamp(-most, most)
    return (values + OFFSETS[bits]).to(torch.uint8).flatten(1), scale


def dequantize(values: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Float32 matrix of stored values [rows, columns] and scales [rows, groups]."""
    grouped = values.float().view(*scales.shape, -1) - OFFSETS[bits]
    return torch.flatten(grouped * scales.float().unsqueeze(-1), -2)


def rounded(x: Tensor, group: int) -> Tensor:
    """x [..., columns] after the activations' rounding: int8 times a scale a group."""
    grouped = x.float().view(*x.shape[:-1], -1, group)
    scale = grouped.abs().amax(-1, keepdim=True) / 127
    values = torch.round(grouped / scale.clamp(min=1e-30))
    return (values * scale).view(x.shape)


def tiled_linear(x: Tensor, data: Tensor, shape: TiledShape) -> Tensor:
    """x [tokens, columns] times the tiled matrix: [tokens, rows], in float64 inside."""
    matrix = untile(data, shape).double()
    return (rounded(x, shape.group).double() @ matrix.T).float()


def residual_linear(x: Tensor, data: Tensor, residual: Tensor, shape: TiledShape) -> Tensor:
    """As `tiled_linear` with `data`; where a token's products are largest, `residual` is added."""
    y = tiled_linear(x, data, shape)
    tiles = shape.rows // TILE_ROWS
    most = min(tiles, max(LEAST_REFINED, tiles // REFINED_SHARE))
    peaks = y.view(len(x), tiles, TILE_ROWS).amax(-1)
    chosen = peaks >= peaks.topk(most, dim=-1).values[:, -1:]
    return y + tiled_linear(x, residual, shape) * chosen.repeat_interleave(TILE_ROWS, dim=-1)


def tiled_experts(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    weights: Tensor,
    chosen: Tensor,
    first: TiledShape,
    second: TiledShape,
) -> Tensor:
    """Weighted SwiGLU experts [tokens, hidden]; gate_up, down: tiled, [experts, bytes]."""
    tokens, hidden = x.shape
    y = torch.zeros(tokens, hidden, dtype=torch.float64)
    for t in range(tokens):
        for weight, expert in zip(weights[t].tolist(), chosen[t].tolist(), strict=True):
            gate, up = tiled_linear(x[t : t + 1], gate_up[expert], first).chunk(2, dim=-1)
            y[t] += weight * tiled_linear(F.silu(gate) * up, down[expert], second)[0].double()
    return y.float()

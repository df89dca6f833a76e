"""Layers whose int4 and int8 weights run in the compiled kernels, for few tokens and for many.

Tiles of a file (`kernels/tiled.py`) run where they are mapped. int8 rows with a scale each, which the
default model has, are tiled when they are loaded, the scale repeated for each group: the weights stay
exactly what they are. The activations are rounded to int8, which on the default model changes neither
bits per byte nor accuracy measurably (docs/LOG.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qcoder.kernels.native_library import Native
from qcoder.kernels.tiled import GROUPS, OFFSETS, TILE_ROWS, TiledShape, tile, untile
from qcoder.model.matrix import Matrix, Rows, Tiles, TwoPlanes

BITS = 8
"""Of rows that are tiled when they are loaded."""


@dataclass(frozen=True, slots=True, eq=False)
class TiledLinear:
    """y = x @ weight^T + bias; data: a tiled matrix of `shape`, residual: its second plane."""

    data: Tensor
    shape: TiledShape
    native: Native
    bias: Tensor | None = None
    residual: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        y = self.native.linear(x, self.data, self.shape, self.residual)
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    @property
    def weight(self) -> Tensor:
        """A float copy [out, in]."""
        first = untile(self.data.flatten(), self.shape)
        return (
            first if self.residual is None else first + untile(self.residual.flatten(), self.shape)
        )

    @property
    def size_bytes(self) -> int:
        """Memory of the layer."""
        tensors = (self.data, self.residual, self.bias)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@dataclass(frozen=True, slots=True, eq=False)
class TiledExperts:
    """SwiGLU experts; gate_up, down: tiled matrices [experts, ...] of the shapes first, second."""

    gate_up: Tensor
    down: Tensor
    first: TiledShape
    second: TiledShape
    native: Native

    def __call__(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sum [tokens, hidden] of the experts `chosen` [tokens, top_k]."""
        return self.native.experts(
            x, self.gate_up, self.down, weights, chosen, self.first, self.second
        ).to(x.dtype)

    @property
    def size_bytes(self) -> int:
        """Memory of all experts."""
        return self.gate_up.nbytes + self.down.nbytes


def tiled_linear_layer(
    parts: Sequence[Matrix], bias: Tensor | None, native: Native, rows: bool
) -> TiledLinear | None:
    """The layer of matrices above each other; None for those that have no tiles.

    With `rows`, int8 rows are tiled; otherwise only tiles are taken, which costs no memory.
    """
    if len(parts) == 1 and isinstance(parts[0], TwoPlanes):
        planes = parts[0]
        shape, second = planes.first.shape, planes.second
        return TiledLinear(planes.first.data, shape, native, bias, second.data)
    tiles = [part for part in (as_tiles(part, rows) for part in parts) if part is not None]
    first = tiles[0].shape if tiles else None
    if first is None or len(tiles) < len(parts):
        return None
    if any((t.shape.bits, t.shape.group) != (first.bits, first.group) for t in tiles):
        return None
    shape = replace(first, rows=sum(t.shape.rows for t in tiles))
    return TiledLinear(adjacent([t.data for t in tiles]), shape, native, bias)


def tiled_experts_layer(
    gate_up: Sequence[Sequence[Matrix]], down: Sequence[Matrix], native: Native
) -> TiledExperts | None:
    """The experts of (gate, up) and down, int8 rows each; None for shapes that have no tiles."""
    made = [tiled_linear_layer(parts, None, native, rows=True) for parts in gate_up]
    firsts = [layer for layer in made if layer is not None]
    made = [tiled_linear_layer([part], None, native, rows=True) for part in down]
    seconds = [layer for layer in made if layer is not None]
    if len(firsts) < len(gate_up) or len(seconds) < len(down):
        return None
    return TiledExperts(
        torch.stack([layer.data for layer in firsts]),
        torch.stack([layer.data for layer in seconds]),
        firsts[0].shape,
        seconds[0].shape,
        native,
    )


def as_tiles(matrix: Matrix, rows: bool) -> Tiles | None:
    """The matrix as tiles, None where it is something else."""
    if isinstance(matrix, Tiles):
        return matrix
    if not rows or not isinstance(matrix, Rows) or not matrix.is_int8_by_row:
        return None
    group = group_of(matrix.data.shape[1])
    plain = matrix.order is None and matrix.offset is None
    if not plain or group is None or matrix.out_size % TILE_ROWS:
        return None
    shape = TiledShape(matrix.out_size, matrix.data.shape[1], BITS, group)
    values = matrix.data.to(torch.int16) + OFFSETS[BITS]
    scales = matrix.scale.expand(-1, shape.groups)
    return Tiles(tile(values.to(torch.uint8), scales.contiguous(), shape), shape)


def adjacent(parts: Sequence[Tensor]) -> Tensor:
    """The bytes of all parts: a view where they lie behind each other in memory, else a copy."""
    first = parts[0]
    size_bytes = sum(part.nbytes for part in parts)
    if len(parts) == 1:
        return first
    if first.is_meta:
        return first.new_empty(size_bytes)
    ends = [part.data_ptr() + part.nbytes for part in parts]
    if any(part.data_ptr() != end for part, end in zip(parts[1:], ends, strict=False)):
        return torch.cat([part.flatten() for part in parts])
    block = (ctypes.c_uint8 * size_bytes).from_address(first.data_ptr())
    # What keeps the memory lives as long as the view.
    block.parts = list(parts)  # type: ignore[attr-defined]
    return torch.frombuffer(block, dtype=torch.uint8)


def group_of(columns: int) -> int | None:
    """The largest group that `columns` divide into."""
    return next((group for group in sorted(GROUPS, reverse=True) if columns % group == 0), None)

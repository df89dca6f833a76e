"""Layers whose int8 weights run in the compiled kernels, for few tokens and for many.

The file's int8 rows are tiled when they are loaded (`kernels/tiled.py`), scales repeated for each
group: the weights stay exactly what they are, the activations are rounded to int8. On the default model
that changes neither bits per byte nor accuracy measurably (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qcoder.kernels.native_library import Native
from qcoder.kernels.tiled import GROUPS, OFFSETS, TILE_ROWS, TiledShape, tile, untile
from qcoder.model.matrix import Rows

BITS = 8


@dataclass(frozen=True, slots=True, eq=False)
class TiledLinear:
    """y = x @ weight^T + bias; data: a tiled matrix of `shape`."""

    data: Tensor
    shape: TiledShape
    native: Native
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        y = self.native.linear(x, self.data, self.shape.rows, self.shape.bits, self.shape.group)
        return y if self.bias is None else y + self.bias

    @property
    def weight(self) -> Tensor:
        """A float copy [out, in]."""
        return untile(self.data, self.shape)

    @property
    def size_bytes(self) -> int:
        """Memory of the layer."""
        return self.data.nbytes + (self.bias.nbytes if self.bias is not None else 0)


@dataclass(frozen=True, slots=True, eq=False)
class TiledExperts:
    """SwiGLU experts; gate_up, down: tiled matrices [experts, bytes] of the shapes first, second."""

    gate_up: Tensor
    down: Tensor
    first: TiledShape
    second: TiledShape
    native: Native

    def __call__(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sum [tokens, hidden] of the experts `chosen` [tokens, top_k]."""
        return self.native.experts(
            x, self.gate_up, self.down, weights, chosen, self.size, self.first.bits,
            self.first.group,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Width of an expert."""
        return self.second.columns

    @property
    def size_bytes(self) -> int:
        """Memory of all experts."""
        return self.gate_up.nbytes + self.down.nbytes


def tiled_linear_layer(
    parts: Sequence[Rows], bias: Tensor | None, native: Native
) -> TiledLinear | None:
    """The layer of int8 rows above each other; None for shapes that have no tiles."""
    rows, columns = sum(part.out_size for part in parts), parts[0].data.shape[1]
    group = group_of(columns)
    if group is None or rows % TILE_ROWS:
        return None
    shape = TiledShape(rows, columns, BITS, group)
    return TiledLinear(tiled_rows(parts, shape), shape, native, bias)


def tiled_experts_layer(
    gate_up: Sequence[Sequence[Rows]], down: Sequence[Rows], native: Native
) -> TiledExperts | None:
    """The experts of (gate, up) and down, int8 rows each; None for shapes that have no tiles."""
    hidden, size = down[0].data.shape
    groups = [group_of(hidden), group_of(size)]
    if None in groups or hidden % TILE_ROWS or size % TILE_ROWS:
        return None
    group = min(g for g in groups if g is not None)
    first = TiledShape(2 * size, hidden, BITS, group)
    second = TiledShape(hidden, size, BITS, group)
    return TiledExperts(
        torch.stack([tiled_rows(parts, first) for parts in gate_up]),
        torch.stack([tiled_rows([part], second) for part in down]),
        first,
        second,
        native,
    )


def group_of(columns: int) -> int | None:
    """The largest group that `columns` divide into."""
    return next((group for group in sorted(GROUPS, reverse=True) if columns % group == 0), None)


def tiled_rows(parts: Sequence[Rows], shape: TiledShape) -> Tensor:
    """int8 rows with a scale each, above each other, as tiles."""
    values = torch.cat([part.data for part in parts]).to(torch.int16) + OFFSETS[BITS]
    scales = torch.cat([part.scale for part in parts]).expand(-1, shape.groups)
    return tile(values.to(torch.uint8), scales.contiguous(), shape)

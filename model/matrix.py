"""Weight matrices as they are held when they are not floats: one `Matrix` a way to hold them.

A matrix is multiplied with, or turned into floats a few rows at a time; it is never held twice. What
it holds may be views of a memory-mapped file. `Above` joins matrices that lie apart, without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from qcoder.kernels.int4_linear import dequantize_int4, int4_linear
from qcoder.kernels.int8_rows_linear import int8_rows_linear
from qcoder.kernels.sliced_linear import sliced_linear
from qcoder.kernels.tiled import TILE_ROWS, TiledShape, untile


class Matrix(Protocol):
    """One matrix [out, in]."""

    @property
    def out_size(self) -> int:
        """Number of rows."""
        ...

    @property
    def size_bytes(self) -> int:
        """Memory of what is held, mapped files included."""
        ...

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows [stop - start, in] as float32."""
        ...

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out] in the type of x."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Quantized values with a scale (and an offset) for `group` neighbouring columns of a row.

    data: [out, in / 2] uint8, two values a byte (`kernels/int4_linear.py`), or [out, in] int8 or
    float8. scale, offset: [out, groups]. The last group may be shorter, except in int4.
    order: [in], where columns were sorted: column c is multiplied with input order[c].
    """

    data: Tensor
    scale: Tensor
    group: int
    offset: Tensor | None = None
    order: Tensor | None = None

    @property
    def out_size(self) -> int:
        """Number of rows."""
        return self.data.shape[-2]

    @property
    def size_bytes(self) -> int:
        """Memory of all tensors."""
        tensors = (self.data, self.scale, self.offset, self.order)
        return sum(t.nbytes for t in tensors if t is not None)

    @property
    def is_int4(self) -> bool:
        """Whether there are two values a byte."""
        return self.data.dtype == torch.uint8

    @property
    def is_int8_by_row(self) -> bool:
        """Whether this is int8 with one scale a row."""
        return self.data.dtype == torch.int8 and self.scale.shape[1] == 1

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows as float32, columns as the input has them."""
        rows = self._sorted_floats(start, stop)
        if self.order is None:
            return rows
        unsorted = torch.empty_like(rows)
        unsorted[:, self.order.long()] = rows
        return unsorted

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        if self.order is not None:
            x = x[:, self.order]
        if self.is_int4:
            return int4_linear(x, self.data, self.scale, self.offset)
        if self.is_int8_by_row:
            return int8_rows_linear(x, self.data, self.scale[:, 0])
        return sliced_linear(x, self.out_size, self._sorted_floats)

    def _sorted_floats(self, start: int, stop: int) -> Tensor:
        data, scale = self.data[start:stop], self.scale[start:stop]
        offset = None if self.offset is None else self.offset[start:stop]
        if self.is_int4:
            return dequantize_int4(data, scale, offset)
        assert offset is None, "only int4 has offsets"
        if scale.shape[1] == 1:
            return data.float() * scale.float()
        wide = scale.float().repeat_interleave(self.group, dim=-1)[:, : data.shape[-1]]
        return data.float() * wide


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """A matrix in the order in which the compiled kernels read it; data: uint8 (`kernels/tiled.py`)."""

    data: Tensor
    shape: TiledShape

    @property
    def out_size(self) -> int:
        """Number of rows."""
        return self.shape.rows

    @property
    def size_bytes(self) -> int:
        """Memory of the tiles."""
        return self.data.nbytes

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows as float32."""
        first, last = start // TILE_ROWS, -(-stop // TILE_ROWS)
        step = self.shape.groups * self.shape.group_bytes
        shape = replace(self.shape, rows=(last - first) * TILE_ROWS)
        rows = untile(self.data.flatten()[first * step : last * step], shape)
        return rows[start - first * TILE_ROWS : stop - first * TILE_ROWS]

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]. Without kernels: x is not rounded."""
        return sliced_linear(x, self.out_size, self.floats)


@dataclass(frozen=True, slots=True, eq=False)
class TwoPlanes:
    """The sum of two matrices as tiles, of which the second is what the first leaves out.

    Without kernels both are always read (`kernels/tiled.py`, "Two planes").
    """

    first: Tiles
    second: Tiles

    @property
    def out_size(self) -> int:
        """Number of rows."""
        return self.first.out_size

    @property
    def size_bytes(self) -> int:
        """Memory of both."""
        return self.first.size_bytes + self.second.size_bytes

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows as float32."""
        return self.first.floats(start, stop) + self.second.floats(start, stop)

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        return sliced_linear(x, self.out_size, self.floats)


@dataclass(frozen=True, slots=True, eq=False)
class Above:
    """Matrices with the same input, one above the other."""

    parts: tuple[Matrix, ...]

    @property
    def out_size(self) -> int:
        """Rows of all parts."""
        return sum(part.out_size for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Memory of all parts."""
        return sum(part.size_bytes for part in self.parts)

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows as float32."""
        rows, before = [], 0
        for part in self.parts:
            first, last = max(start - before, 0), min(stop - before, part.out_size)
            if first < last:
                rows.append(part.floats(first, last))
            before += part.out_size
        return torch.cat(rows)

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        return torch.cat([part.product(x) for part in self.parts], dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Floats:
    """A float matrix beside quantized ones."""

    weight: Tensor

    @property
    def out_size(self) -> int:
        """Number of rows."""
        return self.weight.shape[-2]

    @property
    def size_bytes(self) -> int:
        """Memory of the floats."""
        return self.weight.nbytes

    def floats(self, start: int, stop: int) -> Tensor:
        """Rows as float32."""
        return self.weight[start:stop].float()

    def product(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        return torch.nn.functional.linear(x, self.weight.to(x.dtype))


def float_matrix(matrix: Matrix, dtype: torch.dtype) -> Tensor:
    """All rows of one matrix as floats: a copy that the caller owns."""
    return matrix.floats(0, matrix.out_size).to(dtype)

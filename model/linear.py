"""Linear layers and experts as they are held in memory, and how they are read from a checkpoint.

Four ways to hold a matrix, by what the checkpoint has and how large the model is:

- small models (float32): one float matrix for parts with the same input. One whose file is int8 runs
  in the compiled kernels (`tiled_layers.py`); without them it has the packed integers beside its
  floats, which are read for few tokens: a quarter of the bytes (`kernels/int8_linear.py`).
- large float models: views of the mapped file, part by part; nothing is copied.
- our own int4 and int8: tiles that the compiled kernels read where they are mapped.
- other quantized ones: a `Matrix` over the mapped file, turned into floats only for a product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.int8_linear import FEW_TOKENS, int8_linear, int8_supported, pack_int8
from qcoder.kernels.moe import experts, experts_int8
from qcoder.kernels.native_library import native
from qcoder.kernels.tiled import TiledShape
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.format_qcoder import stacked
from qcoder.model.matrix import Above, Floats, Matrix, Rows, Tiles, float_matrix
from qcoder.model.quant import dequantize_int8
from qcoder.model.tiled_layers import TiledExperts, tiled_experts_layer, tiled_linear_layer


class Linear(Protocol):
    """y = x @ weight^T + bias."""

    @property
    def weight(self) -> Tensor:
        """The float matrix [out, in]; made anew for a layer that is held quantized."""
        ...

    @property
    def size_bytes(self) -> int:
        """Memory of the layer."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        ...


class Experts(Protocol):
    """The SwiGLU experts of a layer."""

    @property
    def size_bytes(self) -> int:
        """Memory of all experts."""
        ...

    def __call__(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sum [tokens, hidden] of the experts `chosen` [tokens, top_k]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Int8 tables [..., in, out + 8] and the scales [..., out] float32 of their outputs."""

    table: Tensor
    scale: Tensor

    @property
    def size_bytes(self) -> int:
        """Memory of both."""
        return self.table.nbytes + self.scale.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class FloatLinear:
    """A layer with its float matrix [out, in], and int8 beside it in small models."""

    weight: Tensor
    bias: Tensor | None = None
    packed: Packed | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        if self.packed is None or x.shape[0] > FEW_TOKENS:
            return F.linear(x, self.weight, self.bias)
        y = int8_linear(x, self.packed.table, self.packed.scale)
        return y if self.bias is None else y + self.bias

    @property
    def size_bytes(self) -> int:
        """Memory of the layer."""
        packed = self.packed.size_bytes if self.packed else 0
        return self.weight.nbytes + packed + (self.bias.nbytes if self.bias is not None else 0)


@dataclass(frozen=True, slots=True, eq=False)
class MatrixLinear:
    """A layer that is never held as one float matrix."""

    matrix: Matrix
    bias: Tensor | None
    dtype: torch.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, in]; returns [tokens, out]."""
        y = self.matrix.product(x)
        return y if self.bias is None else y + self.bias

    @property
    def weight(self) -> Tensor:
        """A float copy [out, in]."""
        return float_matrix(self.matrix, self.dtype)

    @property
    def size_bytes(self) -> int:
        """Memory of the layer."""
        return self.matrix.size_bytes + (self.bias.nbytes if self.bias is not None else 0)


@dataclass(frozen=True, slots=True, eq=False)
class FloatExperts:
    """Experts in two tensors; gate and up are one matrix an expert, gate rows first.

    gate_up: [experts, 2 * size, hidden], down: [experts, hidden, size].
    """

    gate_up: Tensor
    down: Tensor
    packed_gate_up: Packed | None = None
    packed_down: Packed | None = None

    def __call__(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sum [tokens, hidden] of the experts `chosen` [tokens, top_k]."""
        first, second = self.packed_gate_up, self.packed_down
        if first is None or second is None or x.shape[0] > FEW_TOKENS:
            return experts(x, self.gate_up, self.down, weights, chosen)
        return experts_int8(
            x, first.table, first.scale, second.table, second.scale, weights, chosen
        )

    @property
    def size_bytes(self) -> int:
        """Memory of all experts."""
        packed = (p for p in (self.packed_gate_up, self.packed_down) if p)
        return self.gate_up.nbytes + self.down.nbytes + sum(p.size_bytes for p in packed)


@dataclass(frozen=True, slots=True, eq=False)
class MatrixExperts:
    """Experts (gate and up, down), each read only when it is chosen."""

    matrices: tuple[tuple[Matrix, Matrix], ...]

    def __call__(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sum [tokens, hidden] of the experts `chosen` [tokens, top_k]."""
        y = torch.zeros_like(x)
        for expert in torch.unique(chosen).tolist():
            tokens, slots = (chosen == expert).nonzero(as_tuple=True)
            gate_up, down = self.matrices[expert]
            gate, up = gate_up.product(x[tokens]).chunk(2, dim=-1)
            inner = F.silu(gate) * up * weights[tokens, slots].unsqueeze(-1)
            y.index_add_(0, tokens, down.product(inner))
        return y

    @property
    def size_bytes(self) -> int:
        """Memory of all experts."""
        return sum(first.size_bytes + second.size_bytes for first, second in self.matrices)


class WeightReader:
    """Reads a checkpoint by our names, which are the hub's without a leading `model.`."""

    __slots__ = ("_checkpoint", "_dtype", "_names", "_native", "_pack", "_stems", "_tile_rows")

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self._checkpoint, self._dtype = checkpoint, dtype
        self._names = sanitize(checkpoint.files)
        # A quantized layer has several tensors, of which none may be called `weight`.
        self._stems = sanitize(name.rpartition(".")[0] for name in checkpoint.files)
        self._pack = dtype == torch.float32 and int8_supported()
        self._native = native(torch.get_num_threads())
        # Rows become tiles in memory: for small models only, large ones run where they are mapped.
        self._tile_rows = dtype == torch.float32

    def tensor(self, name: str, *shape: int) -> Tensor:
        """One tensor of exactly `shape`, as floating point."""
        on_disk = self._names.get(name)
        if on_disk is None:
            stem, _, last = name.rpartition(".")
            on_disk = f"{self._stem(stem)}.{last}"
        name = on_disk
        self._checkpoint.ask(name, shape)
        return self._checkpoint.float_tensor(name, shape, self._dtype)

    def linear(self, parts: Sequence[tuple[str, int]], in_size: int, bias: bool = False) -> Linear:
        """Layers (name, outputs) with the same input, one above the other."""
        offset = torch.cat([self.tensor(f"{n}.bias", size) for n, size in parts]) if bias else None
        matrices = [self._matrix(name, size, in_size) for name, size in parts]
        if self._native is not None:
            tiled = tiled_linear_layer(matrices, offset, self._native, self._tile_rows)
            if tiled is not None:
                return tiled
        floats, packed = self._float_matrix(matrices)
        # Rows of an embedding are looked up, so it stays a float matrix, whatever it was.
        if floats is None and parts[0][0] == "embed_tokens":
            floats = float_matrix(matrices[0], self._dtype)
        if floats is not None:
            return FloatLinear(floats, offset, packed)
        return MatrixLinear(_above(matrices), offset, self._dtype)

    def experts(self, stems: Sequence[str], hidden: int, size: int) -> Experts:
        """The experts at `stems`, each with gate_proj, up_proj and down_proj."""
        together = self._stacked_experts(stems, hidden, size)
        if together is not None:
            return together
        firsts = [
            [self._matrix(stem + name, size, hidden) for name in ("gate_proj", "up_proj")]
            for stem in stems
        ]
        seconds = [[self._matrix(stem + "down_proj", hidden, size)] for stem in stems]
        tiled = self._tiled_experts(firsts, seconds)
        if tiled is not None:
            return tiled
        gate_up = [self._float_matrix(parts) for parts in firsts]
        down = [self._float_matrix(parts) for parts in seconds]
        if any(floats is None for floats, _ in (*gate_up, *down)):
            pairs = zip(map(_above, firsts), map(_above, seconds), strict=True)
            return MatrixExperts(tuple(pairs))
        return FloatExperts(
            torch.stack([floats for floats, _ in gate_up if floats is not None]),
            torch.stack([floats for floats, _ in down if floats is not None]),
            _stacked([packed for _, packed in gate_up]),
            _stacked([packed for _, packed in down]),
        )

    def _tiled_experts(
        self, firsts: Sequence[Sequence[Matrix]], seconds: Sequence[Sequence[Matrix]]
    ) -> Experts | None:
        if self._native is None or not self._tile_rows:
            return None
        return tiled_experts_layer(firsts, [parts[0] for parts in seconds], self._native)

    def _stacked_experts(self, stems: Sequence[str], hidden: int, size: int) -> Experts | None:
        """Experts that lie together in our own format, None where they do not."""
        above, count = stems[0].removesuffix("0."), len(stems)
        gate_up, down = self._stem(f"{above}gate_up_proj"), self._stem(f"{above}down_proj")
        first = stacked(self._checkpoint, gate_up, count, 2 * size, hidden)
        if not first:
            return None
        second = stacked(self._checkpoint, down, count, hidden, size)
        if isinstance(first, tuple) and isinstance(second, tuple) and self._native is not None:
            return TiledExperts(first[0], second[0], first[1], second[1], self._native)
        return MatrixExperts(tuple(zip(_each(first), _each(second), strict=True)))

    def _matrix(self, name: str, out_size: int, in_size: int) -> Matrix:
        """One matrix as the checkpoint has it, nothing copied unless its type changes."""
        stem = self._stem(name)
        self._checkpoint.ask(f"{stem}.weight", (out_size, in_size), is_matrix=True)
        found = self._checkpoint.matrix(stem, out_size, in_size)
        if found is not None:
            return found
        shape = (out_size, in_size)
        return Floats(self._checkpoint.float_tensor(f"{stem}.weight", shape, self._dtype))

    def _float_matrix(self, parts: Sequence[Matrix]) -> tuple[Tensor | None, Packed | None]:
        """One float matrix of all parts, and packed int8; (None, None) to hold them as they are."""
        plain = [part.weight for part in parts if isinstance(part, Floats)]
        if len(plain) == len(parts) == 1:
            return plain[0], None
        if len(plain) == len(parts) and self._dtype == torch.float32:
            return torch.cat(plain), None
        rows = [part for part in parts if isinstance(part, Rows) and part.is_int8_by_row]
        if len(rows) < len(parts) or self._dtype != torch.float32:
            return None, None
        together = torch.cat([part.data for part in rows])
        scale = torch.cat([part.scale[:, 0] for part in rows]).float()
        packed = Packed(pack_int8(together), scale) if self._pack else None
        return dequantize_int8(together, scale), packed

    def _stem(self, name: str) -> str:
        """A layer's name on disk, or what it should be called there."""
        return self._stems.get(name, name if name == "lm_head" else f"model.{name}")


def sanitize(names: Iterable[str]) -> dict[str, str]:
    """Our tensor names -> those of a checkpoint, which may or may not start with `model.`."""
    return {name.removeprefix("model."): name for name in names}


def _each(experts: tuple[Tensor, TiledShape] | list[Rows]) -> Sequence[Matrix]:
    """A matrix an expert."""
    if isinstance(experts, list):
        return experts
    return [Tiles(data, experts[1]) for data in experts[0]]


def _above(parts: Sequence[Matrix]) -> Matrix:
    return parts[0] if len(parts) == 1 else Above(tuple(parts))


def _stacked(parts: Sequence[Packed | None]) -> Packed | None:
    found = [p for p in parts if p is not None]
    if len(found) < len(parts):
        return None
    return Packed(torch.stack([p.table for p in found]), torch.stack([p.scale for p in found]))

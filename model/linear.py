"""Linear layers and experts as they are held in memory, and how they are read from a checkpoint.

A layer always has its float matrix. One whose file is int8 also has the packed integers, which are
read for few tokens: a quarter of the bytes, at the same accuracy (`kernels/int8_linear.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.int8_linear import FEW_TOKENS, int8_linear, int8_supported, pack_int8
from qcoder.kernels.moe import experts, experts_int8
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.quant import dequantize_int8


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
class Linear:
    """y = x @ weight^T + bias; weight: [out, in]."""

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
class Experts:
    """SwiGLU experts; gate and up are one matrix an expert, gate rows first.

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


class WeightReader:
    """Reads a checkpoint by our names, which are the hub's without a leading `model.`."""

    __slots__ = ("_checkpoint", "_dtype", "_names", "_pack")

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self._checkpoint, self._dtype = checkpoint, dtype
        self._names = sanitize(checkpoint.files)
        self._pack = dtype == torch.float32 and int8_supported()

    def _on_disk(self, name: str) -> str:
        return self._names.get(name, name if name.startswith("lm_head.") else f"model.{name}")

    def tensor(self, name: str, *shape: int) -> Tensor:
        """One tensor of exactly `shape`, as floating point."""
        return self._checkpoint.float_tensor(self._on_disk(name), shape, self._dtype)

    def linear(self, parts: Sequence[tuple[str, int]], in_size: int, bias: bool = False) -> Linear:
        """Layers (name, outputs) with the same input, one above the other in one matrix."""
        weight, packed = self._matrix([(f"{n}.weight", size, in_size) for n, size in parts])
        offset = torch.cat([self.tensor(f"{n}.bias", size) for n, size in parts]) if bias else None
        return Linear(weight, offset, packed)

    def experts(self, stems: Sequence[str], hidden: int, size: int) -> Experts:
        """The experts at `stems`, each with gate_proj, up_proj and down_proj."""
        gate_up = torch.empty(len(stems), 2 * size, hidden, dtype=self._dtype)
        down = torch.empty(len(stems), hidden, size, dtype=self._dtype)
        firsts: list[Packed | None] = []
        seconds: list[Packed | None] = []
        for e, stem in enumerate(stems):
            gate, up = f"{stem}gate_proj.weight", f"{stem}up_proj.weight"
            gate_up[e], first = self._matrix([(gate, size, hidden), (up, size, hidden)])
            down[e], second = self._matrix([(f"{stem}down_proj.weight", hidden, size)])
            firsts.append(first)
            seconds.append(second)
        return Experts(gate_up, down, _stacked(firsts), _stacked(seconds))

    def _matrix(self, parts: list[tuple[str, int, int]]) -> tuple[Tensor, Packed | None]:
        """Matrices (name, out, in) above each other, and packed if all of them are int8."""
        rows, scales = [], []
        for name, *shape in parts:
            found = self._checkpoint.int8_rows(self._on_disk(name), tuple(shape))
            if found is None or not self._pack:
                return torch.cat([self.tensor(*part) for part in parts]), None
            rows.append(found[0])
            scales.append(found[1])
        together, scale = torch.cat(rows), torch.cat(scales).float()
        return dequantize_int8(together, scale), Packed(pack_int8(together), scale)


def sanitize(names: Iterable[str]) -> dict[str, str]:
    """Our tensor names -> those of a checkpoint, which may or may not start with `model.`."""
    return {name.removeprefix("model."): name for name in names}


def _stacked(parts: Sequence[Packed | None]) -> Packed | None:
    found = [p for p in parts if p is not None]
    if len(found) < len(parts):
        return None
    return Packed(torch.stack([p.table for p in found]), torch.stack([p.scale for p in found]))

"""Weights as the Triton kernels read them: floats, int8, float8 in blocks, or int4 in words.

Four bits: eight values a 32-bit word. Four words, 16 bytes, hold 32 neighbouring columns: nibble i of
word j is column  4 i + j, so that one nibble of the four words gives neighbouring columns. The value
is n * scale + offset, in groups of 32 columns and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["float", "int8", "fp8", "int4"]

SPAN = 32
"""Columns that four words of int4 hold."""

FP8_BLOCK = 128
FP8_MAX = 448.0
NIBBLES = 8


@dataclass(frozen=True, slots=True, eq=False)
class GpuMatrix:
    """One matrix [rows, columns], or one for each expert in front.

    data: [..., rows, columns] float, int8 or float8_e4m3fn, or [..., rows, columns / 8] int32.
    scale: int4, int8: [..., rows, columns / group]; fp8: [..., rows / 128, columns / 128], rounded up.
    offset: int4 only, as scale; None means -8 * scale.
    """

    kind: Kind
    data: Tensor
    columns: int
    scale: Tensor | None = None
    offset: Tensor | None = None
    group: int = 0

    @property
    def rows(self) -> int:
        """Outputs of one matrix."""
        return self.data.shape[-2]

    @property
    def size_bytes(self) -> int:
        """Memory of all tensors."""
        return sum(t.nbytes for t in (self.data, self.scale, self.offset) if t is not None)

    def to(self, device: torch.device | str) -> GpuMatrix:
        """The same on another device."""
        scale = None if self.scale is None else self.scale.to(device)
        offset = None if self.offset is None else self.offset.to(device)
        return GpuMatrix(self.kind, self.data.to(device), self.columns, scale, offset, self.group)

    def floats(self) -> Tensor:
        """The plain version of what the kernels unpack: [..., rows, columns] float32."""
        if self.kind == "float":
            return self.data.float()
        assert self.scale is not None
        if self.kind == "fp8":
            wide = self.scale.float().repeat_interleave(FP8_BLOCK, -1)
            wide = wide.repeat_interleave(FP8_BLOCK, -2)
            return self.data.float() * wide[..., : self.rows, : self.columns]
        wide = self.scale.float().repeat_interleave(self.group, -1)
        if self.kind == "int8":
            return self.data.float() * wide
        values = unpack_int4(self.data).float()
        if self.offset is None:
            return (values - 8) * wide
        return values * wide + self.offset.float().repeat_interleave(self.group, -1)


def pack_int4(values: Tensor) -> Tensor:
    """int32 words [..., columns / 8] of values 0 to 15 [..., columns]; columns: a multiple of 32."""
    planes = values.reshape(*values.shape[:-1], -1, NIBBLES, SPAN // NIBBLES).to(torch.int64)
    shifts = 4 * torch.arange(NIBBLES, device=values.device).unsqueeze(1)
    words = (planes << shifts).sum(-2)
    return (words - ((words >> 31) << 32)).to(torch.int32).flatten(-2)


def unpack_int4(words: Tensor) -> Tensor:
    """Values [..., columns] uint8 of `pack_int4`'s words."""
    planes = words.reshape(*words.shape[:-1], -1, 1, SPAN // NIBBLES)
    shifts = 4 * torch.arange(NIBBLES, device=words.device, dtype=torch.int32).unsqueeze(1)
    return ((planes >> shifts) & 15).to(torch.uint8).flatten(-3)


def quantize(weight: Tensor, kind: Kind, group: int = 128) -> GpuMatrix:
    """Round a float matrix [..., rows, columns]; symmetric, scales from the largest of a group."""
    columns = weight.shape[-1]
    if kind == "float":
        return GpuMatrix("float", weight, columns)
    if kind == "fp8":
        return _quantize_fp8(weight)
    top = 7 if kind == "int4" else 127
    groups = weight.float().reshape(*weight.shape[:-1], -1, group)
    scale = (groups.abs().amax(-1) / top).clamp_min(1e-8).to(torch.float16)
    values = (groups / scale.float().unsqueeze(-1)).round().clamp(-top - 1, top).flatten(-2)
    if kind == "int8":
        return GpuMatrix(kind, values.to(torch.int8), columns, scale, group=group)
    return GpuMatrix(kind, pack_int4((values + 8).to(torch.uint8)), columns, scale, group=group)


def _quantize_fp8(weight: Tensor) -> GpuMatrix:
    rows, columns = weight.shape[-2:]
    high, wide = -(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK)
    pad = (0, wide * FP8_BLOCK - columns, 0, high * FP8_BLOCK - rows)
    padded = torch.nn.functional.pad(weight.float(), pad)
    blocks = padded.reshape(*weight.shape[:-2], high, FP8_BLOCK, wide, FP8_BLOCK)
    scale = (blocks.abs().amax((-3, -1)) / FP8_MAX).clamp_min(1e-12)
    values = (blocks / scale.unsqueeze(-1).unsqueeze(-3)).reshape(padded.shape)
    data = values[..., :rows, :columns].to(torch.float8_e4m3fn).contiguous()
    return GpuMatrix("fp8", data, columns, scale, group=FP8_BLOCK)

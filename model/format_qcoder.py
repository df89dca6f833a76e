"""Our own int4, int8 and fp8, and the plain checkpoint: a layer is quantized if its type says so.

    X.weight        I8 [out, in]       X.weight_scale  F16 [out]           int8, a scale a row
    X.weight        F8_E4M3 [out, in]  X.weight_scale  F16 [out]           fp8, a scale a row
    X.weight        U8 [out, in / 2]   X.weight_scale  F16 [out, groups]   int4, see int4_linear.py

The experts of a layer lie together: `experts.gate_up_proj` and `experts.down_proj` with a first
dimension for the expert (`stacked`), so that a large model is a few hundred tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from qcoder.model.matrix import Matrix, Rows
from qcoder.model.tensor_file import FLOATS

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader

ALIGNMENT = 32
"""A group of int4 columns is a multiple of this, so that kernels need no ragged case."""


def reader(settings: dict[str, Any]) -> MatrixReader:
    """No option is needed: sizes are those of the tensors."""
    return read


def read(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Matrix | None:
    """The matrix of a layer, None if it is plain."""
    return _rows(checkpoint, stem, (out_size, in_size))


def stacked(
    checkpoint: Checkpoint, stem: str, count: int, out_size: int, in_size: int
) -> list[Rows]:
    """The matrices of all experts where they lie together, [] where they do not."""
    stack = _rows(checkpoint, stem, (count, out_size, in_size))
    if stack is None:
        return []
    return [Rows(stack.data[e], stack.scale[e], stack.group) for e in range(count)]


def _rows(checkpoint: Checkpoint, stem: str, shape: tuple[int, ...]) -> Rows | None:
    name = f"{stem}.weight"
    kind = checkpoint.kind(name)
    if kind not in ("I8", "F8_E4M3", "U8"):
        return None
    if kind != "U8":
        scale = _scale(checkpoint, f"{name}_scale", shape[:-1]).unsqueeze(-1)
        return Rows(checkpoint.raw(name, shape), scale, shape[-1])
    data = checkpoint.raw(name, (*shape[:-1], shape[-1] // 2))
    groups = checkpoint.shape(f"{name}_scale")[-1]
    if not groups or shape[-1] % (groups * ALIGNMENT):
        raise checkpoint.damaged(f"{name}_scale", f"divides {shape[-1]} columns into {groups}")
    return Rows(
        data, _scale(checkpoint, f"{name}_scale", (*shape[:-1], groups)), shape[-1] // groups
    )


def _scale(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Tensor:
    scale = checkpoint.raw(name, shape)
    if checkpoint.kind(name) not in FLOATS:
        raise checkpoint.wrong_kind(name, "a float type")
    return scale

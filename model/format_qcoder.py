"""Our own int4, int8 and fp8, and the plain checkpoint: a layer is quantized if its type says so.

    X.weight   U8 [tiles, groups, bytes]       int4 or int8 in the kernels' order (`kernels/tiled.py`)
    X.residual U8 [tiles, groups, bytes]       what X.weight leaves out, as tiles of the same form
    X.weight   I8 [out, in]        X.weight_scale  F16 [out]    int8, a scale a row
    X.weight   F8_E4M3 [out, in]   X.weight_scale  F16 [out]    fp8, a scale a row

A tile has 16 rows; the bytes of a group, 16 rows * bits / 8 * columns + 32 for scales, say how many bits.
The experts of a layer lie together: `experts.gate_up_proj` and `experts.down_proj` with a first
dimension for the expert (`stacked`), so that a large model is a few hundred tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from qcoder.kernels.tiled import OFFSETS, TILE_ROWS, TiledShape
from qcoder.model.matrix import Matrix, Rows, Tiles, TwoPlanes
from qcoder.model.tensor_file import FLOATS

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader


RESIDUAL = "residual"


def reader(settings: dict[str, Any]) -> MatrixReader:
    """No option is needed: sizes are those of the tensors."""
    return read


def read(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Matrix | None:
    """The matrix of a layer, None if it is plain."""
    name = f"{stem}.weight"
    if checkpoint.kind(name) == "U8":
        shape = tiled_shape(checkpoint, name, out_size, in_size)
        tiles = Tiles(checkpoint.raw(name), shape)
        residual = f"{stem}.{RESIDUAL}"
        if not checkpoint.kind(residual):
            return tiles
        return TwoPlanes(tiles, Tiles(checkpoint.raw(residual, checkpoint.shape(name)), shape))
    return _rows(checkpoint, stem, (out_size, in_size))


def stacked(
    checkpoint: Checkpoint, stem: str, count: int, out_size: int, in_size: int
) -> tuple[Tensor, TiledShape] | list[Rows]:
    """The experts of a layer where they lie together: tiles [count, ...], or rows; [] elsewhere."""
    name = f"{stem}.weight"
    if checkpoint.kind(name) == "U8":
        shape = tiled_shape(checkpoint, name, out_size, in_size, count)
        return checkpoint.raw(name), shape
    stack = _rows(checkpoint, stem, (count, out_size, in_size))
    if stack is None:
        return []
    return [Rows(stack.data[e], stack.scale[e], stack.group) for e in range(count)]


def tiled_shape(
    checkpoint: Checkpoint, name: str, out_size: int, in_size: int, count: int | None = None
) -> TiledShape:
    """What the dimensions of a tensor of tiles mean; raises `CheckpointError`."""
    found = checkpoint.shape(name)
    stack, tail = ((), found) if count is None else (found[:1], found[1:])
    if len(tail) == 3 and stack == (() if count is None else (count,)) and tail[1]:
        group = in_size // tail[1]
        for bits in OFFSETS:
            try:
                shape = TiledShape(out_size, in_size, bits, group)
            except ValueError:
                continue
            if tail == (out_size // TILE_ROWS, shape.groups, shape.group_bytes):
                return shape
    raise checkpoint.damaged(name, f"is {list(found)}, no tiles of [{out_size}, {in_size}]")


def _rows(checkpoint: Checkpoint, stem: str, shape: tuple[int, ...]) -> Rows | None:
    name = f"{stem}.weight"
    if checkpoint.kind(name) not in ("I8", "F8_E4M3"):
        return None
    scale = _scale(checkpoint, f"{name}_scale", shape[:-1]).unsqueeze(-1)
    return Rows(checkpoint.raw(name, shape), scale, shape[-1])


def _scale(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> Tensor:
    scale = checkpoint.raw(name, shape)
    if checkpoint.kind(name) not in FLOATS:
        raise checkpoint.wrong_kind(name, "a float type")
    return scale

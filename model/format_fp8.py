"""FP8 with a scale a block of 128 x 128, as Qwen's own FP8 checkpoints have it.

    X.weight F8_E4M3 [out, in]    X.weight_scale_inv BF16, F32 or F8_E8M0 [ceil(out/128), ceil(in/128)]
    w = fp8 * scale_inv

Layers of `modules_to_not_convert` are plain and are seen by their type. Activations stay as they are:
rounding them to fp8, which a GPU does for speed, would only lose accuracy here.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from qcoder.model.matrix import Matrix, Rows

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader

SCALES = ("BF16", "F32", "F16", "F8_E8M0")


def reader(settings: dict[str, Any]) -> MatrixReader:
    """For blocks of `weight_block_size`; raises ValueError for another kind of FP8."""
    block = settings.get("weight_block_size")
    sized = isinstance(block, list) and len(block) == 2 and all(isinstance(n, int) for n in block)
    if not isinstance(block, list) or not sized or min(block) < 1:
        raise ValueError(f"fp8 with weight_block_size {block!r} is not supported; only blocks are")
    rows, columns = block

    def read(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Matrix | None:
        name = f"{stem}.weight"
        if checkpoint.kind(name) != "F8_E4M3":
            return None
        data = checkpoint.raw(name, (out_size, in_size))
        scale_name = f"{name}_scale_inv"
        blocks = checkpoint.raw(scale_name, (ceil(out_size / rows), ceil(in_size / columns)))
        if checkpoint.kind(scale_name) not in SCALES:
            raise checkpoint.wrong_kind(scale_name, "a float type")
        # A scale a row: 3 % more memory, and parts of different heights can be read in one way.
        scale = blocks.float().repeat_interleave(rows, dim=0)[:out_size]
        return Rows(data, scale, columns)

    return read

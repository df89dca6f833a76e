"""GGUF: each tensor has its own kind, packed or float, and experts of a layer lie together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcoder.model.gguf_blocks import KINDS, Blocks
from qcoder.model.matrix import Floats, Matrix

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader


def reader(settings: dict[str, Any]) -> MatrixReader:
    """No option is needed: each tensor says its kind."""
    return read


def read(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Matrix | None:
    """The matrix of a layer, None if it is plain; an expert's is cut out of its stack."""
    name = f"{stem}.weight"
    kind = checkpoint.kind(name)
    if kind in KINDS:
        return Blocks(checkpoint.raw(name, (out_size, in_size)), kind)
    before, _, rest = stem.rpartition(".experts.")
    expert, _, projection = rest.partition(".")
    stack = f"{before}.experts.{projection}.weight"
    if kind or not before or not expert.isdigit() or not checkpoint.kind(stack):
        return None
    count = checkpoint.shape(stack)[0]
    if int(expert) >= count:
        raise checkpoint.damaged(stack, f"has {count} experts, config.json more than {expert}")
    data = checkpoint.raw(stack, (count, out_size, in_size))[int(expert)]
    kind = checkpoint.kind(stack)
    return Blocks(data, kind) if kind in KINDS else Floats(data)

"""GPTQ int4, both versions, with and without sorted columns ("desc_act").

    X.qweight int32 [in / 8, out]   X.qzeros int32 [groups, out / 8]   X.scales F16 [groups, out]
    X.g_idx int32 [in]: the group of each column
    w = (q - zero) * scale

Eight values a word, in plain order from the lowest bits on: of an input column in `qweight`, of
outputs in `qzeros`. Version 1 stores zero - 1, `checkpoint_format: gptq_v2` the zero itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qcoder.kernels.int4_linear import pack_int4, unpack_int4
from qcoder.model.matrix import Matrix, Rows
from qcoder.model.tensor_file import FLOATS

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader


def reader(settings: dict[str, Any]) -> MatrixReader:
    """Raises ValueError for other than 4 bits or an unknown version."""
    bits, version = settings.get("bits", 4), settings.get("checkpoint_format", "gptq")
    if bits != 4 or version not in ("gptq", "gptq_v2"):
        raise ValueError(
            f"gptq with {bits} bits, format {version!r}, is not supported; only 4, gptq or gptq_v2"
        )
    return partial(read, 1 if version == "gptq" else 0)


def read(
    missing: int, checkpoint: Checkpoint, stem: str, out_size: int, in_size: int
) -> Matrix | None:
    """The matrix of a layer, None if it is plain; `missing` is added to the stored zeros."""
    if not checkpoint.kind(f"{stem}.qweight"):
        return None
    words = checkpoint.raw(f"{stem}.qweight", (in_size // 8, out_size))
    groups = checkpoint.shape(f"{stem}.scales")[0]
    if not groups or in_size % groups:
        raise checkpoint.damaged(f"{stem}.scales", f"divides {in_size} columns into {groups}")
    scale = checkpoint.raw(f"{stem}.scales", (groups, out_size)).t().contiguous()
    zeros = checkpoint.raw(f"{stem}.qzeros", (groups, out_size // 8))
    for name, kinds in (("qweight", ("I32",)), ("qzeros", ("I32",)), ("scales", FLOATS)):
        if checkpoint.kind(f"{stem}.{name}") not in kinds:
            raise checkpoint.wrong_kind(f"{stem}.{name}", kinds[0])
    # Little-endian words in plain order are bytes with the lower value in the lower half.
    packed = words.t().contiguous().view(torch.uint8)
    zero = unpack_int4(zeros.contiguous().view(torch.uint8)).t().float() + missing
    order = column_order(checkpoint, f"{stem}.g_idx", in_size, groups)
    if order is not None:
        packed = pack_int4(unpack_int4(packed)[:, order])
    return Rows(packed, scale, in_size // groups, -zero * scale.float(), order)


def column_order(checkpoint: Checkpoint, name: str, in_size: int, groups: int) -> Tensor | None:
    """The columns sorted by the group that tensor `name` gives them, None if they are already."""
    if not checkpoint.kind(name):
        return None
    group_of = checkpoint.raw(name, (in_size,))
    if group_of.is_meta:
        return None
    regular = torch.arange(in_size) // (in_size // groups)
    if torch.equal(group_of.long(), regular):
        return None
    order = torch.argsort(group_of, stable=True)
    if not torch.equal(group_of[order].long(), regular):
        raise checkpoint.damaged(
            name, f"has groups that are not all of {in_size // groups} columns"
        )
    return order

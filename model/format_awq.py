"""AWQ int4 in its "gemm" form.

    X.qweight int32 [in, out / 8]    X.qzeros int32 [groups, out / 8]    X.scales F16 [groups, out]
    w = (q - zero) * scale

The eight values of a word are outputs, in the order 0 2 4 6 1 3 5 7 from the lowest bits on. Read as
rows of two values a byte, with offset = -zero * scale, which float32 holds exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qcoder.kernels.int4_linear import pack_int4
from qcoder.model.matrix import Matrix, Rows
from qcoder.model.tensor_file import FLOATS

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which output the i-th value of a word belongs to."""


def reader(settings: dict[str, Any]) -> MatrixReader:
    """Raises ValueError for anything but 4 bits in the gemm form."""
    bits = settings.get("bits", settings.get("w_bit", 4))
    version = str(settings.get("version", "gemm")).lower()
    if bits != 4 or version != "gemm":
        raise ValueError(
            f"awq with {bits} bits, version {version!r}, is not supported; only 4, gemm"
        )
    return read


def read(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Matrix | None:
    """The matrix of a layer, None if it is plain."""
    if not checkpoint.kind(f"{stem}.qweight"):
        return None
    words = checkpoint.raw(f"{stem}.qweight", (in_size, out_size // 8))
    groups = checkpoint.shape(f"{stem}.scales")[0]
    scale = checkpoint.raw(f"{stem}.scales", (groups, out_size))
    if not groups or in_size % groups:
        raise checkpoint.damaged(f"{stem}.scales", f"divides {in_size} columns into {groups}")
    for name, kinds in (("qweight", ("I32",)), ("qzeros", ("I32",)), ("scales", FLOATS)):
        if checkpoint.kind(f"{stem}.{name}") not in kinds:
            raise checkpoint.wrong_kind(f"{stem}.{name}", kinds[0])
    zero = unpack(checkpoint.raw(f"{stem}.qzeros", (groups, out_size // 8)))
    scale = scale.t().contiguous()
    offset = -zero.t().float() * scale.float()
    return Rows(pack_int4(unpack(words).t()), scale, in_size // groups, offset)


def unpack(words: Tensor) -> Tensor:
    """Words [rows, out / 8] as values [rows, out] uint8."""
    values = torch.empty(*words.shape, 8, dtype=torch.uint8, device=words.device)
    for place, column in enumerate(ORDER):
        values[..., column] = (words >> (4 * place)) & 15
    return values.flatten(-2)

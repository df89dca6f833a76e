"""compressed-tensors (llm-compressor): packed int4, and int8 or fp8 with a scale a row or a tensor.

    X.weight_packed int32 [out, in / 8]      X.weight_scale [out, groups]
    X.weight_zero_point int32 [out / 8, groups], packed along outputs, when asymmetric
    X.weight_g_idx [in]: the group of each column, when they were sorted ("actorder")
    w = (q - zero) * scale, where zero is 8 when symmetric

    X.weight I8 or F8_E4M3 [out, in]         X.weight_scale [out, 1], [out] or [1]

Eight values a word, in plain order from the lowest bits on: as bytes, exactly our own int4, so those
tensors are used where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qcoder.kernels.int4_linear import pack_int4, unpack_int4
from qcoder.model.errors import CheckpointError
from qcoder.model.format_gptq import column_order
from qcoder.model.matrix import Matrix, Rows
from qcoder.model.tensor_file import FLOATS

if TYPE_CHECKING:
    from qcoder.model.checkpoint import Checkpoint
    from qcoder.model.formats import MatrixReader

FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized")


def reader(settings: dict[str, Any]) -> MatrixReader:
    """Raises ValueError for a form or a number of bits that is not read."""
    form = settings.get("format", "pack-quantized")
    if form not in FORMATS:
        raise ValueError(f"compressed-tensors {form!r} is not supported; only {', '.join(FORMATS)}")
    for name, group in (settings.get("config_groups") or {}).items():
        bits = (group.get("weights") or {}).get("num_bits")
        wanted = 4 if form == "pack-quantized" else 8
        if bits != wanted:
            raise ValueError(
                f"compressed-tensors {form!r} with {bits} bits in {name!r} is not supported; "
                f"only {wanted}"
            )
    return read


def read(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Matrix | None:
    """The matrix of a layer, None if it is plain."""
    if checkpoint.kind(f"{stem}.weight_packed"):
        return _packed(checkpoint, stem, out_size, in_size)
    if checkpoint.kind(f"{stem}.weight") in ("I8", "F8_E4M3"):
        data = checkpoint.raw(f"{stem}.weight", (out_size, in_size))
        scale = _scale(checkpoint, stem).reshape(-1, 1)
        if scale.shape[0] not in (1, out_size):
            raise checkpoint.damaged(f"{stem}.weight_scale", "is neither one a row nor one")
        _refuse_asymmetric(checkpoint, f"{stem}.weight_zero_point")
        return Rows(data, scale.expand(out_size, 1), in_size)
    return None


def _refuse_asymmetric(checkpoint: Checkpoint, name: str) -> None:
    zero = checkpoint.raw(name) if checkpoint.kind(name) else None
    if zero is not None and not zero.is_meta and zero.any():
        raise CheckpointError(
            f"{checkpoint.files[name].name}: tensor {name!r} makes int8 asymmetric, which is not "
            "read; take a symmetric one, or int4"
        )


def _packed(checkpoint: Checkpoint, stem: str, out_size: int, in_size: int) -> Rows:
    words = checkpoint.raw(f"{stem}.weight_packed", (out_size, in_size // 8))
    if checkpoint.kind(f"{stem}.weight_packed") != "I32":
        raise checkpoint.wrong_kind(f"{stem}.weight_packed", "I32")
    scale = _scale(checkpoint, stem)
    groups = scale.shape[-1]
    if scale.shape != (out_size, groups) or not groups or in_size % groups:
        raise checkpoint.damaged(f"{stem}.weight_scale", f"has the shape {list(scale.shape)}")
    packed, offset = words.view(torch.uint8), None
    if checkpoint.kind(f"{stem}.weight_zero_point"):
        zeros = checkpoint.raw(f"{stem}.weight_zero_point", (-(-out_size // 8), groups))
        zero = unpack_int4(zeros.t().contiguous().view(torch.uint8))[:, :out_size].t()
        offset = -zero.float() * scale.float()
    order = column_order(checkpoint, f"{stem}.weight_g_idx", in_size, groups)
    if order is not None:
        packed = pack_int4(unpack_int4(packed)[:, order])
    return Rows(packed, scale, in_size // groups, offset, order)


def _scale(checkpoint: Checkpoint, stem: str) -> Tensor:
    name = f"{stem}.weight_scale"
    if checkpoint.kind(name) not in FLOATS:
        checkpoint.shape(name)  # a missing one is said to be missing
        raise checkpoint.wrong_kind(name, "a float type")
    return checkpoint.raw(name)

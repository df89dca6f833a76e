"""The norm of many tokens: x / sqrt(mean(x^2) + eps) * weight, in the type of matrix products."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT_TORCH, Config
from qcoder.kernels.gpu.launch import launch


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[tokens, size] float32 of x: [tokens, size]."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.float()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm_reference`, rounded to bfloat16 on a GPU; x: float32, a program a token."""
    tokens, size = x.shape
    assert x.is_contiguous()
    out = torch.empty(tokens, size, device=x.device, dtype=DOT_TORCH)
    block = triton.next_power_of_2(size)
    launch(
        _norm_kernel, (tokens,), Config(warps=8 if block >= 4096 else 4),
        x, weight, out, eps, SIZE=size, BLOCK=block,
    )  # fmt: skip
    return out


@triton.jit
def _norm_kernel(x_ptr, weight_ptr, out_ptr, eps, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * SIZE
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row + i, mask=i < SIZE, other=0.0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(x * x, axis=0) / SIZE + eps)
    weight = tl.load(weight_ptr + i, mask=i < SIZE, other=0.0).to(tl.float32)
    tl.store(out_ptr + row + i, (x * factor * weight).to(out_ptr.dtype.element_ty), mask=i < SIZE)

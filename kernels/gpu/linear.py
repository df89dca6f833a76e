"""y = norm(x) W^T + bias + residual for few tokens, with the norm and the sum in the same launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT, MANY, bits_of_one, few_config, row_steps, token_block
from qcoder.kernels.gpu.launch import launch
from qcoder.kernels.gpu.matrix import GpuMatrix
from qcoder.kernels.gpu.rows import few_product


def linear_reference(
    x: Tensor,
    matrix: GpuMatrix,
    norm: Tensor | None = None,
    eps: float = 0.0,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """[tokens, rows] float32. x: [tokens, columns]; norm: [columns]; residual: [tokens, rows]."""
    x = x.float()
    if norm is not None:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * norm.float()
    y = x @ matrix.floats().T
    y = y if bias is None else y + bias.float()
    return y if residual is None else y + residual.float()


def linear(
    x: Tensor,
    matrix: GpuMatrix,
    norm: Tensor | None = None,
    eps: float = 0.0,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`linear_reference` of up to 16 tokens in one launch."""
    tokens, rows = x.shape[0], matrix.rows
    assert x.shape[1] == matrix.columns
    assert x.stride(1) == 1
    assert tokens <= MANY
    assert residual is None or residual.is_contiguous()
    out = torch.empty(tokens, rows, device=x.device, dtype=torch.float32) if out is None else out
    config = few_config(matrix, tokens)
    launch(
        _linear_kernel, (triton.cdiv(rows, config.block_n),), config,
        x, norm, bias, residual, out, x.stride(0), tokens, eps,
        matrix.data, matrix.scale, matrix.offset, bits_of_one(matrix.data.device), ROWS=rows, COLUMNS=matrix.columns,
        KIND=matrix.kind, GROUP=matrix.group, OFFSETS=matrix.offset is not None,
        NORM=norm is not None, BIAS=bias is not None, RESIDUAL=residual is not None,
        TOKENS=token_block(tokens), BLOCK_N=config.block_n, BLOCK_K=config.block_k, DOT=DOT,
        **row_steps(config, matrix.kind, rows, matrix.columns),
    )  # fmt: skip
    return out


@triton.jit
def _linear_kernel(
    x_ptr, norm_ptr, bias_ptr, residual_ptr, out_ptr, x_stride, tokens, eps,
    data_ptr, scale_ptr, offset_ptr, ones_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KIND: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, NORM: tl.constexpr,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr, TOKENS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, DOT: tl.constexpr, STEPS: tl.constexpr, UNROLL: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    y, squares = few_product(
        x_ptr, norm_ptr, x_stride, tokens, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS, COLUMNS,
        KIND, GROUP, OFFSETS, NORM, TOKENS, STEPS, UNROLL, BLOCK_N, LANES, VECTOR, EVEN,
        BLOCK_K, DOT,
    )  # fmt: skip
    if NORM:
        y *= tl.rsqrt(squares / COLUMNS + eps)[:, None]
    if BIAS:
        y += tl.load(bias_ptr + n, mask=n < ROWS, other=0.0).to(tl.float32)[None, :]
    t = tl.arange(0, TOKENS)
    mask = (t < tokens)[:, None] & (n < ROWS)[None, :]
    at = t[:, None] * ROWS + n[None, :]
    if RESIDUAL:
        y += tl.load(residual_ptr + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, y, mask=mask)

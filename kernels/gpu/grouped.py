"""Products of many tokens with one matrix, or each with the matrices of its experts.

Tokens are sorted by expert, and each expert's part filled up to whole blocks, so that a block of the
product has one matrix. The weights are the left factor: they are unpacked in registers, from
where Hopper's matrix instructions can take it. Of int4, eight nibbles of a word are eight products;
`for_int4` puts the columns of the inputs into that order, so that each product's are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT, DOT_TORCH, INTERPRETED, Config, bits_of_one, capability
from qcoder.kernels.gpu.launch import launch
from qcoder.kernels.gpu.matrix import GpuMatrix
from qcoder.kernels.gpu.rows import int4_values

BLOCKS = (16, 32, 64, 128)
"""Tokens of a block."""


@dataclass(frozen=True, slots=True, eq=False)
class Sorted:
    """Tokens in blocks of one expert each.

    row: [blocks * block] int32, token * slots + slot at a place, or -1; expert: [blocks] int32, or -1.
    """

    row: Tensor
    expert: Tensor
    block: int
    slots: int


def block_of(pairs: int, experts: int) -> int:
    """Tokens a block for `pairs` of token and expert: about what an expert gets, 16 to 128."""
    if INTERPRETED:
        return BLOCKS[0]
    return next((b for b in BLOCKS if b * experts >= pairs), BLOCKS[-1])


def sort_by_expert(chosen: Tensor, experts: int) -> Sorted:
    """Sort [tokens, slots] on the device, without waiting for it."""
    slots = chosen.shape[1]
    flat, device = chosen.flatten().long(), chosen.device
    block = block_of(flat.numel(), experts)
    blocks = min(-(-flat.numel() // block) + experts, flat.numel())
    counts = torch.zeros(experts, dtype=torch.long, device=device)
    counts.scatter_add_(0, flat, torch.ones_like(flat))
    filled = (counts + block - 1) // block * block
    ends = filled.cumsum(0)
    order = flat.argsort(stable=True)
    experts_in_order = flat[order]
    rank = torch.arange(flat.numel(), device=device) - (counts.cumsum(0) - counts)[experts_in_order]
    row = torch.full((blocks * block,), -1, dtype=torch.int32, device=device)
    row[(ends - filled)[experts_in_order] + rank] = order.int()
    starts = torch.arange(blocks, device=device) * block
    expert = torch.searchsorted(ends, starts, right=True).int()
    return Sorted(row, torch.where(expert < experts, expert, -1), block, slots)


@lru_cache(maxsize=32)
def int4_order(columns: int, device: torch.device) -> Tensor:
    """Columns in the order in which int4 products take them, [columns]."""
    step = int4_step(columns)
    j = torch.arange(step // 8)
    block = torch.stack([j // 4 * 32 + plane * 4 + j % 4 for plane in range(8)]).flatten()
    return (torch.arange(columns // step).unsqueeze(1) * step + block).flatten().to(device)


def int4_step(columns: int) -> int:
    """Columns of a step: eight products of at least 16; raises `ValueError`."""
    for step in (256, 128):
        if columns % step == 0:
            return step
    raise ValueError(f"int4 products of many tokens need a multiple of 128 columns, not {columns}")


def for_matrix(x: Tensor, matrix: GpuMatrix) -> Tensor:
    """x: [tokens, columns] as `many_linear` and the others take it for `matrix`."""
    x = x.to(DOT_TORCH)
    if matrix.kind != "int4":
        return x.contiguous()
    return x.index_select(1, int4_order(matrix.columns, x.device))


def many_linear(
    x: Tensor, matrix: GpuMatrix, bias: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """x matrix^T + bias: [tokens, rows] of x = `for_matrix`: [tokens, columns]."""
    out = torch.empty(x.shape[0], matrix.rows, device=x.device, dtype=dtype)
    _run(x, matrix, out, None, None, pair=False)
    return out if bias is None else out + bias.to(dtype)


def experts_many(
    x: Tensor,
    gate_up: GpuMatrix,
    down: GpuMatrix,
    chosen: Tensor,
    weights: Tensor,
    residual: Tensor,
) -> Tensor:
    """residual + the weighted sum of the chosen experts of x: [tokens, hidden] float32.

    x: [tokens, hidden], the norm of the residual stream; chosen, weights: [tokens, slots].
    """
    order = sort_by_expert(chosen, gate_up.data.shape[0])
    parts = experts_sorted(for_matrix(x, gate_up), gate_up, down, order, weights)
    return residual + parts.view(*chosen.shape, -1).float().sum(1)


def experts_sorted(
    x: Tensor, gate_up: GpuMatrix, down: GpuMatrix, order: Sorted, weights: Tensor
) -> Tensor:
    """The weighted outputs [tokens * slots, hidden] of x = `for_matrix` of the inputs."""
    places = order.row.shape[0]
    inner = torch.empty(places, gate_up.rows // 2, device=x.device, dtype=DOT_TORCH)
    _run(x, gate_up, inner, order, None, pair=True)
    parts = torch.empty(x.shape[0] * order.slots, down.rows, device=x.device, dtype=DOT_TORCH)
    _run(for_matrix(inner, down), down, parts, order, weights, pair=False)
    return parts


def experts_many_reference(
    x: Tensor,
    gate_up: GpuMatrix,
    down: GpuMatrix,
    chosen: Tensor,
    weights: Tensor,
    residual: Tensor,
) -> Tensor:
    """The plain version of `experts_many`."""
    first, second, out = gate_up.floats(), down.floats(), residual.clone()
    for t in range(x.shape[0]):
        for expert, weight in zip(chosen[t].tolist(), weights[t].tolist(), strict=True):
            gate, up = (first[expert] @ x[t].float()).chunk(2)
            out[t] += weight * (second[expert] @ (F.silu(gate) * up))
    return out


def _config(kind: str, block: int, pair: bool, columns: int, group: int, gpu: int) -> Config:
    rows = 64 if block < 64 else 128
    if kind != "float" and (pair or gpu < 90):  # two sums, or factors in registers
        rows = 64 if gpu >= 90 or not pair else 32
    if INTERPRETED:
        rows = 64
    step = {"float": 64, "int8": 128, "fp8": 128}.get(kind) or int4_step(columns)
    if kind == "int8" and group % step:
        step = group & -group
    return Config(
        block_n=rows, block_k=step, block_m=block, warps=8 if block == 128 or (block == 64 and rows == 128) else 4,
        stages=2 if kind == "int4" else 3,
    )  # fmt: skip


def _run(
    x: Tensor,
    matrix: GpuMatrix,
    out: Tensor,
    order: Sorted | None,
    weights: Tensor | None,
    pair: bool,
) -> None:
    """The second product of experts (with `weights`) finds its inputs sorted, the first gathers them."""
    tokens = x.shape[0]
    block = order.block if order else block_of(tokens, 1)
    gpu = capability(x.device)
    config = _config(matrix.kind, block, pair, matrix.columns, matrix.group, gpu)
    rows = matrix.rows // 2 if pair else matrix.rows
    blocks = order.expert.shape[0] if order else triton.cdiv(tokens, block)
    constants: dict[str, Any] = {
        "ROWS": rows, "COLUMNS": matrix.columns, "KIND": matrix.kind, "GROUP": matrix.group,
        "OFFSETS": matrix.offset is not None, "PAIR": pair, "SORTED": order is not None,
        "SLOTS": order.slots if order else 1, "WEIGHTED": weights is not None,
        "BLOCK_M": block, "BLOCK_N": config.block_n, "BLOCK_K": config.block_k, "DOT": DOT,
    }  # fmt: skip
    launch(
        _grouped_kernel, (triton.cdiv(rows, config.block_n), blocks), config,
        x, order.row if order else None, order.expert if order else None, weights, out, tokens,
        matrix.data, matrix.scale, matrix.offset, bits_of_one(x.device), **constants,
    )  # fmt: skip


@triton.jit
def _product(
    acc, x_ptr, x_rows, x_mask, k0, row, inside, base, data_ptr, scale_ptr, offset_ptr, ones,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr,
    OFFSETS: tl.constexpr, BLOCK_K: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """acc [BLOCK_N, BLOCK_M] plus one step over the columns from k0 on.

    row: [BLOCK_N, 1] of one matrix; base: rows of the matrices before it.
    """
    if KIND == "int4":
        WORDS: tl.constexpr = BLOCK_K // 8
        j = tl.arange(0, WORDS)
        at = (base + row) * (COLUMNS // 8) + k0 // 8 + j[None, :]
        words = tl.load(data_ptr + at, mask=inside, other=0)
        at = (base + row) * (COLUMNS // GROUP) + ((k0 + (j // 4) * 32) // GROUP)[None, :]
        scale = tl.load(scale_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if OFFSETS:
            offset = tl.load(offset_ptr + at, mask=inside, other=0.0).to(tl.float32)
        else:
            offset = scale * -8.0
        for plane in tl.static_range(8):
            k = k0 + plane * WORDS + j  # in the order of `int4_order`
            x = tl.load(x_ptr + x_rows[None, :] + k[:, None], mask=x_mask[None, :], other=0.0)
            w = int4_values(words, ones, plane, scale, offset)
            acc = tl.dot(w.to(DOT), x.to(DOT), acc, input_precision="ieee")
    else:
        k = k0 + tl.arange(0, BLOCK_K)
        used = k < COLUMNS
        x = tl.load(
            x_ptr + x_rows[None, :] + k[:, None], mask=x_mask[None, :] & used[:, None], other=0.0
        )
        at = (base + row) * COLUMNS + k[None, :]
        w = tl.load(data_ptr + at, mask=inside & used[None, :], other=0.0)
        if KIND == "float":
            acc = tl.dot(w.to(DOT), x.to(DOT), acc, input_precision="ieee")
        else:
            part = tl.dot(w.to(tl.float32).to(DOT), x.to(DOT), input_precision="ieee")
            if KIND == "fp8":
                blocks = tl.cdiv(COLUMNS, GROUP)
                at = base // ROWS * (tl.cdiv(ROWS, GROUP) * blocks) + row // GROUP * blocks
                at += k0 // GROUP
            else:
                at = (base + row) * (COLUMNS // GROUP) + k0 // GROUP
            acc += part * tl.load(scale_ptr + at, mask=inside, other=0.0).to(tl.float32)
    return acc


@triton.jit
def _grouped_kernel(
    x_ptr, row_ptr, expert_ptr, weights_ptr, out_ptr, tokens, data_ptr, scale_ptr, offset_ptr,
    ones_ptr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr,
    OFFSETS: tl.constexpr, PAIR: tl.constexpr, SORTED: tl.constexpr, SLOTS: tl.constexpr,
    WEIGHTED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(1)
    place = block * BLOCK_M + tl.arange(0, BLOCK_M)
    expert = 0
    if SORTED:
        expert = tl.load(expert_ptr + block)
        source = tl.load(row_ptr + place)
        x_mask = source >= 0
        x_row = place if WEIGHTED else source // SLOTS
        out_row = source if WEIGHTED else place
    else:
        x_mask = place < tokens
        x_row = place
        out_row = place
    if expert >= 0:
        n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (n < ROWS)[:, None]
        row = n[:, None].to(tl.int64)
        HEIGHT: tl.constexpr = 2 * ROWS if PAIR else ROWS
        base = tl.zeros([1, 1], tl.int64) + expert * HEIGHT
        ones = tl.load(ones_ptr)
        x_rows = x_row.to(tl.int64) * COLUMNS
        acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for k0 in range(0, COLUMNS, BLOCK_K):
            acc = _product(
                acc, x_ptr, x_rows, x_mask, k0, row, inside, base, data_ptr, scale_ptr,
                offset_ptr, ones, HEIGHT, COLUMNS, KIND, GROUP, OFFSETS, BLOCK_K, DOT,
            )  # fmt: skip
            if PAIR:
                up = _product(
                    up, x_ptr, x_rows, x_mask, k0, row + ROWS, inside, base, data_ptr, scale_ptr,
                    offset_ptr, ones, HEIGHT, COLUMNS, KIND, GROUP, OFFSETS, BLOCK_K, DOT,
                )  # fmt: skip
        if PAIR:
            acc = acc * tl.sigmoid(acc) * up
        if WEIGHTED:
            acc *= tl.load(weights_ptr + source, mask=x_mask, other=0.0)[None, :]
        at = out_row.to(tl.int64)[:, None] * ROWS + n[None, :]
        mask = (n < ROWS)[None, :] & (
            x_mask[:, None] if WEIGHTED or not SORTED else (place >= 0)[:, None]
        )
        tl.store(out_ptr + at, tl.trans(acc).to(out_ptr.dtype.element_ty), mask=mask)

"""The chosen experts of few tokens in two launches: no sorting, no padding, no scattering.

    inner[t, s] = silu(gate_e x_t) * up_e x_t      one program a token, slot and block of inner rows
    y_t = x_t + sum over slots s of w_s down_e inner[t, s]      one program a token and block of outputs

Each program reads its own rows of the matrices, so that the reads are what must be read, and nothing
is written twice. Gate and up rows of an expert are one matrix, gate rows first. An expert that all
tokens pass through is one more slot.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import bits_of_one, row_config, row_steps
from qcoder.kernels.gpu.launch import launch
from qcoder.kernels.gpu.matrix import GpuMatrix
from qcoder.kernels.gpu.router import Routed
from qcoder.kernels.gpu.rows import row_product


def experts_reference(routed: Routed, gate_up: GpuMatrix, down: GpuMatrix) -> Tensor:
    """x + experts(norm(x)): [tokens, hidden] float32.

    gate_up: [experts, 2 * size, hidden]; down: [experts, hidden, size].
    """
    normed = routed.gained * routed.factor.unsqueeze(1)
    first, second, out = gate_up.floats(), down.floats(), routed.x.clone()
    for t in range(out.shape[0]):
        chosen, weights = routed.chosen[t].tolist(), routed.weights[t].tolist()
        for expert, weight in zip(chosen, weights, strict=True):
            gate, up = (first[expert] @ normed[t]).chunk(2)
            out[t] += weight * (second[expert] @ (F.silu(gate) * up))
    return out


def experts_inner(routed: Routed, gate_up: GpuMatrix, out: Tensor | None = None) -> Tensor:
    """silu(gate) * up of the norm of x: [tokens * slots, size] float32, in one launch."""
    tokens, slots = routed.chosen.shape
    size = gate_up.rows // 2
    assert routed.gained.shape == (tokens, gate_up.columns)
    if out is None:
        out = torch.empty(tokens * slots, size, device=routed.x.device, dtype=torch.float32)
    config = row_config(gate_up.kind, gate_up.rows, gate_up.columns, tokens * slots)
    launch(
        _gate_up_kernel, (triton.cdiv(size, config.block_n // 2), tokens * slots), config,
        routed.gained, routed.factor, routed.chosen, out, gate_up.data, gate_up.scale,
        gate_up.offset, bits_of_one(gate_up.data.device),
        SIZE=size, COLUMNS=gate_up.columns, KIND=gate_up.kind, GROUP=gate_up.group,
        OFFSETS=gate_up.offset is not None, SLOTS=slots, BLOCK_N=config.block_n,
        **row_steps(config, gate_up.kind, gate_up.rows, gate_up.columns),
    )  # fmt: skip
    return out


def experts_outer(
    inner: Tensor, routed: Routed, down: GpuMatrix, out: Tensor | None = None
) -> Tensor:
    """x + the weighted sum of the down projections: [tokens, hidden] float32, in one launch."""
    tokens, slots = routed.chosen.shape
    assert inner.shape == (tokens * slots, down.columns)
    out = torch.empty_like(routed.x) if out is None else out
    config = row_config(down.kind, down.rows, down.columns, tokens, slots)
    launch(
        _down_kernel, (triton.cdiv(down.rows, config.block_n), tokens), config,
        inner, routed.chosen, routed.weights, routed.x, out, down.data, down.scale, down.offset,
        bits_of_one(down.data.device),
        ROWS=down.rows, COLUMNS=down.columns, KIND=down.kind, GROUP=down.group,
        OFFSETS=down.offset is not None, SLOTS=slots, BLOCK_N=config.block_n,
        **row_steps(config, down.kind, down.rows, down.columns, slots),
    )  # fmt: skip
    return out


@triton.jit
def _gate_up_kernel(
    x_ptr, factor_ptr, chosen_ptr, out_ptr, data_ptr, scale_ptr, offset_ptr, ones_ptr,
    SIZE: tl.constexpr, COLUMNS: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr,
    OFFSETS: tl.constexpr, SLOTS: tl.constexpr, BLOCK_N: tl.constexpr, STEPS: tl.constexpr,
    UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(1)
    token = place // SLOTS
    expert = tl.load(chosen_ptr + place).to(tl.int64)
    # Rows of gate and up in turn, so that a pair ends in one thread.
    HALF: tl.constexpr = BLOCK_N // 2
    first = tl.program_id(0) * HALF
    i = tl.arange(0, BLOCK_N)
    n = first + i // 2
    # Beyond the last row of gate, nothing is read: the row of up would be the next expert's.
    n = tl.where(n < SIZE, n + (i % 2) * SIZE, 2 * SIZE)
    y, _ = row_product(
        x_ptr + token * COLUMNS, None, expert, None, None, data_ptr, scale_ptr, offset_ptr, ones_ptr,
        n, 2 * SIZE, COLUMNS,
        KIND, GROUP, OFFSETS, False, 0, STEPS, UNROLL, BLOCK_N, LANES, VECTOR, EVEN,
    )  # fmt: skip
    y *= tl.load(factor_ptr + token)
    gate, up = tl.split(tl.reshape(y, [HALF, 2]))
    inner = gate * tl.sigmoid(gate) * up
    at = first + tl.arange(0, HALF)
    tl.store(out_ptr + place * SIZE + at, inner, mask=at < SIZE)


@triton.jit
def _down_kernel(
    inner_ptr, chosen_ptr, weights_ptr, residual_ptr, out_ptr, data_ptr, scale_ptr, offset_ptr, ones_ptr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr,
    OFFSETS: tl.constexpr, SLOTS: tl.constexpr, BLOCK_N: tl.constexpr, STEPS: tl.constexpr,
    UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(1)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    y, _ = row_product(
        inner_ptr + token * (SLOTS * COLUMNS), None, 0, chosen_ptr + token * SLOTS,
        weights_ptr + token * SLOTS, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS, COLUMNS,
        KIND, GROUP, OFFSETS, False, SLOTS, STEPS, UNROLL, BLOCK_N, LANES, VECTOR, EVEN,
    )  # fmt: skip
    at = token * ROWS + n
    y += tl.load(residual_ptr + at, mask=n < ROWS, other=0.0)
    tl.store(out_ptr + at, y, mask=n < ROWS)

"""The projection out of the attention, the sum with the residual stream, and the router in one launch.

A program has some rows of x' = x + W a, and with them its part of the router's products: those of
its columns. The last program to finish adds the parts in their order, so that the result does not
depend on who was last, and chooses the top k. For several tokens this last part is a launch of its
own, a program a token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import (
    DOT,
    MANY,
    Config,
    bits_of_one,
    few_config,
    row_steps,
    token_block,
)
from qcoder.kernels.gpu.launch import launch
from qcoder.kernels.gpu.matrix import GpuMatrix
from qcoder.kernels.gpu.rows import few_product

COMPARED = 2048
"""Pairs of experts that a pass of the choice compares."""


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """weight: [hidden, experts]; norm: [hidden]; shared: [hidden], the gate of an expert for all tokens.

    With `shared`, the choice has one slot more: expert number `experts`, weighted by a sigmoid.
    """

    weight: Tensor
    norm: Tensor
    eps: float
    top_k: int
    renormalize: bool
    shared: Tensor | None = None

    @property
    def experts(self) -> int:
        """Experts to choose from."""
        return self.weight.shape[1]

    @property
    def slots(self) -> int:
        """Experts a token."""
        return self.top_k + (self.shared is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """What the experts of a layer need of each token.

    x: [tokens, hidden], the residual stream; gained: [tokens, hidden], x times the weight of the
    norm; factor: [tokens], what makes a norm of it; chosen: [tokens, slots] int32, best first, and
    their weights. All but `chosen` are float32.
    """

    x: Tensor
    gained: Tensor
    factor: Tensor
    chosen: Tensor
    weights: Tensor

    @staticmethod
    def empty(tokens: int, hidden: int, slots: int, device: torch.device | str) -> Routed:
        """To be written by `out_and_route`."""
        return Routed(
            torch.empty(tokens, hidden, device=device),
            torch.empty(tokens, hidden, device=device),
            torch.empty(tokens, device=device),
            torch.empty(tokens, slots, device=device, dtype=torch.int32),
            torch.empty(tokens, slots, device=device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RouterScratch:
    """Parts of the sums: [tokens, parts, experts] and [tokens, parts, 2]; `arrived` is zero between launches."""

    parts: Tensor
    sums: Tensor
    arrived: Tensor


def router_scratch(
    tokens: int, hidden: int, experts: int, device: torch.device | str
) -> RouterScratch:
    """What `out_and_route` needs for up to `tokens` tokens."""
    count = triton.cdiv(hidden, 16)
    return RouterScratch(
        torch.empty(tokens, count, experts, device=device, dtype=torch.float32),
        torch.empty(tokens, count, 2, device=device, dtype=torch.float32),
        torch.zeros(1, device=device, dtype=torch.int32),
    )


def route_reference(x: Tensor, router: Router) -> tuple[Tensor, Tensor]:
    """Chosen experts [tokens, slots] int32, best first, and their weights, float32, of x [tokens, hidden]."""
    x = x.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + router.eps) * router.norm.float()
    scores = torch.softmax(x @ router.weight.float(), dim=-1)
    weights, chosen = torch.topk(scores, router.top_k, dim=-1)
    if router.renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    if router.shared is not None:
        gate = torch.sigmoid(x @ router.shared.float()).unsqueeze(1)
        weights = torch.cat([weights, gate], dim=1)
        chosen = torch.cat([chosen, torch.full_like(chosen[:, :1], router.experts)], dim=1)
    return chosen.int(), weights


def out_and_route(
    a: Tensor, matrix: GpuMatrix, residual: Tensor, router: Router, scratch: RouterScratch,
    out: Routed | None = None,
) -> Routed:  # fmt: skip
    """x = residual + matrix a, and `route_reference` of x.

    a: [tokens, columns]; residual: [tokens, hidden]; up to 16 tokens.
    """
    tokens, hidden = residual.shape
    assert a.shape == (tokens, matrix.columns)
    assert matrix.rows == hidden
    assert tokens <= MANY
    assert a.is_contiguous()
    assert residual.is_contiguous()
    out = out or Routed.empty(tokens, hidden, router.slots, a.device)
    config = few_config(matrix, tokens)
    wide = triton.next_power_of_2(router.experts)
    if wide > 256 or tokens > 1:
        config = replace(config, warps=8)
    programs = triton.cdiv(hidden, config.block_n)
    shared = router.shared is not None
    constants = {
        "PARTS": programs, "EXPERTS": router.experts, "WIDE": wide,
        "TOP_K": router.top_k, "RENORMALIZE": router.renormalize, "SHARED": shared, "RANKED": max(COMPARED // wide, 1),
    }  # fmt: skip
    launch(
        _out_kernel, (programs,), config,
        a, residual, out.x, out.gained, out.factor, out.chosen, out.weights, router.norm,
        router.weight, router.shared, scratch.parts, scratch.sums, scratch.arrived, tokens,
        router.eps, matrix.data, matrix.scale, matrix.offset, bits_of_one(matrix.data.device),
        ROWS=hidden, COLUMNS=matrix.columns,
        KIND=matrix.kind, GROUP=matrix.group, OFFSETS=matrix.offset is not None,
        TOKENS=token_block(tokens), BLOCK_N=config.block_n, BLOCK_K=config.block_k, DOT=DOT,
        **row_steps(config, matrix.kind, hidden, matrix.columns), **constants,
    )  # fmt: skip
    if tokens > 1:
        launch(
            _route_kernel, (tokens,), Config(0, 0, config.warps, 1),
            scratch.parts, scratch.sums, out.factor, out.chosen, out.weights, router.eps,
            ROWS=hidden, **constants,
        )  # fmt: skip
    return out


@triton.jit
def _out_kernel(
    a_ptr, residual_ptr, x_ptr, gained_ptr, factor_ptr, chosen_ptr, weights_ptr, norm_ptr,
    router_ptr, shared_ptr, parts_ptr, sums_ptr, arrived_ptr, tokens, eps, data_ptr, scale_ptr,
    offset_ptr, ones_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KIND: tl.constexpr, GROUP: tl.constexpr, OFFSETS: tl.constexpr, TOKENS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DOT: tl.constexpr, STEPS: tl.constexpr,
    UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr, EVEN: tl.constexpr,
    PARTS: tl.constexpr, EXPERTS: tl.constexpr, WIDE: tl.constexpr,
    TOP_K: tl.constexpr, RENORMALIZE: tl.constexpr, SHARED: tl.constexpr, RANKED: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0)
    n = part * BLOCK_N + tl.arange(0, BLOCK_N)
    y, _ = few_product(
        a_ptr, None, COLUMNS, tokens, data_ptr, scale_ptr, offset_ptr, ones_ptr, n, ROWS, COLUMNS,
        KIND, GROUP, OFFSETS, False, TOKENS, STEPS, UNROLL, BLOCK_N, LANES, VECTOR, EVEN,
        BLOCK_K, DOT,
    )  # fmt: skip
    t = tl.arange(0, TOKENS)
    mask = (t < tokens)[:, None] & (n < ROWS)[None, :]
    at = t[:, None] * ROWS + n[None, :]
    x = y + tl.load(residual_ptr + at, mask=mask, other=0.0)
    tl.store(x_ptr + at, x, mask=mask)
    gain = tl.load(norm_ptr + n, mask=n < ROWS, other=0.0).to(tl.float32)
    e = tl.arange(0, WIDE)
    normed = x * gain[None, :]
    tl.store(gained_ptr + at, normed, mask=mask)
    inside = (n < ROWS)[:, None] & (e < EXPERTS)[None, :]
    w = tl.load(router_ptr + n[:, None] * EXPERTS + e[None, :], mask=inside, other=0.0)
    if TOKENS == 1:
        logits = tl.sum(tl.trans(normed) * w.to(tl.float32), axis=0)[None, :]
    else:
        logits = tl.dot(normed, w.to(tl.float32), input_precision="tf32x3")
    place = t * PARTS + part
    at = place[:, None] * EXPERTS + e[None, :]
    tl.store(parts_ptr + at, logits, mask=(t < tokens)[:, None] & (e < EXPERTS)[None, :])
    tl.store(sums_ptr + place * 2, tl.sum(x * x, axis=1), mask=t < tokens)
    if SHARED:
        gate = tl.load(shared_ptr + n, mask=n < ROWS, other=0.0).to(tl.float32)
        gates = tl.sum(normed * gate[None, :], axis=1)
        tl.store(sums_ptr + place * 2 + 1, gates, mask=t < tokens)
    if TOKENS == 1:
        # What this program's threads wrote comes before the count, and the count before the reads.
        tl.debug_barrier()
        before = tl.atomic_add(arrived_ptr, 1, sem="acq_rel")
        if before == PARTS - 1:
            tl.store(arrived_ptr, 0)
            _choose(
                parts_ptr, sums_ptr, factor_ptr, chosen_ptr, weights_ptr, eps,
                ROWS, PARTS, EXPERTS, WIDE, TOP_K, RENORMALIZE, SHARED, RANKED,
            )  # fmt: skip


@triton.jit
def _route_kernel(
    parts_ptr, sums_ptr, factor_ptr, chosen_ptr, weights_ptr, eps,
    ROWS: tl.constexpr, PARTS: tl.constexpr, EXPERTS: tl.constexpr, WIDE: tl.constexpr,
    TOP_K: tl.constexpr, RENORMALIZE: tl.constexpr, SHARED: tl.constexpr, RANKED: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0)
    slots = TOP_K + 1 if SHARED else TOP_K
    _choose(
        parts_ptr + token * PARTS * EXPERTS, sums_ptr + token * PARTS * 2,
        factor_ptr + token, chosen_ptr + token * slots, weights_ptr + token * slots, eps,
        ROWS, PARTS, EXPERTS, WIDE, TOP_K, RENORMALIZE, SHARED, RANKED,
    )  # fmt: skip


@triton.jit
def _choose(
    parts_ptr, sums_ptr, factor_ptr, chosen_ptr, weights_ptr, eps,
    ROWS: tl.constexpr, PARTS: tl.constexpr, EXPERTS: tl.constexpr, WIDE: tl.constexpr,
    TOP_K: tl.constexpr, RENORMALIZE: tl.constexpr, SHARED: tl.constexpr, RANKED: tl.constexpr,
):  # fmt: skip
    """Add the parts of one token; an expert's slot is how many are better, of equals the first."""
    e = tl.arange(0, WIDE)
    logits = tl.zeros([WIDE], tl.float32)
    for part in tl.range(0, PARTS, num_stages=4):
        logits += tl.load(
            parts_ptr + part * EXPERTS + e, mask=e < EXPERTS, other=0.0, cache_modifier=".cg"
        )
    p = tl.arange(0, triton.next_power_of_2(PARTS))
    squares = tl.load(sums_ptr + p * 2, mask=p < PARTS, other=0.0, cache_modifier=".cg")
    scale = tl.rsqrt(tl.sum(squares, axis=0) / ROWS + eps)
    tl.store(factor_ptr, scale)
    logits = tl.where(e < EXPERTS, logits * scale, float("-inf"))
    # The first part is no longer needed: the logits in memory are compared with those of each thread.
    tl.debug_barrier()
    tl.store(parts_ptr + e, logits, mask=e < EXPERTS)
    tl.debug_barrier()
    rank = tl.zeros([WIDE], tl.int32)
    for first in range(0, WIDE, RANKED):
        i = first + tl.arange(0, RANKED)
        other = tl.load(parts_ptr + i, mask=i < EXPERTS, other=float("-inf"), cache_modifier=".cg")
        better = (other[None, :] > logits[:, None]) | (
            (other[None, :] == logits[:, None]) & (i[None, :] < e[:, None])
        )
        rank += tl.sum(better.to(tl.int32), axis=1)
    taken = (rank < TOP_K) & (e < EXPERTS)
    exponentials = tl.exp(logits - tl.max(logits, axis=0))
    if RENORMALIZE:
        total = tl.sum(tl.where(taken, exponentials, 0.0), axis=0)
    else:
        total = tl.sum(exponentials, axis=0)
    tl.store(chosen_ptr + rank, e, mask=taken)
    tl.store(weights_ptr + rank, exponentials / total, mask=taken)
    if SHARED:
        gates = tl.load(sums_ptr + p * 2 + 1, mask=p < PARTS, other=0.0, cache_modifier=".cg")
        tl.store(chosen_ptr + TOP_K, EXPERTS)
        tl.store(weights_ptr + TOP_K, tl.sigmoid(tl.sum(gates, axis=0) * scale))

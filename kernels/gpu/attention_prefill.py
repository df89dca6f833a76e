"""Attention of many new tokens of one sequence over all of its tokens.

Three steps: norms and rotation of the new tokens, whose keys and values go into pages; the pages of
the tokens before, turned to their positions and put side by side; and the attention itself, block by
block with running sums (FlashAttention-2, Dao 2023). The second costs what reading keys and values
once costs, which the third does again for every block of queries.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT, DOT_TORCH, INTERPRETED, Config, capability
from qcoder.kernels.gpu.heads import Heads, absolute, head_halves, rounded, split_heads, turn
from qcoder.kernels.gpu.launch import launch
from qcoder.kernels.gpu.pages import INT8_TOP, PAGE, LayerPages, Rotation

LOG2E = 1.4426950408889634


def attention_prefill_reference(
    qkv: Tensor, heads: Heads, rotation: Rotation, keys: Tensor, values: Tensor
) -> Tensor:
    """Output [tokens, heads * head_dim] float32 of new tokens behind `keys`.

    keys, values: [tokens before, kv_heads, head_dim] float32, keys normed and not rotated.
    """
    h, before = heads, keys.shape[0]
    q, k, v, gate = split_heads(qkv, h)
    k, v = torch.cat([keys, k]), torch.cat([values, v])
    at = torch.arange(k.shape[0])
    k = absolute(k, at, rotation)
    q = absolute(q, at[before:], rotation).view(-1, h.kv_heads, h.heads // h.kv_heads, h.head_dim)
    scores = torch.einsum("qkgd,tkd->kgqt", q, k) * h.head_dim**-0.5 * rotation.scale
    hidden = at.unsqueeze(0) > at[before:].unsqueeze(1)
    if h.window:
        hidden |= at.unsqueeze(0) <= at[before:].unsqueeze(1) - h.window
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    y = torch.einsum("kgqt,tkd->qkgd", weights, v).reshape(-1, h.heads, h.head_dim)
    return (y if gate is None else y * torch.sigmoid(gate)).flatten(1)


def place_heads(
    qkv: Tensor, heads: Heads, rotation: Rotation, pages: LayerPages, table: Tensor, start: int
) -> tuple[Tensor, Tensor, Tensor]:
    """q [tokens, heads, head_dim] and all keys and values [kv_heads, total, head_dim], rotated.

    qkv: [tokens, width] of the tokens from `start` on, which are written into `pages`; table:
    [pages] int32, the numbers of the sequence's pages. q holds the scale of the scores, in base 2.
    """
    h, tokens = heads, qkv.shape[0]
    total = start + tokens
    assert qkv.is_contiguous()
    q = torch.empty(tokens, h.heads, h.head_dim, device=qkv.device, dtype=DOT_TORCH)
    k = torch.empty(h.kv_heads, total, h.head_dim, device=qkv.device, dtype=DOT_TORCH)
    v = torch.empty_like(k)
    constants = {
        "KV_HEADS": h.kv_heads, "HEAD_DIM": h.head_dim, "HALF": rotation.half,
        "REST": h.head_dim - 2 * rotation.half, "INT8": pages.is_int8, "PAGE": PAGE,
    }  # fmt: skip
    block = 16
    launch(
        _place_kernel, (triton.cdiv(tokens, block), h.heads + h.kv_heads),
        Config(warps=4 if h.head_dim <= 128 else 8),
        qkv, h.q_norm, h.k_norm, table, rotation.places, rotation.pages, pages.keys, pages.values,
        pages.key_scales, pages.value_scales, q, k, v,
        h.head_dim**-0.5 * rotation.scale * LOG2E, h.eps, start, tokens, rotation.pages.shape[1],
        HEADS=h.heads, GATED=h.gated, BLOCK=block, TOP=INT8_TOP, **constants,
    )  # fmt: skip
    if start:
        launch(
            _gather_kernel, (triton.cdiv(start, PAGE), h.kv_heads), Config(warps=4),
            table, rotation.pages, pages.keys, pages.values, pages.key_scales, pages.value_scales,
            k, v, start, total, rotation.pages.shape[1], **constants,
        )  # fmt: skip
    return q, k, v


def attention_config(head_dim: int, gpu: int) -> Config:
    """Queries and keys a block; before Hopper, a warp's part is 16 queries."""
    if INTERPRETED:
        return Config(block_m=32, block_n=32)
    if gpu < 90:
        wide = head_dim > 128
        return Config(block_m=64, block_n=32 if wide else 64, warps=8 if wide else 4, stages=2)
    return Config(block_m=128, block_n=64, warps=8, stages=3 if head_dim <= 128 else 2)


def attention_blocks(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Causal attention [tokens, heads, head_dim] of the last tokens; arguments as `place_heads` gives them."""
    tokens, heads, head_dim = q.shape
    kv_heads, total, _ = k.shape
    out = torch.empty_like(q)
    config = attention_config(head_dim, capability(q.device))
    launch(
        _prefill_kernel, (triton.cdiv(tokens, config.block_m), heads), config,
        q, k, v, out, tokens, total, HEADS=heads, GROUP=heads // kv_heads, HEAD_DIM=head_dim,
        WINDOW=window, BLOCK_M=config.block_m, BLOCK_N=config.block_n, DOT=DOT,
    )  # fmt: skip
    return out


def attention_prefill(
    qkv: Tensor, heads: Heads, rotation: Rotation, pages: LayerPages, table: Tensor, start: int,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """[tokens, heads * head_dim] of qkv [tokens, width]; see `place_heads`.

    attend: another attention than `attention_blocks`, of the same arguments.
    """
    q, k, v = place_heads(qkv, heads, rotation, pages, table, start)
    out = attend(q, k, v) if attend else attention_blocks(q, k, v, heads.window)
    out = out.flatten(1)
    if not heads.gated:
        return out
    pairs = qkv[:, : 2 * heads.heads * heads.head_dim].view(qkv.shape[0], heads.heads, 2, -1)
    return out * torch.sigmoid(pairs[:, :, 1].flatten(1)).to(out.dtype)


@triton.jit
def _store_parts(
    ptr, at, mask, a, b, rest, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr
):  # fmt: skip
    """Heads [N, ...] in the parts of `head_halves` to rows `at` [N] of head_dim values."""
    i = tl.arange(0, HALF)
    d = tl.arange(0, HEAD_DIM)
    kind = ptr.dtype.element_ty
    row = ptr + at[:, None] * HEAD_DIM
    tl.store(row + i[None, :], a.to(kind), mask=mask[:, None])
    tl.store(row + HALF + i[None, :], b.to(kind), mask=mask[:, None])
    if REST:
        tl.store(row + d[None, :], rest.to(kind), mask=mask[:, None] & (d >= 2 * HALF)[None, :])


@triton.jit
def _place_kernel(
    qkv_ptr, q_norm_ptr, k_norm_ptr, table_ptr, places_ptr, turns_ptr, keys_ptr, values_ptr,
    key_scales_ptr, value_scales_ptr, q_ptr, k_ptr, v_ptr, scale, eps, start, tokens, turns,
    HEADS: tl.constexpr, GATED: tl.constexpr, BLOCK: tl.constexpr, TOP: tl.constexpr,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
    INT8: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = t < tokens
    position = start + t
    place, page = position % PAGE, position // PAGE
    i = tl.arange(0, HALF)
    d = tl.arange(0, HEAD_DIM)
    Q_STRIDE: tl.constexpr = HEAD_DIM * 2 if GATED else HEAD_DIM
    K_AT: tl.constexpr = HEADS * Q_STRIDE
    WIDTH: tl.constexpr = K_AT + 2 * KV_HEADS * HEAD_DIM
    row = t.to(tl.int64) * WIDTH
    small = places_ptr + place[:, None] * HALF + i[None, :]
    large = turns_ptr + page[:, None] * HALF + i[None, :]
    cos, sin = tl.load(small), tl.load(small + PAGE * HALF)
    page_cos = tl.load(large, mask=mask[:, None], other=0.0)
    page_sin = tl.load(large + turns * HALF, mask=mask[:, None], other=0.0)
    if head < HEADS:
        at = row + head * Q_STRIDE
        a, b, rest = head_halves(qkv_ptr, q_norm_ptr, at, mask, eps, HEAD_DIM, HALF, REST)
        a, b = turn(a, b, cos, sin)
        a, b = turn(a, b, page_cos, page_sin)
        to = t.to(tl.int64) * HEADS + head
        _store_parts(q_ptr, to, mask, a * scale, b * scale, rest * scale, HEAD_DIM, HALF, REST)
    else:
        kv_head = head - HEADS
        at = row + K_AT + kv_head * HEAD_DIM
        a, b, rest = head_halves(qkv_ptr, k_norm_ptr, at, mask, eps, HEAD_DIM, HALF, REST)
        a, b = turn(a, b, cos, sin)
        far_a, far_b = turn(a, b, page_cos, page_sin)
        to = kv_head.to(tl.int64) * (start + tokens) + position
        _store_parts(k_ptr, to, mask, far_a, far_b, rest, HEAD_DIM, HALF, REST)
        v = tl.load(
            qkv_ptr + (at + KV_HEADS * HEAD_DIM)[:, None] + d[None, :],
            mask=mask[:, None],
            other=0.0,
        ).to(tl.float32)
        tl.store(
            v_ptr + to[:, None] * HEAD_DIM + d[None, :], v.to(v_ptr.dtype.element_ty),
            mask=mask[:, None],
        )  # fmt: skip
        number = tl.load(table_ptr + page, mask=mask, other=0).to(tl.int64)
        to = (number * KV_HEADS + kv_head) * PAGE + place
        if INT8:
            top = tl.maximum(tl.max(tl.abs(a), axis=1), tl.max(tl.abs(b), axis=1))
            top = tl.maximum(tl.maximum(top, tl.max(tl.abs(rest), axis=1)), 1e-8) / TOP
            tl.store(key_scales_ptr + to, top, mask=mask)
            a, b = rounded(a / top[:, None]), rounded(b / top[:, None])
            rest = rounded(rest / top[:, None])
            top = tl.maximum(tl.max(tl.abs(v), axis=1), 1e-8) / TOP
            tl.store(value_scales_ptr + to, top, mask=mask)
            v = rounded(v / top[:, None])
        _store_parts(keys_ptr, to, mask, a, b, rest, HEAD_DIM, HALF, REST)
        tl.store(
            values_ptr + to[:, None] * HEAD_DIM + d[None, :],
            v.to(values_ptr.dtype.element_ty), mask=mask[:, None],
        )  # fmt: skip


@triton.jit
def _gather_kernel(
    table_ptr, turns_ptr, keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, k_ptr, v_ptr,
    start, total, turns,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
    INT8: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    page, kv_head = tl.program_id(0), tl.program_id(1)
    j = tl.arange(0, PAGE)
    i = tl.arange(0, HALF)
    d = tl.arange(0, HEAD_DIM)
    number = tl.load(table_ptr + page).to(tl.int64)
    source = (number * KV_HEADS + kv_head) * PAGE + j
    mask = page * PAGE + j < start
    k_row = keys_ptr + source[:, None] * HEAD_DIM
    a = tl.load(k_row + i[None, :]).to(tl.float32)
    b = tl.load(k_row + HALF + i[None, :]).to(tl.float32)
    v = tl.load(values_ptr + source[:, None] * HEAD_DIM + d[None, :]).to(tl.float32)
    rest = v
    if REST:
        rest = tl.load(k_row + d[None, :]).to(tl.float32)
    if INT8:
        scale = tl.load(key_scales_ptr + source)[:, None]
        a, b, rest = a * scale, b * scale, rest * scale
        v *= tl.load(value_scales_ptr + source)[:, None]
    cos = tl.load(turns_ptr + page * HALF + i)[None, :]
    sin = tl.load(turns_ptr + (turns + page) * HALF + i)[None, :]
    a, b = turn(a, b, cos, sin)
    to = kv_head.to(tl.int64) * total + page * PAGE + j
    _store_parts(k_ptr, to, mask, a, b, rest, HEAD_DIM, HALF, REST)
    tl.store(
        v_ptr + to[:, None] * HEAD_DIM + d[None, :],
        v.to(v_ptr.dtype.element_ty),
        mask=mask[:, None],
    )


@triton.jit
def _attend(
    q, k_ptr, v_ptr, first, position, total, best, sums, acc,
    HEAD_DIM: tl.constexpr, WINDOW: tl.constexpr, MASKED: tl.constexpr, BLOCK_N: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """One block of keys from `first` on; MASKED: some of them are not seen by all queries."""
    # Offsets of a block in 32 bits: 64 bits a value would take most of the registers.
    j = tl.arange(0, BLOCK_N)
    n = first + j
    at = first * HEAD_DIM + j[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    k = tl.load(k_ptr + at, mask=(n < total)[:, None], other=0.0)
    scores = tl.dot(q, tl.trans(k.to(DOT)), input_precision="ieee")
    if MASKED:
        seen = n[None, :] <= position[:, None]
        if WINDOW:
            seen = seen & (n[None, :] > position[:, None] - WINDOW)
        scores = tl.where(seen, scores, float("-inf"))
    top = tl.maximum(best, tl.max(scores, axis=1))
    safe = top
    if MASKED:
        safe = tl.where(top == float("-inf"), 0.0, top)
    p = tl.exp2(scores - safe[:, None])
    fade = tl.exp2(best - safe)
    v = tl.load(v_ptr + at, mask=(n < total)[:, None], other=0.0)
    acc = tl.dot(p.to(DOT), v.to(DOT), acc * fade[:, None], input_precision="ieee")
    return top, sums * fade + tl.sum(p, axis=1), acc


@triton.jit
def _prefill_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, tokens, total,
    HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, WINDOW: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    # The last blocks have most keys: they begin first.
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    t = block * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, HEAD_DIM)
    at = (t.to(tl.int64)[:, None] * HEADS + head) * HEAD_DIM + d[None, :]
    q = tl.load(q_ptr + at, mask=(t < tokens)[:, None], other=0.0).to(DOT)
    before = total - tokens
    position = before + t
    k_ptr += (head // GROUP).to(tl.int64) * total * HEAD_DIM
    v_ptr += (head // GROUP).to(tl.int64) * total * HEAD_DIM
    best = tl.full([BLOCK_M], float("-inf"), tl.float32)
    sums = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
    # Keys that all queries of the block see, then the others.
    plain = (before + block * BLOCK_M + 1) // BLOCK_N * BLOCK_N
    end = tl.minimum(before + (block + 1) * BLOCK_M, total)
    low = 0
    if WINDOW:
        plain = tl.maximum(before + block * BLOCK_M - WINDOW + 1, 0) // BLOCK_N * BLOCK_N
        low = plain
    for first in range(low, plain, BLOCK_N):
        best, sums, acc = _attend(
            q, k_ptr, v_ptr, first, position, total, best, sums, acc,
            HEAD_DIM, WINDOW, False, BLOCK_N, DOT,
        )  # fmt: skip
    for first in range(plain, end, BLOCK_N):
        best, sums, acc = _attend(
            q, k_ptr, v_ptr, first, position, total, best, sums, acc,
            HEAD_DIM, WINDOW, True, BLOCK_N, DOT,
        )  # fmt: skip
    y = acc / sums[:, None]
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=(t < tokens)[:, None])

"""Attention of few new tokens over the pages of their sequences, in one launch.

    norms of q and k, rotation, attention over the pages and the new tokens, writing k and v, gate

A program has one token, one head of keys and a part of the pages (split-KV, "flash decoding", Dao et
al. 2023). The last program of a token and head to finish puts the parts together, in their order.
New tokens of one sequence see each other through `qkv`, since their pages are being written.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT, INTERPRETED, Config
from qcoder.kernels.gpu.heads import Heads, absolute, head_halves, rounded, split_heads, turn
from qcoder.kernels.gpu.launch import launch
from qcoder.kernels.gpu.pages import INT8_TOP, PAGE, LayerPages, Rotation

QUERIES = 16
"""Query heads of a key head, filled up: what a matrix product has at least."""

SPLITS = 4 if INTERPRETED else 32
"""Programs of a token and a head of keys; four heads of keys fill the multiprocessors."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where new tokens are: tensors [tokens] int32, and [tokens, pages] int32.

    position: in the sequence; first: the index of the sequence's first new token; pages: numbers of
    the sequence's pages, that of the token itself included.
    """

    position: Tensor
    first: Tensor
    pages: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class DecodeScratch:
    """Parts [tokens, kv_heads, SPLITS, QUERIES, ...]; `arrived` is zero between launches."""

    parts: Tensor
    sums: Tensor
    arrived: Tensor


def decode_scratch(tokens: int, heads: Heads, device: torch.device | str) -> DecodeScratch:
    """What `attention_decode` needs for up to `tokens` tokens."""
    shape = (tokens, heads.kv_heads, SPLITS, QUERIES)
    return DecodeScratch(
        torch.empty(*shape, heads.head_dim, device=device),
        torch.empty(*shape, 2, device=device),
        torch.zeros(tokens, heads.kv_heads, dtype=torch.int32, device=device),
    )


def attention_decode_reference(
    qkv: Tensor,
    heads: Heads,
    places: Places,
    rotation: Rotation,
    keys: list[Tensor],
    values: list[Tensor],
) -> Tensor:
    """Output [tokens, heads * head_dim] float32.

    keys, values: for each token, those before the sequence's first new one [tokens before,
    kv_heads, head_dim] float32, keys normed and not rotated.
    """
    h, out = heads, []
    q, k, v, gate = split_heads(qkv, h)
    for t in range(qkv.shape[0]):
        first, position = int(places.first[t]), int(places.position[t])
        all_k, all_v = (
            torch.cat([keys[t], k[first : t + 1]]),
            torch.cat([values[t], v[first : t + 1]]),
        )
        at = torch.arange(position + 1)
        turned = absolute(all_k, at, rotation)
        query = absolute(q[t : t + 1], places.position[t : t + 1], rotation)[0]
        groups = query.view(h.kv_heads, -1, h.head_dim)
        scores = torch.einsum("kgd,tkd->kgt", groups, turned) * h.head_dim**-0.5 * rotation.scale
        if h.window:
            scores = scores.masked_fill(at <= position - h.window, -torch.inf)
        y = torch.einsum("kgt,tkd->kgd", scores.softmax(-1), all_v).reshape(h.heads, h.head_dim)
        out.append((y if gate is None else y * torch.sigmoid(gate[t])).flatten())
    return torch.stack(out)


def attention_decode(
    qkv: Tensor,
    heads: Heads,
    places: Places,
    rotation: Rotation,
    pages: LayerPages,
    scratch: DecodeScratch,
    out: Tensor | None = None,
) -> Tensor:
    """[tokens, heads * head_dim] float32 of qkv [tokens, width]; writes k and v into `pages`."""
    tokens, h = qkv.shape[0], heads
    assert qkv.is_contiguous()
    assert qkv.shape[1] == h.width
    assert h.heads // h.kv_heads <= QUERIES
    if out is None:
        out = torch.empty(tokens, h.heads * h.head_dim, device=qkv.device)
    rest = h.head_dim - 2 * rotation.half
    launch(
        _decode_kernel, (SPLITS, h.kv_heads, tokens),
        Config(warps=4, stages=3) if h.head_dim <= 128 else Config(warps=8, stages=2),
        qkv, h.q_norm, h.k_norm, places.position, places.first, places.pages, rotation.places,
        rotation.pages, pages.keys, pages.values, pages.key_scales, pages.value_scales,
        scratch.parts, scratch.sums, scratch.arrived, out,
        h.head_dim**-0.5 * rotation.scale, h.eps, places.pages.stride(0), rotation.pages.shape[1],
        HEADS=h.heads, KV_HEADS=h.kv_heads, HEAD_DIM=h.head_dim, HALF=rotation.half, REST=rest,
        GATED=h.gated, WINDOW=h.window, INT8=pages.is_int8, PAGE=PAGE,
        BLOCK=PAGE if h.head_dim <= 128 else PAGE // 2, QUERIES=QUERIES,
        SPLITS=SPLITS, DOT=DOT, TOP=INT8_TOP,
    )  # fmt: skip
    return out


@triton.jit
def _decode_kernel(
    qkv_ptr, q_norm_ptr, k_norm_ptr, position_ptr, first_ptr, table_ptr, places_ptr, turns_ptr,
    keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, parts_ptr, sums_ptr, arrived_ptr,
    out_ptr, scale, eps, table_stride, turns,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr,
    REST: tl.constexpr, GATED: tl.constexpr, WINDOW: tl.constexpr, INT8: tl.constexpr,
    PAGE: tl.constexpr, BLOCK: tl.constexpr, QUERIES: tl.constexpr, SPLITS: tl.constexpr,
    DOT: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    split, kv_head, token = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    Q_STRIDE: tl.constexpr = HEAD_DIM * 2 if GATED else HEAD_DIM
    K_AT: tl.constexpr = HEADS * Q_STRIDE
    WIDTH: tl.constexpr = K_AT + 2 * KV_HEADS * HEAD_DIM
    position = tl.load(position_ptr + token)
    first = tl.load(first_ptr + token)
    before = position - (token - first)  # tokens of the sequence that are in pages already
    g = tl.arange(0, QUERIES)
    i = tl.arange(0, HALF)
    d = tl.arange(0, HEAD_DIM)
    j = tl.arange(0, BLOCK)
    row_ptr = qkv_ptr + token.to(tl.int64) * WIDTH
    q_at = (kv_head * GROUP + g) * Q_STRIDE
    q_a, q_b, q_rest = head_halves(row_ptr, q_norm_ptr, q_at, g < GROUP, eps, HEAD_DIM, HALF, REST)
    q_a, q_b, q_rest = q_a * scale, q_b * scale, q_rest * scale

    best = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, HEAD_DIM], tl.float32)

    # The pages of this part; the query turned to its place first, then by a number of pages.
    place = position % PAGE
    cos = tl.load(places_ptr + place * HALF + i)[None, :]
    sin = tl.load(places_ptr + PAGE * HALF + place * HALF + i)[None, :]
    local_a, local_b = turn(q_a, q_b, cos, sin)
    start = 0
    if WINDOW:
        start = tl.maximum(position - WINDOW + 1, 0) // PAGE
    pages = tl.cdiv(before, PAGE) - start
    share = tl.cdiv(pages, SPLITS)
    low = start + split * share
    high = start + tl.minimum((split + 1) * share, pages)
    PARTS: tl.constexpr = PAGE // BLOCK
    for part in tl.range(low * PARTS, high * PARTS):
        page = part // PARTS
        number = tl.load(table_ptr + token * table_stride + page).to(tl.int64)
        distance = position // PAGE - page
        cos = tl.load(turns_ptr + distance * HALF + i)[None, :]
        sin = tl.load(turns_ptr + (turns + distance) * HALF + i)[None, :]
        a, b = turn(local_a, local_b, cos, sin)
        in_page = (part % PARTS) * BLOCK + j
        at = (number * KV_HEADS + kv_head) * PAGE + in_page
        k_ptr = keys_ptr + at[:, None] * HEAD_DIM
        k_a = tl.load(k_ptr + i[None, :])
        k_b = tl.load(k_ptr + HALF + i[None, :])
        scores = tl.dot(a.to(DOT), tl.trans(k_a.to(DOT)), input_precision="ieee")
        scores = tl.dot(b.to(DOT), tl.trans(k_b.to(DOT)), scores, input_precision="ieee")
        if REST:
            kept = (d >= 2 * HALF)[None, :] & (j >= 0)[:, None]
            k_rest = tl.load(k_ptr + d[None, :], mask=kept, other=0.0)
            scores = tl.dot(
                q_rest.to(DOT), tl.trans(k_rest.to(DOT)), scores, input_precision="ieee"
            )
        if INT8:
            scores *= tl.load(key_scales_ptr + at)[None, :]
        at_position = page * PAGE + in_page
        seen = at_position < before
        if WINDOW:
            seen = seen & (at_position > position - WINDOW)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        top = tl.maximum(best, tl.max(scores, axis=1))
        safe = tl.where(top == float("-inf"), 0.0, top)
        p = tl.exp(scores - safe[:, None])
        fade = tl.exp(best - safe)
        total = total * fade + tl.sum(p, axis=1)
        best = top
        v = tl.load(values_ptr + at[:, None] * HEAD_DIM + d[None, :])
        if INT8:
            p *= tl.load(value_scales_ptr + at)[None, :]
        acc = tl.dot(p.to(DOT), v.to(DOT), acc * fade[:, None], input_precision="ieee")

    if split == SPLITS - 1:
        one = tl.arange(0, 1)
        for other in tl.range(first, token + 1):
            distance = token - other
            k_at = other * WIDTH + K_AT + kv_head * HEAD_DIM
            k_a, k_b, k_rest = head_halves(
                qkv_ptr, k_norm_ptr, k_at + one, one == 0, eps, HEAD_DIM, HALF, REST
            )
            cos = tl.load(places_ptr + distance * HALF + i)[None, :]
            sin = tl.load(places_ptr + (PAGE + distance) * HALF + i)[None, :]
            a, b = turn(q_a, q_b, cos, sin)
            scores = tl.sum(a * k_a + b * k_b, axis=1)
            if REST:
                scores += tl.sum(q_rest * k_rest, axis=1)
            if WINDOW:
                scores = tl.where(distance < WINDOW, scores, float("-inf"))
            top = tl.maximum(best, scores)
            safe = tl.where(top == float("-inf"), 0.0, top)
            p = tl.exp(scores - safe)
            fade = tl.exp(best - safe)
            total = total * fade + p
            best = top
            v = tl.load(qkv_ptr + k_at + KV_HEADS * HEAD_DIM + d).to(tl.float32)
            acc = acc * fade[:, None] + p[:, None] * v[None, :]
        number = tl.load(table_ptr + token * table_stride + position // PAGE).to(tl.int64)
        _write_own(
            row_ptr + K_AT + kv_head * HEAD_DIM, k_norm_ptr, places_ptr, place,
            (number * KV_HEADS + kv_head) * PAGE + place, keys_ptr, values_ptr, key_scales_ptr,
            value_scales_ptr, eps, KV_HEADS, HEAD_DIM, HALF, REST, INT8, PAGE, TOP,
        )  # fmt: skip

    base = (token * KV_HEADS + kv_head) * SPLITS
    slot = (base + split) * QUERIES + g
    tl.store(parts_ptr + slot[:, None] * HEAD_DIM + d[None, :], acc, mask=(g < GROUP)[:, None])
    tl.store(sums_ptr + slot * 2, best)
    tl.store(sums_ptr + slot * 2 + 1, total)
    tl.debug_barrier()
    counter = arrived_ptr + token * KV_HEADS + kv_head
    arrived = tl.atomic_add(counter, 1, sem="acq_rel")
    if arrived == SPLITS - 1:
        tl.store(counter, 0)
        _join(
            row_ptr, parts_ptr, sums_ptr, out_ptr + token.to(tl.int64) * (HEADS * HEAD_DIM), base,
            kv_head, HEAD_DIM, GROUP, GATED, QUERIES, SPLITS,
        )  # fmt: skip


@triton.jit
def _write_own(
    k_ptr, k_norm_ptr, places_ptr, place, at, keys_ptr, values_ptr, key_scales_ptr,
    value_scales_ptr, eps,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
    INT8: tl.constexpr, PAGE: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """The key and value of one new token and head to place `at` of all pages' places."""
    one = tl.arange(0, 1)
    i = tl.arange(0, HALF)
    d = tl.arange(0, HEAD_DIM)
    cos = tl.load(places_ptr + place * HALF + i)[None, :]
    sin = tl.load(places_ptr + PAGE * HALF + place * HALF + i)[None, :]
    a, b, rest = head_halves(k_ptr, k_norm_ptr, one * 0, one == 0, eps, HEAD_DIM, HALF, REST)
    a, b = turn(a, b, cos, sin)
    v = tl.load(k_ptr + KV_HEADS * HEAD_DIM + d).to(tl.float32)
    if INT8:
        top = tl.maximum(tl.max(tl.abs(a)), tl.max(tl.abs(b)))
        top = tl.maximum(tl.maximum(top, tl.max(tl.abs(rest))), 1e-8) / TOP
        tl.store(key_scales_ptr + at, top)
        a, b, rest = rounded(a / top), rounded(b / top), rounded(rest / top)
        top = tl.maximum(tl.max(tl.abs(v)), 1e-8) / TOP
        tl.store(value_scales_ptr + at, top)
        v = rounded(v / top)
    kind = keys_ptr.dtype.element_ty
    tl.store(keys_ptr + at * HEAD_DIM + i[None, :], a.to(kind))
    tl.store(keys_ptr + at * HEAD_DIM + HALF + i[None, :], b.to(kind))
    if REST:
        kept = (d >= 2 * HALF)[None, :]
        tl.store(keys_ptr + at * HEAD_DIM + d[None, :], rest.to(kind), mask=kept)
    tl.store(values_ptr + at * HEAD_DIM + d, v.to(kind))


@triton.jit
def _join(
    row_ptr, parts_ptr, sums_ptr, out_ptr, base, kv_head,
    HEAD_DIM: tl.constexpr, GROUP: tl.constexpr, GATED: tl.constexpr, QUERIES: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    """The parts of one token and head of keys, weighted by their largest scores."""
    g = tl.arange(0, QUERIES)
    d = tl.arange(0, HEAD_DIM)
    s = tl.arange(0, SPLITS)
    at = ((base + s)[:, None] * QUERIES + g[None, :]) * 2
    bests = tl.load(sums_ptr + at, cache_modifier=".cg")
    sums = tl.load(sums_ptr + at + 1, cache_modifier=".cg")
    best = tl.max(bests, axis=0)
    total = tl.sum(sums * tl.exp(bests - best[None, :]), axis=0)
    acc = tl.zeros([QUERIES, HEAD_DIM], tl.float32)
    for split in tl.range(0, SPLITS, num_stages=3):
        slot = (base + split) * QUERIES + g
        part_best = tl.load(sums_ptr + slot * 2, cache_modifier=".cg")
        part = tl.load(
            parts_ptr + slot[:, None] * HEAD_DIM + d[None, :], mask=(g < GROUP)[:, None],
            other=0.0, cache_modifier=".cg",
        )  # fmt: skip
        acc += part * tl.exp(part_best - best)[:, None]
    y = acc / total[:, None]
    head = kv_head * GROUP + g
    if GATED:
        gate_at = head[:, None] * (2 * HEAD_DIM) + HEAD_DIM + d[None, :]
        gate = tl.load(row_ptr + gate_at, mask=(g < GROUP)[:, None], other=0.0).to(tl.float32)
        y *= tl.sigmoid(gate)
    tl.store(out_ptr + head[:, None] * HEAD_DIM + d[None, :], y, mask=(g < GROUP)[:, None])

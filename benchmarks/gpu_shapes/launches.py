"""The launches of the Triton kernels in the shapes of the real checkpoints, without their content."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpu_shapes.delta_net_launches import DELTA_NET_LAUNCHES
from gpu_shapes.sampling_launches import SAMPLING_LAUNCHES
from gpu_shapes.sparse_launches import SPARSE_LAUNCHES
from qcoder.kernels.gpu.attention_decode import Places, attention_decode, decode_scratch
from qcoder.kernels.gpu.attention_prefill import attention_prefill
from qcoder.kernels.gpu.experts import experts_inner, experts_outer
from qcoder.kernels.gpu.grouped import Sorted, block_of, experts_sorted, many_linear
from qcoder.kernels.gpu.heads import Heads
from qcoder.kernels.gpu.linear import linear
from qcoder.kernels.gpu.matrix import FP8_BLOCK, GpuMatrix, Kind
from qcoder.kernels.gpu.pages import PAGE, Rotation, layer_pages
from qcoder.kernels.gpu.rms_norm import rms_norm
from qcoder.kernels.gpu.router import Routed, Router, out_and_route, router_scratch

HIDDEN, EXPERTS, TOP_K, EXPERT_SIZE = 2048, 128, 8, 768
HEADS, KV_HEADS, HEAD_DIM = 32, 4, 128
"""Qwen3-Coder-30B-A3B."""


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without content."""
    return torch.empty(*shape, dtype=dtype, device="meta")


def matrix(kind: Kind, *shape: int, group: int = 128) -> GpuMatrix:
    """Weights [..., rows, columns] without content."""
    *front, rows, columns = shape
    if kind == "float":
        return GpuMatrix(kind, empty(*shape, dtype=torch.bfloat16), columns)
    if kind == "fp8":
        blocks = (*front, -(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK))
        data = empty(*shape, dtype=torch.float8_e4m3fn)
        return GpuMatrix(kind, data, columns, empty(*blocks), group=FP8_BLOCK)
    scale = empty(*front, rows, columns // group, dtype=torch.float16)
    if kind == "int8":
        return GpuMatrix(kind, empty(*shape, dtype=torch.int8), columns, scale, group=group)
    words = empty(*front, rows, columns // 8, dtype=torch.int32)
    return GpuMatrix(kind, words, columns, scale, group=group)


def _linear(kind: Kind, tokens: int) -> None:
    rows = (HEADS + 2 * KV_HEADS) * HEAD_DIM
    linear(empty(tokens, HIDDEN), matrix(kind, rows, HIDDEN), empty(HIDDEN), 1e-6)


def _experts(kind: Kind, tokens: int) -> None:
    gate_up = matrix(kind, EXPERTS, 2 * EXPERT_SIZE, HIDDEN)
    down = matrix(kind, EXPERTS, HIDDEN, EXPERT_SIZE)
    routed = Routed.empty(tokens, HIDDEN, TOP_K, "meta")
    experts_outer(experts_inner(routed, gate_up), routed, down)


def rotation_of(half: int) -> Rotation:
    """Tables for a million tokens."""
    return Rotation(empty(2, PAGE, half), empty(2, 16_384, half), 1.0)


def heads_of(model: str) -> Heads:
    """The attention of Qwen3-Coder-30B-A3B (`30b`), of 480B-A35B or of Qwen3-Coder-Next."""
    heads, kv_heads, dim, gated = {
        "30b": (32, 4, 128, False), "480b": (96, 8, 128, False), "next": (16, 2, 256, True),
    }[model]  # fmt: skip
    return Heads(heads, kv_heads, dim, 1e-6, empty(dim), empty(dim), gated)


def _decode(model: str, dtype: torch.dtype, tokens: int) -> None:
    heads = heads_of(model)
    ids = empty(tokens, dtype=torch.int32)
    places = Places(ids, ids, empty(tokens, 4096, dtype=torch.int32))
    pages = layer_pages(8, heads.kv_heads, heads.head_dim, dtype, "meta")
    turns = rotation_of(32 if model == "next" else 64)
    scratch = decode_scratch(tokens, heads, "meta")
    attention_decode(empty(tokens, heads.width), heads, places, turns, pages, scratch)


def _prefill(model: str, dtype: torch.dtype, tokens: int, start: int) -> None:
    heads = heads_of(model)
    pages = layer_pages(8, heads.kv_heads, heads.head_dim, dtype, "meta")
    turns = rotation_of(32 if model == "next" else 64)
    table = empty(4096, dtype=torch.int32)
    attention_prefill(empty(tokens, heads.width), heads, turns, pages, table, start)


def _many(kind: Kind, tokens: int) -> None:
    weights = matrix(kind, heads_of("30b").width, HIDDEN)
    rms_norm(empty(tokens, HIDDEN), empty(HIDDEN), 1e-6)
    many_linear(empty(tokens, HIDDEN, dtype=torch.bfloat16), weights)


def _grouped(kind: Kind, tokens: int) -> None:
    gate_up = matrix(kind, EXPERTS, 2 * EXPERT_SIZE, HIDDEN)
    down = matrix(kind, EXPERTS, HIDDEN, EXPERT_SIZE)
    block = block_of(tokens * TOP_K, EXPERTS)
    blocks = min(-(-tokens * TOP_K // block) + EXPERTS, tokens * TOP_K)
    order = Sorted(
        empty(blocks * block, dtype=torch.int32), empty(blocks, dtype=torch.int32), block, TOP_K
    )
    experts_sorted(
        empty(tokens, HIDDEN, dtype=torch.bfloat16), gate_up, down, order,
        empty(tokens, TOP_K),
    )  # fmt: skip


def _route(kind: Kind, tokens: int, experts: int, shared: bool) -> None:
    weight = empty(HIDDEN, experts, dtype=torch.bfloat16)
    gate = empty(HIDDEN) if shared else None
    router = Router(weight, empty(HIDDEN), 1e-6, 10 if shared else TOP_K, True, gate)
    scratch = router_scratch(tokens, HIDDEN, experts, "meta")
    out = matrix(kind, HIDDEN, HEADS * HEAD_DIM)
    out_and_route(empty(tokens, HEADS * HEAD_DIM), out, empty(tokens, HIDDEN), router, scratch)


LAUNCHES: dict[str, Callable[[], None]] = {}
"""What is compiled, by a name of its own."""

WANTED: dict[str, dict[int, tuple[str, ...]]] = {}
"""Instructions that a case must have, by compute capability."""

KINDS: tuple[Kind, ...] = ("float", "int8", "fp8", "int4")
for _kind in KINDS:
    for _tokens in (1, 4):
        LAUNCHES[f"linear {_kind} x{_tokens}"] = lambda k=_kind, t=_tokens: _linear(k, t)
        LAUNCHES[f"experts {_kind} x{_tokens}"] = lambda k=_kind, t=_tokens: _experts(k, t)
        LAUNCHES[f"route {_kind} x{_tokens}"] = lambda k=_kind, t=_tokens: _route(
            k, t, EXPERTS, False
        )
LAUNCHES["route next x1"] = lambda: _route("fp8", 1, 512, True)
LAUNCHES["route next x4"] = lambda: _route("fp8", 4, 512, True)
LAUNCHES.update(DELTA_NET_LAUNCHES)
LAUNCHES.update(SAMPLING_LAUNCHES)
LAUNCHES.update(SPARSE_LAUNCHES)
for _model in ("30b", "480b", "next"):
    for _name, _dtype in (
        ("bf16", torch.bfloat16),
        ("fp8", torch.float8_e4m3fn),
        ("int8", torch.int8),
    ):
        LAUNCHES[f"decode {_model} {_name}"] = lambda m=_model, d=_dtype: _decode(m, d, 4)
    LAUNCHES[f"prefill {_model}"] = lambda m=_model: _prefill(m, torch.bfloat16, 8192, 4096)
LAUNCHES["prefill 30b int8"] = lambda: _prefill("30b", torch.int8, 8192, 4096)
for _kind in KINDS:
    for _tokens in (64, 8192):
        LAUNCHES[f"many {_kind} x{_tokens}"] = lambda k=_kind, t=_tokens: _many(k, t)
        LAUNCHES[f"grouped {_kind} x{_tokens}"] = lambda k=_kind, t=_tokens: _grouped(k, t)
        WANTED[f"many {_kind} x{_tokens}"] = {90: ("wgmma.mma_async",)}
        WANTED[f"grouped {_kind} x{_tokens}"] = {90: ("wgmma.mma_async",)}
for _model in ("30b", "480b", "next"):
    WANTED[f"prefill {_model}"] = {90: ("wgmma.mma_async",)}

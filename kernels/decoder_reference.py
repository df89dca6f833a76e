"""The plain version of `native_decoder.NativeDecoder.forward`: one sequence from its first token.

Slow and in float64 between the places where the kernels round: activations to int8 before a product,
keys (rotated by their place in the page) and values to float16 or int8, and with int8 queries as each
page turns them. (The kernels round the softmax too, to 15 bits.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.moe import route
from qcoder.kernels.native_decoder import (
    KEY_GROUP,
    PAGE_TOKENS,
    DecoderLayer,
    DecoderShape,
    TiledMatrix,
)
from qcoder.kernels.rotary import rotary_rows, rotate_reference
from qcoder.kernels.tiled import residual_linear, tiled_experts, tiled_linear


def decoder_reference(
    shape: DecoderShape,
    layers: Sequence[DecoderLayer],
    norm: Tensor,
    head: TiledMatrix,
    frequency: Tensor,
    x: Tensor,
) -> Tensor:
    """Logits [tokens, vocab] float32 of the embeddings x [tokens, hidden] of a whole sequence."""
    x = x.double()
    for layer in layers:
        x = x + _attention(shape, layer, frequency, _norm(x, layer.input_norm, shape.eps))
        x = x + _mlp(layer, _norm(x, layer.post_norm, shape.eps))
    x = _norm(x, norm, shape.eps)
    if head.residual is not None:
        return residual_linear(x.float(), head.data, head.residual, head.shape)
    return _product(x, head, None).float()


def _norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    if weight is None:
        return x
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.double()


def _product(x: Tensor, matrix: TiledMatrix, bias: Tensor | None) -> Tensor:
    y = tiled_linear(x.float(), matrix.data, matrix.shape).double()
    return y if bias is None else y + bias.double()


def _attention(shape: DecoderShape, layer: DecoderLayer, frequency: Tensor, x: Tensor) -> Tensor:
    tokens, d = x.shape[0], shape.head_dim
    parts = _product(x, layer.qkv, layer.qkv_bias).view(tokens, -1, d)
    q, k, v = torch.split(parts, [shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
    q, k = _norm(q, layer.query_norm, shape.eps), _norm(k, layer.key_norm, shape.eps)
    turned = shape.rotary_dim
    rows = rotary_rows(frequency, 1.0, 0, tokens)
    q, whole = rotate_reference(q, rows), rotate_reference(k, rows)
    # The part that YaRN scales, once for queries and once for keys.
    q[..., :turned] *= shape.rotary_scale**2
    places = rows[:, torch.arange(tokens) % PAGE_TOKENS]
    starts = rows[:, torch.arange(tokens) // PAGE_TOKENS * PAGE_TOKENS]
    k = rotate_reference(k, places)
    repeat = shape.heads // shape.kv_heads
    if shape.kv_bits == 8:
        k, v = _stored(k, KEY_GROUP), _stored(v, d)
    else:
        k, v = k.half().double(), v.half().double()
    turned_k = rotate_reference(k, starts)
    rounding = 0.02 if shape.kv_bits == 8 else 2e-3
    assert (turned_k - whole).abs().max() <= rounding * whole.abs().max(), "two rotations make one"
    k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    by_page = []
    for start in range(0, tokens, PAGE_TOKENS):
        seen = _seen_from(shape, q, rows[:, start])
        by_page.append(torch.einsum("qhd,khd->hqk", seen, k[start : start + PAGE_TOKENS]))
    scores = torch.cat(by_page, dim=-1) / d**0.5
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    mixed = torch.einsum("hqk,khd->qhd", weights, v).flatten(1)
    return _product(mixed, layer.out, layer.out_bias)


def _stored(x: Tensor, group: int) -> Tensor:
    """x [..., d] as int8 with a float16 scale a group."""
    grouped = x.float().view(*x.shape[:-1], -1, group)
    scale = grouped.abs().amax(-1, keepdim=True) / 127
    values = torch.round(grouped / scale.clamp(min=1e-30))
    return (values * scale.half().float()).view(x.shape).double()


def _seen_from(shape: DecoderShape, q: Tensor, start: Tensor) -> Tensor:
    """Queries [tokens, heads, d] as a page at the position of `start` turns (and rounds) them."""
    back = start.clone()
    back[1] = -back[1]
    turned = rotate_reference(q, back.unsqueeze(1).expand(-1, len(q), -1))
    if shape.kv_bits == 16:
        return turned
    half = shape.rotary_dim // 2  # turning keeps the length of a pair, which the steps are fit to
    first, second, rest = torch.split(q, [half, half, shape.head_dim - 2 * half], dim=-1)
    length = torch.hypot(first, second)
    groups = (*q.shape[:-1], -1, KEY_GROUP)
    reach = torch.cat([length, length, rest.abs()], -1).view(groups).amax(-1, keepdim=True)
    step = reach.clamp(min=1e-30) / 127
    return (torch.round(turned.view(groups) / step) * step).view(q.shape)


def _mlp(layer: DecoderLayer, x: Tensor) -> Tensor:
    if layer.router is None:
        gate, up = _product(x, layer.gate_up, None).chunk(2, dim=-1)
        return _product(F.silu(gate) * up, layer.down, None)
    weights, chosen = route(x, layer.router.double(), layer.top_k, layer.renormalize)
    return tiled_experts(
        x.float(), layer.gate_up.data, layer.down.data, weights.float(), chosen,
        layer.gate_up.shape, layer.down.shape,
    ).double()  # fmt: skip

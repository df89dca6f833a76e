"""The plain version of `native_decoder.NativeDecoder.forward`: one sequence from its first token.

Slow and in float64 between the places where the kernels round: activations to int8 before a product,
keys (rotated by their place in the page) and values to float16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.moe import route
from qcoder.kernels.native_decoder import (
    PAGE_TOKENS,
    DecoderLayer,
    DecoderShape,
    TiledMatrix,
)
from qcoder.kernels.rotary import rotary_rows, rotate_reference
from qcoder.kernels.tiled import tiled_experts, tiled_linear


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
    return _product(_norm(x, norm, shape.eps), head, None).float()


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
    k = rotate_reference(rotate_reference(k, places).half().double(), starts)
    assert (k - whole).abs().max() <= 2e-3 * whole.abs().max(), "two rotations make one"
    v = v.half().double()
    repeat = shape.heads // shape.kv_heads
    k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / d**0.5
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    mixed = torch.einsum("hqk,khd->qhd", weights, v).flatten(1)
    return _product(mixed, layer.out, layer.out_bias)


def _mlp(layer: DecoderLayer, x: Tensor) -> Tensor:
    if layer.router is None:
        gate, up = _product(x, layer.gate_up, None).chunk(2, dim=-1)
        return _product(F.silu(gate) * up, layer.down, None)
    weights, chosen = route(x, layer.router.double(), layer.top_k, layer.renormalize)
    return tiled_experts(
        x.float(), layer.gate_up.data, layer.down.data, weights.float(), chosen,
        layer.gate_up.shape, layer.down.shape,
    ).double()  # fmt: skip

"""Models of the real checkpoints' shapes with random weights, made on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT_TORCH, INTERPRETED
from qcoder.kernels.gpu.delta_net import GpuDeltaNet
from qcoder.kernels.gpu.heads import Heads
from qcoder.kernels.gpu.matrix import FP8_BLOCK, GpuMatrix, Kind
from qcoder.kernels.gpu.router import Router
from qcoder.model.config import LinearAttention, ModelConfig
from qcoder.model.gpu_model import GpuModel
from qcoder.model.gpu_weights import GpuAttention, GpuDelta, GpuLayer, GpuWeights
from qcoder.model.kv_cache import CacheShape, StateShape


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes; every `interval`-th layer has attention, the others a gated DeltaNet."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    experts: int
    top_k: int
    expert_size: int
    vocab: int
    shared: bool = False
    gated: bool = False
    interval: int = 1
    linear: LinearAttention | None = None

    @property
    def qkv(self) -> int:
        """Rows of the projection into q, k and v."""
        return (self.heads * (1 + self.gated) + 2 * self.kv_heads) * self.head_dim

    @property
    def attention_layers(self) -> int:
        """Layers with keys and values."""
        return self.layers // self.interval


SHAPES = {
    "30b": Shape(2048, 48, 32, 4, 128, 128, 128, 8, 768, 151_936),
    "480b": Shape(6144, 62, 96, 8, 128, 128, 160, 8, 2560, 151_936),
    "next": Shape(
        2048, 48, 16, 2, 256, 64, 512, 10, 512, 151_936, shared=True, gated=True, interval=4,
        linear=LinearAttention(16, 32, 128, 128, 4),
    ),
    "tiny": Shape(128, 2, 4, 2, 32, 32, 8, 2, 128, 320),
    "tiny-next": Shape(
        128, 2, 2, 1, 32, 16, 8, 2, 128, 320, shared=True, gated=True, interval=2,
        linear=LinearAttention(1, 2, 16, 16, 4),
    ),
}  # fmt: skip
"""Qwen3-Coder-30B-A3B, 480B-A35B, Qwen3-Coder-Next 80B-A3B, and small ones to rehearse with."""


def random_matrix(kind: Kind, device: str, *shape: int, group: int = 128) -> GpuMatrix:
    """Weights of about unit gain [..., rows, columns], whatever their kind."""
    *front, rows, columns = shape
    size, group = columns**-0.5, min(group, columns)
    if kind == "float":
        data = torch.empty(shape, dtype=DOT_TORCH, device=device)
        return GpuMatrix(kind, data.normal_(std=size), columns)
    if kind == "fp8":
        data = random_fp8(shape, device)
        blocks = (*front, -(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK))
        return GpuMatrix(kind, data, columns, torch.full(blocks, size, device=device), group=128)
    scale = torch.empty((*front, rows, columns // group), dtype=torch.float16, device=device)
    if kind == "int8":
        data = torch.randint(-127, 128, shape, dtype=torch.int8, device=device)
        return GpuMatrix(kind, data, columns, scale.fill_(size / 73), group=group)
    words = torch.randint(
        -(2**31), 2**31 - 1, (*front, rows, columns // 8), dtype=torch.int32, device=device
    )
    return GpuMatrix("int4", words, columns, scale.fill_(size / 4.6), group=group)


def random_fp8(shape: tuple[int, ...], device: str) -> Tensor:
    """float8_e4m3fn of magnitudes around 1: random bits without the ends of the range."""
    bits = torch.randint(0, 2, shape, dtype=torch.uint8, device=device) << 7
    bits |= torch.randint(0x30, 0x3C, shape, dtype=torch.uint8, device=device)
    return bits.view(torch.float8_e4m3fn)


def checkpoint(shape: Shape, kind: Kind, device: str, head: Kind | None = None) -> GpuWeights:
    """All layers, each with weights of its own; the router and the DeltaNet's small parts are floats."""
    layers, attention, delta = [], 0, 0
    for index in range(shape.layers):
        mixer: GpuAttention | GpuDelta
        if shape.linear is None or index % shape.interval == shape.interval - 1:
            mixer = _attention(shape, kind, device, attention)
            attention += 1
            width = shape.heads * shape.head_dim
        else:
            mixer = _delta(shape, kind, device, delta)
            delta += 1
            width = shape.linear.value_size
        layers.append(_layer(shape, kind, device, mixer, width))
    embedding = torch.empty(shape.vocab, shape.hidden, dtype=DOT_TORCH, device=device).normal_()
    matrix = random_matrix(head or kind, device, shape.vocab, shape.hidden)
    return GpuWeights(embedding, tuple(layers), torch.ones(shape.hidden, device=device), matrix)


def _attention(shape: Shape, kind: Kind, device: str, slot: int) -> GpuAttention:
    norms = [torch.ones(shape.head_dim, device=device) for _ in range(2)]
    heads = Heads(shape.heads, shape.kv_heads, shape.head_dim, 1e-6, *norms, shape.gated)
    return GpuAttention(slot, heads, random_matrix(kind, device, shape.qkv, shape.hidden), None)


def _delta(shape: Shape, kind: Kind, device: str, slot: int) -> GpuDelta:
    s = shape.linear
    assert s is not None
    layer = GpuDeltaNet(
        s.key_heads, s.value_heads, s.key_dim, s.value_dim,
        torch.randn(s.channels, s.conv_size, device=device) / 2,
        -torch.rand(s.value_heads, device=device), torch.zeros(s.value_heads, device=device),
        torch.ones(s.value_dim, device=device), 1e-6,
    )  # fmt: skip
    qkvz = random_matrix(kind, device, layer.width, shape.hidden)
    return GpuDelta(
        slot, layer, qkvz, random_matrix("float", device, 2 * s.value_heads, shape.hidden)
    )


def _layer(
    shape: Shape, kind: Kind, device: str, mixer: GpuAttention | GpuDelta, width: int
) -> GpuLayer:
    norm = torch.ones(shape.hidden, device=device)
    weight = torch.randn(shape.hidden, shape.experts, device=device) * shape.hidden**-0.5
    shared = torch.zeros(shape.hidden, device=device) if shape.shared else None
    router = Router(weight.to(DOT_TORCH), norm, 1e-6, shape.top_k, True, shared)
    count = shape.experts + shape.shared
    return GpuLayer(
        norm, mixer, random_matrix(kind, device, shape.hidden, width), None, norm, router,
        random_matrix(kind, device, count, 2 * shape.expert_size, shape.hidden),
        random_matrix(kind, device, count, shape.hidden, shape.expert_size),
    )  # fmt: skip


def config_of(shape: Shape, max_tokens: int) -> ModelConfig:
    """What the model says of itself."""
    linear_layers = frozenset(
        i for i in range(shape.layers) if shape.linear and i % shape.interval != shape.interval - 1
    )
    return ModelConfig(
        model_type="qwen3_next" if shape.linear else "qwen3_moe", vocab_size=shape.vocab,
        hidden_size=shape.hidden, num_layers=shape.layers, num_heads=shape.heads,
        num_kv_heads=shape.kv_heads, head_dim=shape.head_dim, rotary_dim=shape.rotary_dim,
        dense_size=shape.expert_size, rope_theta=1e7, yarn=None, rms_norm_eps=1e-6,
        max_context=max_tokens, tied_embeddings=False, attention_bias=False, output_bias=False,
        eos_ids=(0,), dtype="bfloat16", quantization="none", num_experts=shape.experts,
        experts_per_token=shape.top_k, expert_size=shape.expert_size,
        shared_expert_size=shape.expert_size if shape.shared else 0, norm_topk_prob=True,
        attention_gate=shape.gated, linear_attention=shape.linear, linear_layers=linear_layers,
    )  # fmt: skip


def model(
    shape: Shape, weights: GpuWeights, max_tokens: int, pages: int, dtype: torch.dtype
) -> GpuModel:
    """The engine's network over `weights`."""
    s = shape.linear
    state = None
    if s is not None:
        count = shape.layers - shape.attention_layers
        state = StateShape(
            count, s.value_heads, s.key_dim, s.value_dim, s.channels, s.conv_size - 1
        )
    cache = CacheShape(
        shape.attention_layers, shape.kv_heads, shape.head_dim, max_tokens, dtype, state
    )
    page_dtype = torch.float32 if INTERPRETED and dtype == torch.bfloat16 else dtype
    return GpuModel(config_of(shape, max_tokens), weights, cache, pages, page_dtype)


def fewer_layers(shape: Shape, layers: int) -> Shape:
    """The same widths with `layers` layers, for what needs not all."""
    return replace(shape, layers=layers)

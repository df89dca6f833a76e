"""Qwen3 Mixture-of-Experts: the forward pass (Qwen3 technical report, arXiv 2505.09388).

    x = embed(ids)
    for each layer:
        q, k, v = qkv(norm(x));  q, k = rotate(norm(q)), rotate(norm(k))
        x = x + out(attention(q, k, v))
        x = x + sum of the top-k experts' SwiGLU of norm(x)
    logits = norm(x) @ head^T

Weights are held in one dtype, with q, k and v in one matrix and gate and up of an expert in one.
Small models are float32 even when their files are int8, so that a cached token equals a recomputed
one. The faster formats round more than that: one token through 640 x 384 weights from memory, one
thread beside other work, us (relative error): float32 90, float16 30 (3e-4), bfloat16 37 (3e-3),
torch's packed int8 with bfloat16 activations 14 (3e-3), with float16 ones 346 (3e-4); 256 tokens on
two idle cores: float32 680, bfloat16 311, packed int8 963.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.attention import attention, causal_mask
from qcoder.kernels.moe import experts, route
from qcoder.kernels.rms_norm import rms_norm
from qcoder.kernels.rotary import rotary_table, rotate
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.kv_cache import CacheShape, Sequence


class Reader(Protocol):
    """Reads a tensor of a checkpoint by our name, checking its shape."""

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The tensor, as floating point."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """Matrices of one layer. A dense layer has no router and one expert."""

    input_norm: Tensor
    post_norm: Tensor
    qk_norm: Tensor  # [heads + kv_heads, head_dim]: q's weight for every head, then k's
    qkv: Tensor  # [(heads + 2 kv_heads) * head_dim, hidden]
    qkv_bias: Tensor | None
    out: Tensor  # [hidden, heads * head_dim]
    out_bias: Tensor | None
    router: Tensor | None  # [experts, hidden]
    gate_up: Tensor  # [experts, 2 * size, hidden]
    down: Tensor  # [experts, hidden, size]


class Qwen3Moe:
    """Weights and forward pass; holds no sequence state."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Tensor,
        layers: list[LayerWeights],
        norm: Tensor,
        head: Tensor,
        max_context: int,
    ) -> None:
        self.config, self.embedding, self.layers = config, embedding, layers
        self.norm, self.head = norm, head
        self.cache_shape = CacheShape(
            config.num_layers, config.num_kv_heads, config.head_dim, max_context, embedding.dtype
        )
        self._table = rotary_table(config.head_dim, config.rope_theta, max_context, config.yarn)

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Qwen3Moe:
        """Read every tensor once; raises `CheckpointError`."""
        names = sanitize(checkpoint.files)
        vocab, hidden = config.vocab_size, config.hidden_size

        def read(name: str, *shape: int) -> Tensor:
            on_disk = names.get(name, f"model.{name}" if name != "lm_head.weight" else name)
            return checkpoint.float_tensor(on_disk, shape, dtype)

        embedding = read("embed_tokens.weight", vocab, hidden)
        head = embedding if config.tied_embeddings else read("lm_head.weight", vocab, hidden)
        layers = [load_layer(read, config, index, dtype) for index in range(config.num_layers)]
        return Qwen3Moe(config, embedding, layers, read("norm.weight", hidden), head, max_context)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights."""
        tensors = {id(t): t for t in (self.embedding, self.head, self.norm)}
        for layer in self.layers:
            parts = (getattr(layer, name) for name in LayerWeights.__slots__)
            tensors.update((id(t), t) for t in parts if t is not None)
        return sum(t.numel() * t.element_size() for t in tensors.values())

    def forward(self, ids: list[int], sequence: Sequence, all_logits: bool = False) -> Tensor:
        """Compute `ids` behind what `sequence` holds and append them to it.

        Returns float32 logits of the last token [vocab], or of all new tokens [len(ids), vocab].
        """
        start, end = len(sequence), len(sequence) + len(ids)
        sequence.reserve(end)
        table = self._table[:, start:end]
        mask = causal_mask(len(ids), end)
        x = F.embedding(torch.tensor(ids), self.embedding)
        for index, layer in enumerate(self.layers):
            x = x + self._attention(index, layer, x, table, mask, sequence)
            x = x + self._mlp(layer, x)
        sequence.ids.extend(ids)
        if not all_logits:
            x = x[-1:]
        logits = F.linear(rms_norm(x, self.norm, self.config.rms_norm_eps), self.head).float()
        return logits if all_logits else logits[0]

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        x: Tensor,
        table: Tensor,
        mask: Tensor | None,
        sequence: Sequence,
    ) -> Tensor:
        c = self.config
        h = rms_norm(x, layer.input_norm, c.rms_norm_eps)
        qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(x.shape[0], -1, c.head_dim)
        qk, v = torch.split(qkv, [c.num_heads + c.num_kv_heads, c.num_kv_heads], dim=1)
        qk = rotate(rms_norm(qk, layer.qk_norm, c.rms_norm_eps), table)
        q, k = torch.split(qk, [c.num_heads, c.num_kv_heads], dim=1)
        keys, values = sequence.write(index, k, v)
        return F.linear(attention(q, keys, values, mask), layer.out, layer.out_bias)

    def _mlp(self, layer: LayerWeights, x: Tensor) -> Tensor:
        c = self.config
        h = rms_norm(x, layer.post_norm, c.rms_norm_eps)
        if layer.router is None:
            gate, up = F.linear(h, layer.gate_up[0]).chunk(2, dim=-1)
            return F.linear(F.silu(gate) * up, layer.down[0])
        weights, chosen = route(h, layer.router, c.experts_per_token, c.norm_topk_prob)
        return experts(h, layer.gate_up, layer.down, weights, chosen)


def sanitize(names: Iterable[str]) -> dict[str, str]:
    """Our tensor names -> those of a checkpoint, which may or may not start with `model.`."""
    return {name.removeprefix("model."): name for name in names}


def load_layer(read: Reader, config: ModelConfig, index: int, dtype: torch.dtype) -> LayerWeights:
    """One layer; `read(name, *shape)` gives a tensor of the checkpoint."""
    c, prefix = config, f"layers.{index}."
    hidden, q_size, kv_size = c.hidden_size, c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    attn, sizes = prefix + "self_attn.", (("q", q_size), ("k", kv_size), ("v", kv_size))
    dense = index in c.dense_layers
    width = c.dense_size if dense else c.expert_size
    stems = ["mlp."] if dense else [f"mlp.experts.{e}." for e in range(c.num_experts)]
    gate_up = torch.empty(len(stems), 2 * width, hidden, dtype=dtype)
    down = torch.empty(len(stems), hidden, width, dtype=dtype)
    for e, stem in enumerate(stems):
        gate_up[e, :width] = read(f"{prefix}{stem}gate_proj.weight", width, hidden)
        gate_up[e, width:] = read(f"{prefix}{stem}up_proj.weight", width, hidden)
        down[e] = read(f"{prefix}{stem}down_proj.weight", hidden, width)
    q_norm = read(attn + "q_norm.weight", c.head_dim)
    k_norm = read(attn + "k_norm.weight", c.head_dim)
    bias = c.attention_bias
    return LayerWeights(
        input_norm=read(prefix + "input_layernorm.weight", hidden),
        post_norm=read(prefix + "post_attention_layernorm.weight", hidden),
        qk_norm=torch.stack([q_norm] * c.num_heads + [k_norm] * c.num_kv_heads),
        qkv=torch.cat([read(f"{attn}{n}_proj.weight", size, hidden) for n, size in sizes]),
        qkv_bias=torch.cat([read(f"{attn}{n}_proj.bias", s) for n, s in sizes]) if bias else None,
        out=read(attn + "o_proj.weight", hidden, q_size),
        out_bias=read(attn + "o_proj.bias", hidden) if bias else None,
        router=None if dense else read(prefix + "mlp.gate.weight", c.num_experts, hidden),
        gate_up=gate_up,
        down=down,
    )

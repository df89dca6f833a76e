"""Qwen3 Mixture-of-Experts: the forward pass (Qwen3 technical report, arXiv 2505.09388).

    x = embed(ids)
    x = x + o_proj(attention(rotate(norm(q)), rotate(norm(k)), v))     with q, k, v of norm(x)
    x = x + sum of the top-k experts' SwiGLU of norm(x)                 a layer
    logits = norm(x) @ head^T

Weights are held in one dtype (float32 for small models: on a CPU its small matrix-vector products
are the fastest), q, k and v in one matrix, gate and up of an expert in one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.attention import attention
from qcoder.kernels.moe import experts, route
from qcoder.kernels.rms_norm import rms_norm
from qcoder.kernels.rotary import rotary_table, rotate
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.kv_cache import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """Matrices of one layer. A dense layer has no router and one expert."""

    input_norm: Tensor
    post_norm: Tensor
    q_norm: Tensor
    k_norm: Tensor
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
        self, config: ModelConfig, embedding: Tensor, layers: list[LayerWeights], norm: Tensor,
        head: Tensor, max_context: int,
    ) -> None:  # fmt: skip
        self.config, self.embedding, self.layers = config, embedding, layers
        self.norm, self.head, self.max_context = norm, head, max_context
        self._table = rotary_table(config.head_dim, config.rope_theta, max_context)

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Qwen3Moe:
        """Read every tensor once; raises `CheckpointError`."""
        vocab, hidden = config.vocab_size, config.hidden_size
        embedding = checkpoint.tensor("model.embed_tokens.weight", (vocab, hidden), dtype)
        head = (
            embedding
            if config.tied_embeddings
            else checkpoint.tensor("lm_head.weight", (vocab, hidden), dtype)
        )
        layers = [load_layer(checkpoint, config, i, dtype) for i in range(config.num_layers)]
        norm = checkpoint.tensor("model.norm.weight", (hidden,), dtype)
        return Qwen3Moe(config, embedding, layers, norm, head, max_context)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights."""
        tensors = [self.embedding, self.norm]
        if self.head is not self.embedding:
            tensors.append(self.head)
        for layer in self.layers:
            tensors += [layer.qkv, layer.out, layer.gate_up, layer.down]
            tensors += [t for t in (layer.router,) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors)

    def forward(self, ids: list[int], sequence: Sequence, all_logits: bool = False) -> Tensor:
        """Compute `ids` behind what `sequence` holds and append them to it.

        Returns float32 logits of the last token [vocab], or of all new tokens [len(ids), vocab].
        """
        start = len(sequence.ids)
        table = self._table[:, start : start + len(ids)]
        x = F.embedding(torch.tensor(ids), self.embedding)
        for index, layer in enumerate(self.layers):
            x = x + self._attention(index, layer, x, table, sequence, start)
            x = x + self._mlp(layer, x)
        sequence.ids.extend(ids)
        if not all_logits:
            x = x[-1:]
        logits = F.linear(rms_norm(x, self.norm, self.config.rms_norm_eps), self.head).float()
        return logits if all_logits else logits[0]

    def _attention(
        self, index: int, layer: LayerWeights, x: Tensor, table: Tensor, sequence: Sequence,
        start: int,
    ) -> Tensor:  # fmt: skip
        c = self.config
        h = rms_norm(x, layer.input_norm, c.rms_norm_eps)
        qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(x.shape[0], -1, c.head_dim)
        q, k, v = torch.split(qkv, [c.num_heads, c.num_kv_heads, c.num_kv_heads], dim=1)
        q = rotate(rms_norm(q, layer.q_norm, c.rms_norm_eps), table)
        k = rotate(rms_norm(k, layer.k_norm, c.rms_norm_eps), table)
        keys, values = sequence.write(index, start, k, v)
        return F.linear(attention(q, keys, values), layer.out, layer.out_bias)

    def _mlp(self, layer: LayerWeights, x: Tensor) -> Tensor:
        c = self.config
        h = rms_norm(x, layer.post_norm, c.rms_norm_eps)
        if layer.router is None:
            gate, up = F.linear(h, layer.gate_up[0]).chunk(2, dim=-1)
            return F.linear(F.silu(gate) * up, layer.down[0])
        weights, chosen = route(h, layer.router, c.experts_per_token, c.norm_topk_prob)
        return experts(h, layer.gate_up, layer.down, weights, chosen)


def load_layer(
    checkpoint: Checkpoint, config: ModelConfig, index: int, dtype: torch.dtype
) -> LayerWeights:
    """One layer, from the hub's tensor names."""
    c, prefix = config, f"model.layers.{index}."
    q_size, kv_size = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim

    def read(name: str, *shape: int) -> Tensor:
        return checkpoint.tensor(prefix + name, shape, dtype)

    sizes = (("q", q_size), ("k", kv_size), ("v", kv_size))
    qkv = torch.cat([read(f"self_attn.{n}_proj.weight", s, c.hidden_size) for n, s in sizes])
    qkv_bias = out_bias = None
    if c.attention_bias:
        qkv_bias = torch.cat([read(f"self_attn.{n}_proj.bias", s) for n, s in sizes])
        out_bias = read("self_attn.o_proj.bias", c.hidden_size)
    dense = index in c.dense_layers
    width = c.dense_size if dense else c.expert_size
    stems = ["mlp."] if dense else [f"mlp.experts.{e}." for e in range(c.num_experts)]
    gate_up = torch.empty(len(stems), 2 * width, c.hidden_size, dtype=dtype)
    down = torch.empty(len(stems), c.hidden_size, width, dtype=dtype)
    for e, stem in enumerate(stems):
        gate_up[e, :width] = read(stem + "gate_proj.weight", width, c.hidden_size)
        gate_up[e, width:] = read(stem + "up_proj.weight", width, c.hidden_size)
        down[e] = read(stem + "down_proj.weight", c.hidden_size, width)
    return LayerWeights(
        input_norm=read("input_layernorm.weight", c.hidden_size),
        post_norm=read("post_attention_layernorm.weight", c.hidden_size),
        q_norm=read("self_attn.q_norm.weight", c.head_dim),
        k_norm=read("self_attn.k_norm.weight", c.head_dim),
        qkv=qkv,
        qkv_bias=qkv_bias,
        out=read("self_attn.o_proj.weight", c.hidden_size, q_size),
        out_bias=out_bias,
        router=None if dense else read("mlp.gate.weight", c.num_experts, c.hidden_size),
        gate_up=gate_up,
        down=down,
    )

"""Qwen3 Mixture-of-Experts: the forward pass (Qwen3 technical report, arXiv 2505.09388).

    x = embed(ids)
    for each layer:
        q, k, v = qkv(norm(x));  q, k = rotate(norm(q)), rotate(norm(k))
        x = x + out(attention(q, k, v))
        x = x + sum of the top-k experts' SwiGLU of norm(x)
    logits = norm(x) @ head^T

Weights are held in one dtype, with q, k and v in one matrix and gate and up of an expert in one.
Small models are float32 throughout, so that a cached token equals a recomputed one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.attention import attention, causal_mask
from qcoder.kernels.moe import route
from qcoder.kernels.rms_norm import rms_norm
from qcoder.kernels.rotary import rotary_table, rotate
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.kv_cache import CacheShape, Sequence
from qcoder.model.linear import Experts, Linear, WeightReader


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One layer. A dense layer has no router and one expert."""

    input_norm: Tensor
    post_norm: Tensor
    qk_norm: Tensor  # [heads + kv_heads, head_dim]: q's weight for every head, then k's
    qkv: Linear  # hidden -> (heads + 2 kv_heads) * head_dim
    out: Linear
    router: Tensor | None  # [experts, hidden]
    experts: Experts

    @property
    def size_bytes(self) -> int:
        """Memory of the layer, without its norms."""
        router = 0 if self.router is None else self.router.nbytes
        return self.qkv.size_bytes + self.out.size_bytes + self.experts.size_bytes + router


class Qwen3Moe:
    """Weights and forward pass; holds no sequence state."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Tensor,
        layers: list[LayerWeights],
        norm: Tensor,
        head: Linear,
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
        reader = WeightReader(checkpoint, dtype)
        vocab, hidden = config.vocab_size, config.hidden_size
        tied = config.tied_embeddings
        head = reader.linear([("embed_tokens" if tied else "lm_head", vocab)], hidden)
        embedding = head.weight if tied else reader.tensor("embed_tokens.weight", vocab, hidden)
        layers = [load_layer(reader, config, index) for index in range(config.num_layers)]
        norm = reader.tensor("norm.weight", hidden)
        return Qwen3Moe(config, embedding, layers, norm, head, max_context)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, without the norms."""
        embedding = 0 if self.config.tied_embeddings else self.embedding.nbytes
        return embedding + self.head.size_bytes + sum(x.size_bytes for x in self.layers)

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
        logits = self.head(rms_norm(x, self.norm, self.config.rms_norm_eps)).float()
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
        qkv = layer.qkv(rms_norm(x, layer.input_norm, c.rms_norm_eps))
        qkv = qkv.view(x.shape[0], -1, c.head_dim)
        qk, v = torch.split(qkv, [c.num_heads + c.num_kv_heads, c.num_kv_heads], dim=1)
        qk = rotate(rms_norm(qk, layer.qk_norm, c.rms_norm_eps), table)
        q, k = torch.split(qk, [c.num_heads, c.num_kv_heads], dim=1)
        keys, values = sequence.write(index, k, v)
        return layer.out(attention(q, keys, values, mask))

    def _mlp(self, layer: LayerWeights, x: Tensor) -> Tensor:
        c = self.config
        h = rms_norm(x, layer.post_norm, c.rms_norm_eps)
        if layer.router is None:
            always = h.new_ones(h.shape[0], 1)
            return layer.experts(h, always, torch.zeros_like(always, dtype=torch.int64))
        weights, chosen = route(h, layer.router, c.experts_per_token, c.norm_topk_prob)
        return layer.experts(h, weights, chosen)


def load_layer(reader: WeightReader, config: ModelConfig, index: int) -> LayerWeights:
    """One layer of a checkpoint."""
    c, prefix = config, f"layers.{index}."
    attn, mlp = prefix + "self_attn.", prefix + "mlp."
    hidden, q_size, kv_size = c.hidden_size, c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    sizes = [(attn + "q_proj", q_size), (attn + "k_proj", kv_size), (attn + "v_proj", kv_size)]
    dense = index in c.dense_layers
    stems = [mlp] if dense else [f"{mlp}experts.{e}." for e in range(c.num_experts)]
    q_norm = reader.tensor(attn + "q_norm.weight", c.head_dim)
    k_norm = reader.tensor(attn + "k_norm.weight", c.head_dim)
    return LayerWeights(
        input_norm=reader.tensor(prefix + "input_layernorm.weight", hidden),
        post_norm=reader.tensor(prefix + "post_attention_layernorm.weight", hidden),
        qk_norm=torch.stack([q_norm] * c.num_heads + [k_norm] * c.num_kv_heads),
        qkv=reader.linear(sizes, hidden, c.attention_bias),
        out=reader.linear([(attn + "o_proj", hidden)], q_size, c.attention_bias),
        router=None if dense else reader.tensor(mlp + "gate.weight", c.num_experts, hidden),
        experts=reader.experts(stems, hidden, c.dense_size if dense else c.expert_size),
    )

"""Grouped-query attention with what the family varies: biases, norms of q and k, partial rotation, a gate.

    q, k, v = qkv(x);  q, k = rotate(norm(q)), rotate(norm(k))
    y = out(attention(q, k, v) * sigmoid(gate))

q, k and v lie in one matrix. With a gate, q's part holds [query | gate] of each head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qcoder.kernels.attention import attention
from qcoder.kernels.rms_norm import rms_norm
from qcoder.kernels.rotary import rotate
from qcoder.model.config import ModelConfig
from qcoder.model.decoder import Step, norm
from qcoder.model.linear import Linear, WeightReader


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One attention layer; `slot` is its place among the layers that have keys and values."""

    slot: int
    qkv: Linear  # hidden -> (heads + 2 kv_heads) * head_dim, or (2 heads + 2 kv_heads) with a gate
    qk_norm: Tensor | None  # [heads + kv_heads, head_dim]: q's weight for every head, then k's
    out: Linear
    heads: int
    kv_heads: int
    head_dim: int
    gated: bool
    eps: float

    @property
    def size_bytes(self) -> int:
        """Memory of both matrices."""
        return self.qkv.size_bytes + self.out.size_bytes

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        """x: [tokens, hidden]; writes keys and values into the sequence."""
        qkv = self.qkv(x).view(x.shape[0], -1, self.head_dim)
        gate = None
        if self.gated:
            pairs, k, v = torch.split(qkv, [2 * self.heads, self.kv_heads, self.kv_heads], dim=1)
            q, gate = pairs.reshape(x.shape[0], self.heads, 2, -1).unbind(2)
            qk = torch.cat([q, k], dim=1)
        else:
            qk, v = torch.split(qkv, [self.heads + self.kv_heads, self.kv_heads], dim=1)
        if self.qk_norm is not None:
            qk = rms_norm(qk, self.qk_norm, self.eps)
        q, k = torch.split(rotate(qk, step.table), [self.heads, self.kv_heads], dim=1)
        keys, values = step.sequence.write(self.slot, k, v)
        y = attention(q, keys, values, step.mask)
        return self.out(y if gate is None else y * torch.sigmoid(gate.reshape(y.shape)))


def load_attention(
    reader: WeightReader, config: ModelConfig, stem: str, slot: int, norm_offset: float = 0.0
) -> Attention:
    """The attention layer whose tensors' names begin with `stem`."""
    c, hidden = config, config.hidden_size
    q_size, kv_size = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    parts = [
        (stem + "q_proj", 2 * q_size if c.attention_gate else q_size),
        (stem + "k_proj", kv_size),
        (stem + "v_proj", kv_size),
    ]
    qk_norm = None
    if c.qk_norm:
        q_norm = norm(reader, stem + "q_norm", c.head_dim, norm_offset)
        k_norm = norm(reader, stem + "k_norm", c.head_dim, norm_offset)
        # Not stacked: of tensors without content (`headers_only`) that would load torch's compiler.
        qk_norm = q_norm.new_empty(c.num_heads + c.num_kv_heads, c.head_dim)
        qk_norm[: c.num_heads], qk_norm[c.num_heads :] = q_norm, k_norm
    return Attention(
        slot=slot,
        qkv=reader.linear(parts, hidden, c.attention_bias),
        qk_norm=qk_norm,
        out=reader.linear([(stem + "o_proj", hidden)], q_size, c.output_bias),
        heads=c.num_heads,
        kv_heads=c.num_kv_heads,
        head_dim=c.head_dim,
        gated=c.attention_gate,
        eps=c.rms_norm_eps,
    )

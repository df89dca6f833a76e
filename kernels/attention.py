"""Grouped-query attention of new tokens over a cache of keys and values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of the last tokens of a sequence.

    q: [new, heads, head_dim]; k, v: [kv_heads, total, head_dim], the last `new` of `total` belong
    to q. Returns [new, heads * head_dim].
    """
    new, heads, head_dim = q.shape
    kv_heads, total, _ = k.shape
    if new == 1:
        # One query attends to everything: two small batched products, no mask.
        grouped = q.view(kv_heads, heads // kv_heads, head_dim)
        scores = torch.bmm(grouped, k.transpose(1, 2)) * head_dim**-0.5
        weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
        return torch.bmm(weights, v).view(1, heads * head_dim)
    mask = None
    if new != total:
        mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
    y = F.scaled_dot_product_attention(
        q.transpose(0, 1).unsqueeze(0),
        k.unsqueeze(0),
        v.unsqueeze(0),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=True,
    )
    return y[0].transpose(0, 1).reshape(new, heads * head_dim)


def attention_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same, one head at a time in float32."""
    new, heads, head_dim = q.shape
    kv_heads, total, _ = k.shape
    out = torch.empty(new, heads, head_dim)
    for h in range(heads):
        group = h // (heads // kv_heads)
        scores = q[:, h].float() @ k[group].float().T / head_dim**0.5
        hidden = torch.ones(new, total, dtype=torch.bool).triu(total - new + 1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        out[:, h] = weights @ v[group].float()
    return out.reshape(new, heads * head_dim).to(q.dtype)

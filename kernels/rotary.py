"""Rotary position embedding, rotate-half convention (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_table(head_dim: int, theta: float, length: int) -> Tensor:
    """cos and sin a position: [2, length, head_dim] float32; angles are computed in float64."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float64), theta**-exponent)
    angles = torch.cat([angles, angles], dim=-1)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate x: [tokens, heads, head_dim] by table: [2, tokens, head_dim]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    cos, sin = table.to(x.dtype).unsqueeze(2)
    return torch.addcmul(x * cos, turned, sin)

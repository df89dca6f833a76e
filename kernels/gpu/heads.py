"""The heads of an attention layer in `qkv`: norms and rotation, plain and in the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.pages import PAGE, Rotation, rotated


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Shape of the attention; norms: [head_dim] float32 or None; gated: q holds [query | gate] a head.

    window: how many tokens back are seen, the token itself included; 0 means all.
    """

    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None
    gated: bool = False
    window: int = 0

    @property
    def width(self) -> int:
        """Columns of q, k and v."""
        return (self.heads * (1 + self.gated) + 2 * self.kv_heads) * self.head_dim


def split_heads(qkv: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """q, k, v [tokens, heads, head_dim] float32, q and k normed, and the gate; the plain version."""
    h = heads
    x = qkv.float().view(qkv.shape[0], -1, h.head_dim)
    q, k, v = x.split([h.heads * (1 + h.gated), h.kv_heads, h.kv_heads], dim=1)
    gate = None
    if h.gated:
        q, gate = q.reshape(q.shape[0], h.heads, 2, h.head_dim).unbind(2)
    if h.q_norm is not None and h.k_norm is not None:
        q, k = (
            y * torch.rsqrt(y.square().mean(-1, keepdim=True) + h.eps) * weight.float()
            for y, weight in ((q, h.q_norm), (k, h.k_norm))
        )
    return q, k, v, gate


def absolute(x: Tensor, position: Tensor, rotation: Rotation) -> Tensor:
    """x [tokens, heads, head_dim] rotated to its positions; the plain version."""
    page, place = position.long() // PAGE, position.long() % PAGE
    for table, at in ((rotation.places, place), (rotation.pages, page)):
        x = rotated(x, table[0][at].unsqueeze(1), table[1][at].unsqueeze(1))
    return x


@triton.jit
def turn(a, b, cos, sin):
    """Two halves rotated."""
    return a * cos - b * sin, b * cos + a * sin


@triton.jit
def head_halves(
    base_ptr, norm_ptr, offsets, mask, eps, HEAD_DIM: tl.constexpr, HALF: tl.constexpr,
    REST: tl.constexpr,
):  # fmt: skip
    """Normed heads at `offsets` [N] in the parts that rotate and the one that does not: [N, HALF], [N, HALF], [N, HEAD_DIM].

    The last has the whole width, zero where it rotates; it is empty where all rotates.
    """
    i = tl.arange(0, HALF)
    d = tl.arange(0, HEAD_DIM)
    rows = mask[:, None]
    a = tl.load(base_ptr + offsets[:, None] + i[None, :], mask=rows, other=0.0).to(tl.float32)
    b = tl.load(base_ptr + offsets[:, None] + HALF + i[None, :], mask=rows, other=0.0)
    b = b.to(tl.float32)
    squares = tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1)
    rest = tl.zeros([a.shape[0], HEAD_DIM], tl.float32)
    if REST:
        kept = (d >= 2 * HALF)[None, :]
        rest = tl.load(base_ptr + offsets[:, None] + d[None, :], mask=rows & kept, other=0.0)
        rest = rest.to(tl.float32)
        squares += tl.sum(rest * rest, axis=1)
    if norm_ptr is not None:
        factor = tl.rsqrt(squares / HEAD_DIM + eps)[:, None]
        a *= factor * tl.load(norm_ptr + i)[None, :]
        b *= factor * tl.load(norm_ptr + HALF + i)[None, :]
        if REST:
            rest *= factor * tl.load(norm_ptr + d)[None, :]
    return a, b, rest


@triton.jit
def rounded(x):
    """To the nearest whole number, halves up."""
    return tl.floor(x + 0.5)

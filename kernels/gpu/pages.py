"""Keys and values of sequences in pages on the device.

A page holds 64 tokens of one sequence. Keys are rotated to their place in the page, not to that in
the sequence: the rotation from the page's first token on belongs to the query, so that a page can be
anywhere, and be shared. Long angles are products of two rotations, each from a float64 table: that of a
place in a page and that of a number of pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qcoder.kernels.rotary import Yarn, frequencies

PAGE = 64
"""Tokens a page."""

INT8_TOP = 127.0


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """cos and sin of places and of pages: [2, PAGE, half] and [2, pages, half] float32.

    scale: what YaRN multiplies products of q and k with (1.0 without); half: pairs that rotate.
    """

    places: Tensor
    pages: Tensor
    scale: float

    @property
    def half(self) -> int:
        """Half of the dimensions that rotate."""
        return self.places.shape[-1]


def rotation(
    rotary_dim: int, theta: float, yarn: Yarn | None, max_tokens: int, device: torch.device | str
) -> Rotation:
    """Tables for sequences of up to `max_tokens` tokens."""
    frequency = frequencies(rotary_dim, theta, yarn)
    places = torch.arange(PAGE, dtype=torch.float64)
    pages = torch.arange(-(-max_tokens // PAGE) + 1, dtype=torch.float64) * PAGE
    tables = [torch.outer(at, frequency) for at in (places, pages)]
    small, large = (torch.stack([a.cos(), a.sin()]).float().to(device) for a in tables)
    return Rotation(small, large, 1.0 if yarn is None else yarn.scale**2)


@dataclass(frozen=True, slots=True, eq=False)
class LayerPages:
    """One layer's pages: keys, values [pages, kv_heads, PAGE, head_dim]; scales of int8, else None.

    key_scales, value_scales: [pages, kv_heads, PAGE] float32.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    @property
    def is_int8(self) -> bool:
        """Whether there are scales."""
        return self.key_scales is not None


def layer_pages(
    count: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device | str
) -> LayerPages:
    """Empty pages; dtype: a float type, float8_e4m3fn or int8."""
    shape = (count, kv_heads, PAGE, head_dim)
    keys = torch.zeros(shape, dtype=dtype, device=device)
    values = torch.zeros(shape, dtype=dtype, device=device)
    if dtype != torch.int8:
        return LayerPages(keys, values)
    scales = [torch.zeros(shape[:3], device=device) for _ in range(2)]
    return LayerPages(keys, values, *scales)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Halves of the first dimensions of x [..., head_dim] rotated; cos, sin: [..., half]."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)

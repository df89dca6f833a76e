"""Rotary position embedding (Su et al., arXiv 2104.09864), rotate-half convention, with YaRN.

    y = x * cos + rotate_half(x) * sin,   rotate_half(x) = [-x2, x1] of the halves x1, x2

The table holds the sign in its sines, [-sin, sin], so that rotate_half becomes a plain roll.
Angles are computed in float64: in float32 position * frequency is off by 0.03 rad at a million
tokens. YaRN (Peng et al., arXiv 2309.00071) divides the slow frequencies by `factor`, keeps the
fast ones and scales cos and sin by `attention_factor`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from qcoder.kernels.dispatch import choose

FIRST_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Yarn:
    """Context extension by `factor` beyond `original_context` tokens."""

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.factor < 1 or self.original_context < 1:
            raise ValueError(f"yarn: factor and original context must be at least 1: {self}")

    @property
    def scale(self) -> float:
        """What cos and sin are multiplied by."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 1.0 if self.factor == 1 else 0.1 * math.log(self.factor) + 1.0

    @property
    def details(self) -> str:
        """The less common settings, for keys."""
        return f"{self.beta_fast:g} {self.beta_slow:g} {self.scale!r} {self.truncate}"

    def kept(self, head_dim: int, theta: float) -> Tensor:
        """How much of each frequency stays as it is, 0 to 1: [head_dim / 2] float64."""

        def pair(rotations: float) -> float:
            turns = self.original_context / (rotations * 2 * math.pi)
            return head_dim * math.log(turns) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        if low == high:
            high += 0.001
        steps = torch.arange(head_dim // 2, dtype=torch.float64) - low
        return 1 - (steps / (high - low)).clamp(0, 1)


def frequencies(head_dim: int, theta: float, yarn: Yarn | None = None) -> Tensor:
    """Radians a position of each pair of a head: [head_dim / 2] float64."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    plain = torch.pow(torch.tensor(theta, dtype=torch.float64), -exponent)
    if yarn is None:
        return plain
    kept = yarn.kept(head_dim, theta)
    return plain * kept + plain / yarn.factor * (1 - kept)


def rotary_rows(frequency: Tensor, scale: float, start: int, end: int) -> Tensor:
    """cos and signed sin of positions, stacked: [2, end - start, head_dim] float32."""
    angles = torch.outer(torch.arange(start, end, dtype=torch.float64), frequency)
    cos, sin = (angles.cos() * scale).float(), (angles.sin() * scale).float()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])


def rotary_table(head_dim: int, theta: float, length: int, yarn: Yarn | None = None) -> Tensor:
    """cos and signed sin of the positions from 0 on: [2, length, head_dim] float32."""
    scale = 1.0 if yarn is None else yarn.scale
    return rotary_rows(frequencies(head_dim, theta, yarn), scale, 0, length)


class Rotary(Protocol):
    """Where the rows of a forward pass come from."""

    def rows(self, start: int, end: int) -> Tensor:
        """cos and signed sin of the tokens from `start` to `end`: [2, end - start, head_dim]."""
        ...


class RotaryTable:
    """Rows of the positions up to `max_length`, computed when the first of them is needed.

    A table for a million tokens takes a gigabyte, so it grows by doubling; the rows do not change.
    """

    __slots__ = ("_frequency", "_max_length", "_rows", "_scale")

    def __init__(self, head_dim: int, theta: float, yarn: Yarn | None, max_length: int) -> None:
        self._frequency = frequencies(head_dim, theta, yarn)
        self._scale = 1.0 if yarn is None else yarn.scale
        self._max_length = max_length
        self._rows = rotary_rows(self._frequency, self._scale, 0, min(max_length, FIRST_ROWS))

    def rows(self, start: int, end: int) -> Tensor:
        """See `Rotary`; a view."""
        known = self._rows.shape[1]
        if end > known:
            length = min(max(end, 2 * known), max(end, self._max_length))
            new = rotary_rows(self._frequency, self._scale, known, length)
            self._rows = torch.cat([self._rows, new], dim=1)
        return self._rows[:, start:end]


def rotate_reference(x: Tensor, table: Tensor) -> Tensor:
    """Rotate x: [tokens, heads, head_dim] by table: [2, tokens, rotary_dim]; element by element.

    Where `rotary_dim` is less than `head_dim`, the rest of each head stays as it is.
    """
    size = table.shape[-1]
    half = size // 2
    cos, sin = table[0, :, None, :half], table[1, :, None, half:]
    a, b, rest = torch.split(x.float(), [half, half, x.shape[-1] - size], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1).to(x.dtype)


def rotate_cpu(x: Tensor, table: Tensor) -> Tensor:
    """The same in three ops, in the dtype of x."""
    size = table.shape[-1]
    if size < x.shape[-1]:
        return torch.cat([rotate_cpu(x[..., :size], table), x[..., size:]], dim=-1)
    table = table.to(x.dtype).unsqueeze(2)
    return torch.addcmul(x * table[0], x.roll(size // 2, -1), table[1])


rotate = choose(cpu=rotate_cpu, reference=rotate_reference)

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

import torch
from torch import Tensor

from qcoder.kernels.dispatch import choose


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

    def kept(self, head_dim: int, theta: float) -> Tensor:
        """How much of each frequency stays as it is, 0 to 1: [head_dim / 2] float64."""

        def pair(rotations: float) -> float:
            turns = self.original_context / (rotations * 2 * math.pi)
            return head_dim * math.log(turns) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        steps = torch.arange(head_dim // 2, dtype=torch.float64) - low
        return 1 - (steps / max(high - low, 0.001)).clamp(0, 1)


def rotary_table(head_dim: int, theta: float, length: int, yarn: Yarn | None = None) -> Tensor:
    """cos and signed sin of every position, stacked: [2, length, head_dim] float32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    frequency = torch.pow(torch.tensor(theta, dtype=torch.float64), -exponent)
    scale = 1.0
    if yarn is not None:
        kept = yarn.kept(head_dim, theta)
        frequency = frequency * kept + frequency / yarn.factor * (1 - kept)
        scale = yarn.scale
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)]).float()


def rotate_reference(x: Tensor, table: Tensor) -> Tensor:
    """Rotate x: [tokens, heads, head_dim] by table: [2, tokens, head_dim]; element by element."""
    half = x.shape[-1] // 2
    cos, sin = table[0, :, None, :half], table[1, :, None, half:]
    a, b = x[..., :half].float(), x[..., half:].float()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def rotate_cpu(x: Tensor, table: Tensor) -> Tensor:
    """The same in three ops, in the dtype of x."""
    table = table.to(x.dtype).unsqueeze(2)
    return torch.addcmul(x * table[0], x.roll(x.shape[-1] // 2, -1), table[1])


rotate = choose(cpu=rotate_cpu, reference=rotate_reference)

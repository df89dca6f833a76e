"""Root-mean-square norm: x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich, 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.dispatch import choose


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Norm over the last dimension; x: [..., size], weight: [size] or a shape that broadcasts.

    Computed in float32 and cast back before the product with the weight, as Qwen3 does; a float32
    weight beside a smaller x is multiplied before, as Qwen3-Next does.
    """
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return y.to(x.dtype) * weight if weight.dtype == x.dtype else (y * weight).to(x.dtype)


def rms_norm_cpu(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same; a single float32 row takes a dot product instead of a chain of reductions.

    One row of 384 on a shared core: 7 us against 13 us of `torch.nn.functional.rms_norm`.
    """
    if x.dtype != torch.float32:
        return rms_norm_reference(x, weight, eps)
    size = x.shape[-1]
    if x.numel() == size:
        row = x.reshape(size)
        mean_square = float(torch.dot(row, row)) / size
        return x * (1 / math.sqrt(mean_square + eps)) * weight
    y: Tensor = F.rms_norm(x, (size,), None, eps)
    return y * weight


rms_norm = choose(cpu=rms_norm_cpu, reference=rms_norm_reference)

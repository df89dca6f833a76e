"""Launches of the choice of tokens with Qwen's vocabulary, without content."""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.kernels.gpu.sampling import GpuSampling, argmax, sample

VOCABULARY = 151_936


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def draw(tokens: int) -> None:
    """Tokens with a temperature."""
    kinds = (torch.float32, torch.int32, torch.float32, torch.float32, torch.float32)
    sample(_empty(tokens, VOCABULARY), GpuSampling(*(_empty(tokens, dtype=kind) for kind in kinds)))


SAMPLING_LAUNCHES = {
    "argmax": lambda: argmax(_empty(1, VOCABULARY)),
    "sample": lambda: draw(4),
}

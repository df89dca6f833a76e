"""Launches of the linear attention of Qwen3-Coder-Next 80B-A3B, without their content."""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.kernels.gpu.delta_net import DeltaNetStates, GpuDeltaNet, delta_net_step
from qcoder.kernels.gpu.delta_net_chunks import delta_net_prefill

KEY_HEADS, VALUE_HEADS, DIM, TAPS = 16, 32, 128, 4


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def layer() -> GpuDeltaNet:
    """The shape of a layer; weights as the engine holds them."""
    channels = (2 * KEY_HEADS + VALUE_HEADS) * DIM
    return GpuDeltaNet(
        KEY_HEADS, VALUE_HEADS, DIM, DIM, _empty(channels, TAPS, dtype=torch.bfloat16),
        _empty(VALUE_HEADS), _empty(VALUE_HEADS), _empty(DIM, dtype=torch.bfloat16), 1e-6,
    )  # fmt: skip


def step(tokens: int, sequences: int) -> None:
    """A decode step; with more tokens than sequences one with drafts."""
    shape = layer()
    numbers = [_empty(n, dtype=torch.int32) for n in (sequences + 1, sequences, tokens)]
    states = DeltaNetStates.empty(shape, sequences, "meta")
    delta_net_step(
        _empty(tokens, shape.width), _empty(tokens, 2 * VALUE_HEADS), shape, states, *numbers
    )


def prefill(tokens: int) -> None:
    """A chunk of a prompt."""
    shape, kind = layer(), torch.bfloat16
    states = DeltaNetStates.empty(shape, 2, "meta")
    ba = _empty(tokens, 2 * VALUE_HEADS, dtype=kind)
    delta_net_prefill(_empty(tokens, shape.width, dtype=kind), ba, shape, states, 0, 1)


DELTA_NET_LAUNCHES = {
    "delta_net step": lambda: step(1, 1),
    "delta_net prefill": lambda: prefill(8192),
}

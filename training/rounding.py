"""Rounds matrices in training as the export will round them.

Quantization-aware training with a straight-through gradient: the float32 masters stay exact, the
copies that the network multiplies with lie on the int8 grid (one scale a row, `model/quant.py`), so
the last steps find weights that survive the rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qcoder.model.quant import dequantize_int8, quantize_int8


def is_quantized(name: str, dimensions: int) -> bool:
    """Whether the export writes a parameter as int8: every matrix but the router."""
    return dimensions >= 2 and not name.endswith("router")


def round_int8(weights: Tensor) -> Tensor:
    """`weights` [..., rows, columns] on the int8 grid of their rows, float32."""
    values, scales = quantize_int8(weights.reshape(-1, weights.shape[-1]))
    return dequantize_int8(values, scales).view_as(weights)


@torch.no_grad()
def publish_rounded(parameters: dict[str, Tensor], masters: dict[str, Tensor]) -> None:
    """Write the masters to the parameters of the same names, quantized ones rounded."""
    for name, parameter in parameters.items():
        master = masters[name]
        parameter.copy_(round_int8(master) if is_quantized(name, master.dim()) else master)

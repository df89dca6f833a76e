"""Products with matrices that are not held as floats: y = x @ W^T, a slice of W's rows at a time.

Only the slice is ever turned into floats, so a product costs no memory that grows with the matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SLICE_ELEMENTS = 1 << 19
"""Floats a slice: 2 MB, which stay in the cache between being written and being multiplied."""


def sliced_linear(x: Tensor, out_size: int, floats: Callable[[int, int], Tensor]) -> Tensor:
    """x: [tokens, in]; `floats(start, stop)` gives rows [stop - start, in]; returns [tokens, out]."""
    step = max(1, SLICE_ELEMENTS // x.shape[1])
    parts = []
    for start in range(0, out_size, step):
        rows = floats(start, min(start + step, out_size))
        parts.append(F.linear(x, rows.to(x.dtype)))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

"""Keys and values of one sequence of tokens.

Keys are stored after rotation: reuse is by exact prefix (`prefix_cache.py`), so positions never
move. Buffers grow by doubling, since a context may allow 256k tokens that hardly any prompt uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_CAPACITY = 512


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a token costs in a cache, and how many may be held."""

    layers: int
    kv_heads: int
    head_dim: int
    max_tokens: int
    dtype: torch.dtype = torch.float32

    @property
    def token_bytes(self) -> int:
        """Bytes of one token, keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


class Sequence:
    """One growing sequence: `ids[i]` was computed into column i of every layer's buffers.

    `ids` is extended after the last layer has written its columns, so that an interrupted forward
    pass leaves the sequence as it was.
    """

    __slots__ = ("_keys", "_shape", "_values", "ids")

    def __init__(self, shape: CacheShape, capacity: int = FIRST_CAPACITY) -> None:
        self._shape = shape
        self.ids: list[int] = []
        self._keys = self._buffer(min(capacity, shape.max_tokens))
        self._values = torch.empty_like(self._keys)

    def _buffer(self, capacity: int) -> Tensor:
        s = self._shape
        return torch.empty(s.layers, s.kv_heads, capacity, s.head_dim, dtype=s.dtype)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        return int(self._keys.shape[2])

    @property
    def size_bytes(self) -> int:
        """Memory of both buffers."""
        return self.capacity * self._shape.token_bytes

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in all; raises `ValueError` beyond the model's context."""
        if tokens <= self.capacity:
            return
        if tokens > self._shape.max_tokens:
            raise ValueError(f"{tokens} tokens, the cache holds {self._shape.max_tokens}")
        capacity = min(max(tokens, 2 * self.capacity), self._shape.max_tokens)
        used = len(self.ids)
        for name in ("_keys", "_values"):
            old, new = getattr(self, name), self._buffer(capacity)
            new[:, :, :used] = old[:, :, :used]
            setattr(self, name, new)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store columns [tokens, kv_heads, head_dim] behind `ids`; returns all up to them.

        Room must have been reserved. The results, [kv_heads, total, head_dim], are views.
        """
        start = len(self.ids)
        end = start + keys.shape[0]
        all_keys, all_values = self._keys[layer, :, :end], self._values[layer, :, :end]
        all_keys[:, start:] = keys.transpose(0, 1)
        all_values[:, start:] = values.transpose(0, 1)
        return all_keys, all_values

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on; the buffers are overwritten later."""
        del self.ids[length:]

    def copy_prefix(self, length: int) -> Sequence:
        """A new sequence that holds the first `length` tokens of this one."""
        copy = Sequence(self._shape, max(length, FIRST_CAPACITY))
        copy._keys[:, :, :length] = self._keys[:, :, :length]
        copy._values[:, :, :length] = self._values[:, :, :length]
        copy.ids = self.ids[:length]
        return copy

    def check_integrity(self) -> None:
        """Assert what must always hold; columns of known tokens are finite numbers."""
        used = len(self.ids)
        assert used <= self.capacity <= self._shape.max_tokens
        assert self._keys.shape == self._values.shape
        assert bool(self._keys[:, :, :used].isfinite().all())
        assert bool(self._values[:, :, :used].isfinite().all())

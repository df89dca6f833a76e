"""Keys and values of sequences that were computed, kept for the next prompt with the same start.

A `Sequence` owns one buffer a layer and the token ids it stands for. The `PrefixCache` keeps a few,
least recently used first out, and hands out the one that shares the longest prefix with a prompt.
Keys are stored after rotation: reuse is by exact prefix, so positions never move.
"""

from __future__ import annotations

from collections.abc import Sequence as IdSequence

import torch
from torch import Tensor


class Sequence:
    """One growing sequence: ids[i] was computed into column i of every layer's buffers."""

    __slots__ = ("ids", "keys", "values")

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, capacity: int, dtype: torch.dtype
    ) -> None:
        shape = (layers, kv_heads, capacity, head_dim)
        self.keys = torch.empty(shape, dtype=dtype)
        self.values = torch.empty(shape, dtype=dtype)
        self.ids: list[int] = []

    @property
    def capacity(self) -> int:
        """Most tokens that fit."""
        return self.keys.shape[2]

    @property
    def size_bytes(self) -> int:
        """Memory of both buffers."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new columns [tokens, kv_heads, head_dim]; returns all columns up to them."""
        end = start + keys.shape[0]
        self.keys[layer, :, start:end] = keys.transpose(0, 1)
        self.values[layer, :, start:end] = values.transpose(0, 1)
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on; the buffers are overwritten later."""
        del self.ids[length:]


def common_prefix(a: IdSequence[int], b: IdSequence[int]) -> int:
    """Number of equal leading ids."""
    limit = min(len(a), len(b))
    for i in range(limit):
        if a[i] != b[i]:
            return i
    return limit


class PrefixCache:
    """Up to `max_sequences` computed sequences, least recently used first."""

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype,
        max_sequences: int = 6,
    ) -> None:
        self._shape = (layers, kv_heads, head_dim, capacity)
        self._dtype = dtype
        self._max_sequences = max_sequences
        self._sequences: list[Sequence] = []

    def acquire(self, ids: IdSequence[int]) -> tuple[Sequence, int]:
        """A sequence whose first n ids equal the prompt's, cut to n; and n, less than len(ids).

        The sequence that shares most is reused in place when that is at least half of what it
        holds; otherwise its common columns are copied, so that two prompts do not evict each other.
        """
        best, shared = None, 0
        for sequence in self._sequences:
            n = common_prefix(sequence.ids, ids)
            if n > shared:
                best, shared = sequence, n
        shared = min(shared, len(ids) - 1)
        if best is None or shared <= 0:
            return self._fresh(), 0
        if 2 * shared < len(best.ids):
            copy = self._fresh(keep=best)
            copy.keys[:, :, :shared] = best.keys[:, :, :shared]
            copy.values[:, :, :shared] = best.values[:, :, :shared]
            copy.ids = best.ids[:shared]
            return copy, shared
        self._sequences.remove(best)
        self._sequences.append(best)
        best.truncate(shared)
        return best, shared

    def _fresh(self, keep: Sequence | None = None) -> Sequence:
        if len(self._sequences) >= self._max_sequences:
            victim = next(s for s in self._sequences if s is not keep)
            self._sequences.remove(victim)
            victim.truncate(0)
            sequence = victim
        else:
            layers, kv_heads, head_dim, capacity = self._shape
            sequence = Sequence(layers, kv_heads, head_dim, capacity, self._dtype)
        self._sequences.append(sequence)
        return sequence

    @property
    def size_bytes(self) -> int:
        """Memory of all sequences."""
        return sum(s.size_bytes for s in self._sequences)

    def check_integrity(self) -> None:
        """Assert what must always hold."""
        assert len(self._sequences) <= self._max_sequences
        assert len({id(s) for s in self._sequences}) == len(self._sequences)
        assert all(len(s.ids) <= s.capacity for s in self._sequences)

"""Token healing: a generation that must begin with given bytes.

A cursor rarely stands where a tokenizer would cut. After `self.na` the model has only seen texts
in which that token is followed by something else than `me`; so the prompt leaves the unfinished
piece out, and the first tokens are chosen among those that spell it. What is already in the
editor is not emitted again.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from qcoder.model.tokenizer import TokenBytes

FloatArray = NDArray[np.float32]
IMPOSSIBLE = np.float32(-1e9)
"""Log-probability of a token that does not fit; finite, so that sums over the rest stay finite."""


class PrefixIndex:
    """The tokens of a vocabulary by their bytes; immutable."""

    __slots__ = ("_by_bytes", "_bytes", "_ids")

    def __init__(self, tokenizer: TokenBytes, vocab_size: int) -> None:
        pairs = sorted((tokenizer.token_bytes(i), i) for i in range(vocab_size))
        pairs = [pair for pair in pairs if pair[0]]
        self._bytes = [data for data, _ in pairs]
        self._ids = np.array([i for _, i in pairs], dtype=np.int64)
        self._by_bytes = dict(reversed(pairs))

    def compatible(self, wanted: bytes) -> NDArray[np.int64]:
        """Ids of the tokens that begin with `wanted` or that `wanted` begins with."""
        low = bisect_left(self._bytes, wanted)
        high = bisect_left(self._bytes, wanted + b"\xff" * 64)
        shorter = [wanted[:size] for size in range(1, len(wanted))]
        ids = [self._by_bytes[data] for data in shorter if data in self._by_bytes]
        return np.concatenate([self._ids[low:high], np.array(ids, dtype=np.int64)])


class Healing:
    """One generation's way through its given bytes; `pending` is what is left of them."""

    __slots__ = ("_index", "pending")

    def __init__(self, index: PrefixIndex, wanted: bytes) -> None:
        self._index = index
        self.pending = wanted

    def constrain(self, logprobs: FloatArray) -> FloatArray:
        """Log-probabilities [vocab] among the tokens that fit, renormalised."""
        ids = self._index.compatible(self.pending)
        if not len(ids):
            # A vocabulary that cannot spell the bytes: go on without them.
            self.pending = b""
            return logprobs
        fitting = logprobs[ids]
        top = fitting.max()
        total = top + np.log(np.exp(fitting - top).sum())
        out = np.full_like(logprobs, IMPOSSIBLE)
        out[ids] = fitting - total
        return out

    def take(self, data: bytes) -> bytes:
        """Consume a chosen token's bytes; returns those beyond the given ones."""
        given = self.pending
        self.pending = given[len(data) :]
        return data[len(given) :]

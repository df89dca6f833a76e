"""Token healing: a generation that must begin with given bytes.

A cursor rarely stands where a tokenizer would cut. After `self.na` the model has only seen texts
in which that token is followed by something else than `me`; so the prompt leaves the unfinished
piece out, and the first tokens are chosen among those that spell it. What is already in the
editor is not emitted again. Behind the indentation of a line the same choice keeps the generation
from indenting further.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from qcoder.model.line_ends import IMPOSSIBLE
from qcoder.model.tokenizer import TokenBytes

FloatArray = NDArray[np.float32]
BLANKS = (b" ", b"\t")
MAX_HEALED_TOKENS = 4


class PrefixIndex:
    """The tokens of a vocabulary by their bytes; immutable."""

    __slots__ = ("_by_bytes", "_bytes", "_ids")

    def __init__(self, tokenizer: TokenBytes, vocab_size: int) -> None:
        pairs = sorted((tokenizer.token_bytes(i), i) for i in range(vocab_size))
        pairs = [pair for pair in pairs if pair[0]]
        self._bytes = [data for data, _ in pairs]
        self._ids = np.array([i for _, i in pairs], dtype=np.int64)
        self._by_bytes = dict(reversed(pairs))

    def beginning(self, wanted: bytes) -> NDArray[np.int64]:
        """Ids of the tokens that begin with `wanted`."""
        low = bisect_left(self._bytes, wanted)
        return self._ids[low : bisect_left(self._bytes, wanted + b"\xff" * 64)]

    def compatible(self, wanted: bytes) -> NDArray[np.int64]:
        """Ids of the tokens that begin with `wanted` or that `wanted` begins with."""
        shorter = [wanted[:size] for size in range(1, len(wanted))]
        ids = [self._by_bytes[data] for data in shorter if data in self._by_bytes]
        return np.concatenate([self.beginning(wanted), np.array(ids, dtype=np.int64)])


class Healing:
    """One generation's way through its given bytes; `pending` is what is left of them.

    With `indented` the first byte behind the given ones is no blank.
    """

    __slots__ = ("_indented", "_index", "pending")

    def __init__(self, index: PrefixIndex, wanted: bytes, indented: bool = False) -> None:
        self._index = index
        self._indented = indented
        self.pending = wanted

    @property
    def active(self) -> bool:
        """Whether the next token is still constrained."""
        return bool(self.pending) or self._indented

    def constrain(self, logprobs: FloatArray) -> FloatArray:
        """Log-probabilities [vocab] among the tokens that fit, renormalised."""
        fits = np.ones(logprobs.shape, dtype=np.bool_)
        if self.pending:
            fits[:] = False
            fits[self._index.compatible(self.pending)] = True
        if not fits.any():
            # A vocabulary that cannot spell the bytes: go on without them.
            self.pending = b""
            return logprobs
        if self._indented:
            solid = fits.copy()
            for blank in BLANKS:
                solid[self._index.beginning(self.pending + blank)] = False
            fits = solid if solid.any() else fits
        fitting = logprobs[fits]
        top = fitting.max()
        total = top + np.log(np.exp(fitting - top).sum())
        return np.where(fits, logprobs - total, IMPOSSIBLE)

    def take(self, data: bytes) -> bytes:
        """Consume a chosen token's bytes; returns those beyond the given ones."""
        given = self.pending
        self.pending = given[len(data) :]
        new = data[len(given) :]
        if new:
            self._indented = False
        return new


def healable(prefix: list[int], tokenizer: TokenBytes) -> tuple[list[int], bytes]:
    """Split off the tokens at the end of the prefix that may belong to an unfinished one.

    A word may be cut into several pieces that it has only while it is unfinished, so all of them
    go; of anything else the last token. A line break always ends a token that counts.
    """
    healed = b""
    end = len(prefix)
    while end > 0 and len(prefix) - end < MAX_HEALED_TOKENS:
        piece = tokenizer.token_bytes(prefix[end - 1])
        same_word = is_word(piece[-1:]) and is_word(healed[:1])
        if b"\n" in piece or (healed and not same_word):
            break
        healed = piece + healed
        end -= 1
        if not is_word(piece[:1]):
            break
    return prefix[:end], healed


def is_word(data: bytes) -> bool:
    """Whether the bytes are all letters or digits, of any script."""
    return all(chr(byte).isalnum() or byte >= 0x80 for byte in data)

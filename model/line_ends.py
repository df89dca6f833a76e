"""Tokens that end a line alike, taken as one.

A line can end in many ways: with a line break, with the blanks of the next line behind it, with a
bracket before it, or with the end token of a model that fills a hole. None of them need be the likeliest
token where together they are. Who wants one line only sees the text before the break, so what counts
is how likely each text is, not which token says it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IMPOSSIBLE = np.float32(-1e9)
"""Log-probability of a token that cannot be chosen; finite, so that sums over the rest stay finite."""


class LineEnds:
    """The tokens that hold a line break, in groups of the same text before it.

    End tokens belong to the group of the empty text. members: [n] ids; group: [n], the number of
    each one's group; chosen: [groups], the token that gets a group's probability. Immutable.
    """

    __slots__ = ("chosen", "group", "members")

    def __init__(self, token_bytes: Collection[bytes], end_ids: Collection[int]) -> None:
        """`token_bytes` by id."""
        by_text: dict[bytes, list[tuple[int, int]]] = {b"": [(0, i) for i in sorted(end_ids)]}
        for token, data in enumerate(token_bytes):
            before, line_break, behind = data.partition(b"\n")
            if line_break:
                before = before.removesuffix(b"\r")
                by_text.setdefault(before, []).append((1 + len(behind), token))
        groups = [sorted(group) for group in by_text.values() if group]
        self.members = np.array([i for group in groups for _, i in group], dtype=np.int64)
        self.group = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        self.chosen = np.array([group[0][1] for group in groups], dtype=np.int64)

    def merged(self, logprobs: FloatArray) -> FloatArray:
        """Log-probabilities [vocab] in which one token of each group has the probability of all."""
        out = logprobs.copy()
        with np.errstate(divide="ignore"):
            totals = np.log(np.bincount(self.group, np.exp(logprobs[self.members])))
        out[self.members] = IMPOSSIBLE
        out[self.chosen] = np.maximum(totals, IMPOSSIBLE)
        return out

    def standing_for(self, vocab_size: int) -> NDArray[np.int64]:
        """For every token the one that gets its probability: [vocab]."""
        found = np.arange(vocab_size)
        found[self.members] = self.chosen[self.group]
        return found

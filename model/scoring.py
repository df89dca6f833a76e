"""How expected the tokens of a text are, as an engine gives it: piece by piece.

A whole window at once would let a completion wait for as long as it takes, and its logits over a large
vocabulary are hundreds of megabytes; of a piece only three numbers a token are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """Of n consecutive tokens: [n] natural log probabilities, and what was likeliest in their place."""

    logprobs: FloatArray
    best: IdArray
    best_logprobs: FloatArray

    def __len__(self) -> int:
        return len(self.logprobs)


def scores_of(logits: FloatArray, ids: Sequence[int]) -> TokenScores:
    """The scores of `ids` [n], each behind a row of `logits` [n, vocab]."""
    best = logits.argmax(axis=-1)
    rows = np.arange(len(ids))
    peaks = logits[rows, best]
    total = peaks + np.log(np.exp(logits - peaks[:, None]).sum(axis=-1))
    chosen = logits[rows, np.asarray(ids, dtype=np.int64)]
    return TokenScores(
        (chosen - total).astype(np.float32),
        best.astype(np.int32),
        (peaks - total).astype(np.float32),
    )


def joined(pieces: Iterable[TokenScores]) -> TokenScores:
    """The scores of all pieces, one behind the other."""
    nothing = np.empty(0, np.float32)
    empty = TokenScores(nothing, np.empty(0, np.int32), nothing)
    parts = [empty, *pieces]
    return TokenScores(
        np.concatenate([part.logprobs for part in parts]),
        np.concatenate([part.best for part in parts]),
        np.concatenate([part.best_logprobs for part in parts]),
    )


def check_start(ids: Sequence[int], start: int) -> None:
    """Raises `ValueError` for a first token that has nothing before it, or is not there."""
    if not 1 <= start <= len(ids):
        raise ValueError(
            f"tokens from {start} on of {len(ids)} cannot be scored; start at 1 or more"
        )

"""Longest-match statistics over token sequences: the copy model's memory.

Two memories answer the same question, "which tokens followed the longest suffixes of this history
elsewhere?": `SuffixTable` is immutable and sorted once, for the open file and the workspace;
`LocalHistory` grows by a token at a time, for the prompt and what is being generated. Their matches
become a probability distribution (`distribution`) or a draft of several tokens
(`SuffixTable.continuation`, `LocalHistory.continuation`). The idea of nested caches of file and
project is Hellendoorn and Devanbu's (ESEC/FSE 2017).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH = 64
"""Longest suffix that is told apart, in tokens."""

SORTED_LENGTH = 16
"""Tokens that a table is sorted by; longer matches are measured one by one."""

MIN_LENGTH = 2
"""Matches of a single token count only when there is no longer one."""

MATCH_LIMIT = 48
"""Occurrences looked at a step; the longest and latest come first."""

IntArray = NDArray[np.int32]


LONGEST_DRAFT = 7
"""Tokens of a draft."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What followed the longest match of the text so far; `matched` tokens were the same before it."""

    ids: tuple[int, ...]
    matched: int


@dataclass(frozen=True, slots=True)
class Match:
    """The last `length` tokens of the history also stand before `position`, where `next_id` is."""

    length: int
    next_id: int
    position: int


@dataclass(frozen=True, slots=True, eq=False)
class SuffixTable:
    """Positions of a token sequence, sorted by what stands before them, nearest token first.

    ids: [tokens]; order: [tokens - 1], a permutation of the positions 1..tokens-1. Building costs
    four sorts; a lookup costs two binary searches a matched token.
    """

    ids: IntArray
    order: IntArray

    @staticmethod
    def build(ids: Sequence[int] | IntArray) -> SuffixTable:
        """Sort the positions of `ids` by their last `SORTED_LENGTH` tokens (prefix doubling)."""
        array = np.ascontiguousarray(ids, dtype=np.int32)
        if array.size < 2:
            return SuffixTable(array, np.zeros(0, dtype=np.int32))
        # rank[i] orders position i by the tokens before it; -1 stands before the start.
        rank = np.concatenate([[-1], array[:-1]]).astype(np.int64)
        width = 1
        order = np.argsort(rank, kind="stable")
        while width < SORTED_LENGTH:
            further = np.full_like(rank, -1)
            further[width:] = rank[:-width] if width < rank.size else further[width:]
            key = (rank + 1) * (np.int64(rank.max()) + 2) + (further + 1)
            order = np.argsort(key, kind="stable")
            sorted_key = key[order]
            steps = np.concatenate([[0], np.cumsum(sorted_key[1:] != sorted_key[:-1])])
            rank = np.empty_like(rank)
            rank[order] = steps
            width *= 2
        order = order[order > 0]
        return SuffixTable(array, order.astype(np.int32))

    def matches(self, history: Sequence[int], limit: int = MATCH_LIMIT) -> list[Match]:
        """Occurrences of the history's longest suffixes, longest first, at most `limit`."""
        ids, order = self.ids, self.order
        low, high = 0, len(order)
        ranges: list[tuple[int, int]] = []
        for length in range(1, min(SORTED_LENGTH, len(history)) + 1):
            wanted = history[-length]

            def token(position: int, back: int = length) -> int:
                return int(ids[position - back]) if position >= back else -1

            low = bisect_left(order, wanted, low, high, key=token)
            high = bisect_right(order, wanted, low, high, key=token)
            if low >= high:
                break
            ranges.append((low, high))
        found: list[Match] = []
        inner: tuple[int, int] | None = None
        shortest = MIN_LENGTH if len(ranges) >= MIN_LENGTH else 1
        for length in range(len(ranges), shortest - 1, -1):
            low, high = ranges[length - 1]
            rows = _outside(low, high, inner, limit - len(found))
            found += [Match(length, int(ids[position]), int(position)) for position in order[rows]]
            inner = (low, high)
            if len(found) >= limit:
                break
        if found and found[0].length == SORTED_LENGTH:
            found = sorted((self._lengthened(m, history) for m in found), key=_longest_first)
        return found

    def _lengthened(self, match: Match, history: Sequence[int]) -> Match:
        """The match with its true length, of which sorting knows the first part."""
        if match.length < SORTED_LENGTH:
            return match
        size = min(MAX_LENGTH, len(history), match.position)
        here = self.ids[match.position - size : match.position][::-1]
        different = np.flatnonzero(here != np.asarray(history[-size:][::-1]))
        length = int(different[0]) if different.size else size
        return Match(length, match.next_id, match.position)


def _longest_first(match: Match) -> int:
    return -match.length


def _outside(low: int, high: int, inner: tuple[int, int] | None, limit: int) -> NDArray[np.int64]:
    """At most `limit` evenly spread rows of [low, high) that are not in `inner`."""
    rows = np.arange(low, high)
    if inner is not None:
        rows = np.concatenate([rows[: inner[0] - low], rows[inner[1] - low :]])
    if rows.size > limit:
        rows = rows[np.linspace(0, rows.size - 1, max(limit, 0)).astype(np.int64)]
    return rows


class LocalHistory:
    """The token sequence so far, indexed by its last one and two tokens; grows by `push`."""

    __slots__ = ("_bigrams", "_unigrams", "ids")

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids: list[int] = []
        self._bigrams: dict[tuple[int, int], list[int]] = {}
        self._unigrams: dict[int, list[int]] = {}
        for token in ids:
            self.push(token)

    def push(self, token: int) -> None:
        """Append one token."""
        ids = self.ids
        if ids:
            self._unigrams.setdefault(ids[-1], []).append(len(ids))
        if len(ids) >= 2:
            self._bigrams.setdefault((ids[-2], ids[-1]), []).append(len(ids))
        ids.append(token)

    def matches(self, limit: int = MATCH_LIMIT) -> list[Match]:
        """Earlier occurrences of the sequence's own longest suffixes, longest and latest first."""
        ids = self.ids
        if not ids:
            return []
        positions, known = self._bigrams.get((ids[-2], ids[-1])) if len(ids) > 1 else None, 2
        if positions is None:
            positions, known = self._unigrams.get(ids[-1], []), 1
        found = []
        for position in reversed(positions[-limit:]):
            length = known
            while (
                known > 1
                and length < MAX_LENGTH
                and position > length
                and ids[position - length - 1] == ids[-length - 1]
            ):
                length += 1
            found.append(Match(length, ids[position], position))
        found.sort(key=_longest_first)
        return found

    def draft(self, max_tokens: int) -> Draft:
        """What followed the longest and latest earlier match, at most `max_tokens`."""
        found = self.matches()
        if not found:
            return Draft((), 0)
        start = found[0].position
        return Draft(tuple(self.ids[start : start + max_tokens]), found[0].length)


@dataclass(frozen=True, slots=True)
class CopyDistribution:
    """Next-token probabilities of the copy model; `ids` and `probabilities` run side by side."""

    ids: IntArray
    probabilities: NDArray[np.float32]
    longest: int
    support: int

    @property
    def top(self) -> int:
        """Index of the most probable entry in `ids`."""
        return int(self.probabilities.argmax())


def distribution(matches: Sequence[Match]) -> CopyDistribution | None:
    """Blend the matches of all lengths, longest first, with PPM method D escapes.

    At each length n the tokens seen after matches of at least n get (2 c - 1) / 2T of the mass that
    is left, where c counts a token and T all of them. None without matches. `support` is the
    number of matches of the greatest length.
    """
    if not matches:
        return None
    ordered = sorted(matches, key=_longest_first)
    longest = ordered[0].length
    counts: dict[int, int] = {}
    mass: dict[int, float] = {}
    left = 1.0
    for total, match in enumerate(ordered, start=1):
        counts[match.next_id] = counts.get(match.next_id, 0) + 1
        if total == len(ordered) or ordered[total].length != match.length:
            unit = left / (2 * total)
            for token, count in counts.items():
                mass[token] = mass.get(token, 0.0) + (2 * count - 1) * unit
            left *= len(counts) / (2 * total)
    ids = np.fromiter(mass.keys(), dtype=np.int32, count=len(mass))
    probabilities = np.fromiter(mass.values(), dtype=np.float32, count=len(mass))
    support = sum(m.length == longest for m in ordered)
    return CopyDistribution(ids, probabilities / probabilities.sum(), longest, support)

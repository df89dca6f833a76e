"""Peers of the default model that have no network: n-gram caches and a trained n-gram model.

All of them are `Predictor`s: they give a distribution over the next token and are told the true one.

`NestedCache` is the classical best for code (Hellendoorn and Devanbu, ESEC/FSE 2017): an n-gram
model of the open file so far within one of its folder within one of the workspace, and, when given,
within one of a training corpus. Each level interpolates its maximum likelihood estimates from short
contexts to the longest that it has seen, with Jelinek and Mercer's fixed weight a = 1/2 (on the
development repositories 3 to 6 points of accuracy better than Witten and Bell's weights),

    p_n(w | h) = (1 - a) p_(n-1)(w | h) + a c(h_n w) / c(h_n),    n = 0 ... N

and is unsure of itself by u = (1 - a)^(contexts seen). A level and what it lies within are mixed in
proportion to 1 / u, so that the level that knows a longer context has the say. Around the outermost
level lies the uniform distribution, so every token has a probability.

`CopyModel` is the project's own longest-suffix copy model, alone. The caches count tokens of the
same tokenizer as the network, so all figures compare.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcoder.model.ngram import MAX_LENGTH, LocalHistory, SuffixTable, distribution
from qcoder.training.corpus_rows import draw, language_file

Probabilities = NDArray[np.float64]
Ids = NDArray[np.integer[Any]]
Followers = tuple[Ids, Ids]
"""Distinct tokens, and how often each came."""


CACHE_CONTEXT = 8
"""Longest context of a cache, in tokens: 6 costs rests of lines, 12 gains nothing."""

TRAINED_CONTEXT = 4
"""Longest context of the trained model: a 5-gram."""

MAX_TRAINED_CHARACTERS = 60_000
"""Of one file of the corpus, as in training."""

INTERPOLATION = 0.5
COPY_FLOOR = 0.05
"""Share of the copy model's mass that all tokens get alike."""

HASH = np.uint64(0x9E3779B97F4A7C15)


class Predictor(Protocol):
    """Says what comes next, one token after the other."""

    def probabilities(self) -> Probabilities:
        """Distribution over the next token: [vocab]."""
        ...

    def push(self, token: int) -> None:
        """The true next token."""
        ...


class Counts(Protocol):
    """What followed each context somewhere."""

    def followers(self, history: Sequence[int], length: int) -> Followers | None:
        """What followed the last `length` tokens of `history`; None when they were never seen."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ContextCounts:
    """All contexts of one length: sorted hashes [contexts], where each one's followers begin
    [contexts + 1], the followers [pairs] and how often each came [pairs]."""

    keys: NDArray[np.uint64]
    starts: Ids
    ids: Ids
    counts: Ids


@dataclass(frozen=True, slots=True, eq=False)
class CountTable:
    """The contexts of a fixed text by their length, from 0 on."""

    lengths: tuple[ContextCounts, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of the text."""
        return int(self.lengths[0].counts.sum())

    @staticmethod
    def build(files: Iterable[Sequence[int]], longest: int = CACHE_CONTEXT) -> CountTable:
        """Count the tokens of `files` behind contexts of 0 to `longest` tokens."""
        chunks = [np.asarray(ids, dtype=np.int32) for ids in files]
        tokens = np.concatenate([np.zeros(0, np.int32), *chunks])
        place = np.concatenate([np.zeros(0, np.int64), *(np.arange(c.size) for c in chunks)])
        # Sorted by token first, so that a stable sort by context leaves equal pairs together.
        by_token = np.argsort(tokens, kind="stable")
        key = np.zeros(tokens.size, dtype=np.uint64)
        lengths = []
        for length in range(longest + 1):
            if length:
                # The hash of a position's last tokens goes on with one more token back.
                back = np.zeros_like(key)
                back[length:] = tokens[:-length].astype(np.uint64) + np.uint64(1)
                key = (key + back) * HASH
                key ^= key >> np.uint64(29)
            inside = by_token[place[by_token] >= length]
            order = inside[np.argsort(key[inside], kind="stable")]
            lengths.append(grouped(key[order], tokens[order]))
        return CountTable(tuple(lengths))

    def followers(self, history: Sequence[int], length: int) -> Followers | None:
        """See `Counts`."""
        if length >= len(self.lengths) or length > len(history):
            return None
        table = self.lengths[length]
        key = context_key(history, length)
        row = int(np.searchsorted(table.keys, key))
        if row >= table.keys.size or table.keys[row] != key:
            return None
        span = slice(int(table.starts[row]), int(table.starts[row + 1]))
        return table.ids[span], table.counts[span]


def grouped(keys: NDArray[np.uint64], tokens: Ids) -> ContextCounts:
    """Count equal pairs of context and token, which stand together: both [tokens]."""
    new_key = np.append(True, keys[1:] != keys[:-1])[: keys.size]
    new_pair = new_key | np.append(True, tokens[1:] != tokens[:-1])[: keys.size]
    pairs = np.flatnonzero(new_pair)
    starts = np.append(np.flatnonzero(new_key[pairs]), pairs.size)
    counts = np.diff(np.append(pairs, keys.size))
    return ContextCounts(keys[new_key], starts, tokens[pairs], counts)


def trained_counts(
    corpus: Path, language: str, encode: Callable[[str], list[int]], megabytes: float, seed: int
) -> CountTable | None:
    """A 5-gram model of a seeded slice of a training corpus (`corpus.py`'s folder).

    None when the corpus has no text of the language.
    """
    path = language_file(corpus, language)
    if path is None:
        return None
    # Not more than half of a small file: rows come at random, and each counts once.
    left = int(min(megabytes * 1e6, path.stat().st_size / 2))
    files, seen = [], set()
    for row in draw(path, random.Random(seed)):
        if left <= 0:
            break
        text = row.text[:MAX_TRAINED_CHARACTERS]
        left -= len(text)
        if row.at not in seen:
            seen.add(row.at)
            files.append(encode(text))
    return CountTable.build(files, TRAINED_CONTEXT)


def context_key(history: Sequence[int], length: int) -> np.uint64:
    """Hash of the last `length` tokens, nearest first; the same as in `CountTable.build`."""
    mask, key = (1 << 64) - 1, 0
    for back in range(1, length + 1):
        key = (key + history[-back] + 1) * int(HASH) & mask
        key ^= key >> 29
    return np.uint64(key)


class FileCounts:
    """Counts of a file so far; grows by `push`."""

    def __init__(self) -> None:
        self._history: list[int] = []
        self._followers: dict[tuple[int, ...], Counter[int]] = {}

    def push(self, token: int) -> None:
        """Append one token."""
        for length in range(min(CACHE_CONTEXT, len(self._history)) + 1):
            context = tuple(self._history[len(self._history) - length :])
            self._followers.setdefault(context, Counter())[token] += 1
        self._history.append(token)

    def followers(self, history: Sequence[int], length: int) -> Followers | None:
        """See `Counts`."""
        if length > min(CACHE_CONTEXT, len(history)):
            return None
        found = self._followers.get(tuple(history[len(history) - length :]))
        if found is None:
            return None
        size = len(found)
        return np.fromiter(found, np.int64, size), np.fromiter(found.values(), np.int64, size)


def level(
    counts: Counts, history: Sequence[int], vocab_size: int
) -> tuple[Probabilities, float] | None:
    """One level's distribution over what it has seen, and how unsure of it the level is."""
    seen: list[Followers] = []
    for length in range(CACHE_CONTEXT + 1):
        found = counts.followers(history, length)
        if found is None:
            break
        seen.append(found)
    if not seen:
        return None
    unsure = float((1 - INTERPOLATION) ** len(seen))
    mixed, share = np.zeros(vocab_size), INTERPOLATION / (1 - unsure)
    for ids, times in reversed(seen):
        mixed[ids] += times * (share / times.sum())
        share *= 1 - INTERPOLATION
    return mixed, unsure


class NestedCache:
    """File so far within folder within workspace within (perhaps) a trained model."""

    def __init__(
        self,
        vocab_size: int,
        outer: Sequence[CountTable],
        header: Sequence[int] = (),
        learns: bool = True,
    ) -> None:
        """`outer` goes from the widest level to the narrowest; what is pushed comes last.

        With `learns` off it is not counted: the file is one of `outer` then.
        """
        self._vocab_size = vocab_size
        self._file = FileCounts() if learns else None
        self._levels: list[Counts] = [*outer, *([self._file] if self._file else [])]
        self._history = list(header)

    def probabilities(self) -> Probabilities:
        """See `Predictor`."""
        mixed, unsure = np.full(self._vocab_size, 1 / self._vocab_size), 1.0
        recent = self._history[-CACHE_CONTEXT:]
        for counts in self._levels:
            found = level(counts, recent, self._vocab_size)
            if found is None:
                continue
            # Inner level and all around it, each in proportion to 1 / unsure.
            share = unsure / (unsure + found[1])
            mixed = share * found[0] + (1 - share) * mixed
            unsure = share * found[1] + (1 - share) * unsure
        return mixed

    def push(self, token: int) -> None:
        """See `Predictor`."""
        if self._file is not None:
            self._file.push(token)
        self._history.append(token)


class CopyModel:
    """The copy model of file so far and workspace, without network and gate."""

    def __init__(self, vocab_size: int, table: SuffixTable | None, header: Sequence[int] = ()):
        self._vocab_size, self._table = vocab_size, table
        self._history = LocalHistory(header)

    def probabilities(self) -> Probabilities:
        """See `Predictor`."""
        matches = self._history.matches()
        if self._table is not None:
            matches += self._table.matches(self._history.ids[-MAX_LENGTH:])
        copied = distribution(matches)
        mixed = np.full(self._vocab_size, 1 / self._vocab_size)
        if copied is not None:
            mixed *= COPY_FLOOR
            mixed[copied.ids] += (1 - COPY_FLOOR) * copied.probabilities
        return mixed

    def push(self, token: int) -> None:
        """See `Predictor`."""
        self._history.push(token)

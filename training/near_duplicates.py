"""Near-duplicate files by MinHash, and runs of words shared with held-out text.

Owns: turning a text into hashed words, signatures, the index of what was kept. Does not own: which
texts are compared (`corpus.py`).

A text is its sequence of words (`[A-Za-z0-9_]` and everything beyond ASCII; punctuation and layout do
not count). Two texts are near-duplicates when the Jaccard similarity of their sets of
five-word runs, estimated from 128 permutations (Broder, "On the resemblance and containment of
documents", 1997), is at least 0.7. Candidates come from 16 bands of 8 rows, which find a pair of
similarity s with probability 1 - (1 - s^8)^16: 61 % at 0.7, 95 % at 0.8, 99.99 % at 0.9.

Runs of words are hashed as polynomials modulo 2^64 from prefix sums, so that a megabyte costs a few
vector operations and no loop: sum(v[i..j] * R^i..) times R^-i, for odd R.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Signature = NDArray[np.uint32]

PERMUTATIONS, BANDS, ROWS = 128, 16, 8
SIMILAR = 0.7
RUN_WORDS = 5  # of a signature
OVERLAP_WORDS = 40  # of the check against held-out text
_CHUNK = 2048  # runs at a time: 128 x 2048 words of 4 bytes stay in the L2 cache
_FILTER_BITS = 22
_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_WORD_BYTE = np.array(
    [byte > 127 or chr(byte).isalnum() or chr(byte) == "_" for byte in range(256)], dtype=np.int8
)


def words(text: str) -> Hashes:
    """One hash a word of the text, in order."""
    data = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    edges = np.flatnonzero(np.diff(_WORD_BYTE[data], prepend=0, append=0))
    return _hash_runs(data.astype(np.uint64) + np.uint64(1), edges[0::2], edges[1::2])


def runs(hashed_words: Hashes, length: int) -> Hashes:
    """One hash for every run of `length` words; empty for a shorter text."""
    starts = np.arange(max(0, len(hashed_words) - length + 1))
    return _hash_runs(hashed_words, starts, starts + length)


def signature(hashed_words: Hashes) -> Signature | None:
    """The smallest hash of any five-word run under each of the 128 permutations; None without one."""
    hashes = (runs(hashed_words, RUN_WORDS) >> np.uint64(32)).astype(np.uint32)
    if not len(hashes):
        return None
    smallest = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), _CHUNK):
        permuted = _MULTIPLIERS * hashes[start : start + _CHUNK]
        permuted += _OFFSETS
        np.minimum(smallest, permuted.min(axis=1), out=smallest)
    return smallest


class SimilarTexts:
    """Signatures of the texts kept so far, found again by any equal band."""

    def __init__(self) -> None:
        self._signatures: list[Signature] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def __len__(self) -> int:
        return len(self._signatures)

    def add(self, new: Signature) -> None:
        """Remember a text."""
        for key in self._keys(new):
            self._bands.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(new)

    def nearest(self, new: Signature) -> int | None:
        """Number, in order of adding, of a kept text that is similar; None when there is none."""
        tried: set[int] = set()
        for key in self._keys(new):
            for number in self._bands.get(key, ()):
                if number not in tried and (self._signatures[number] == new).mean() >= SIMILAR:
                    return number
                tried.add(number)
        return None

    @staticmethod
    def _keys(new: Signature) -> list[tuple[int, bytes]]:
        """One key a band."""
        return [(band, new[band * ROWS : (band + 1) * ROWS].tobytes()) for band in range(BANDS)]


class SharedRuns:
    """All 40-word runs of held-out text, for the question whether a text holds one of them."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = [runs(words(text), OVERLAP_WORDS) for text in texts]
        self._runs = np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
        # Almost every lookup ends in this table, which fits into a cache; the rest is searched.
        self._filter = np.zeros(1 << _FILTER_BITS, dtype=np.bool_)
        self._filter[self._runs >> np.uint64(64 - _FILTER_BITS)] = True

    def shared_by(self, hashed_words: Hashes) -> bool:
        """Whether a text with these words repeats at least 40 words of the held-out text."""
        hashes = runs(hashed_words, OVERLAP_WORDS)
        hashes = hashes[self._filter[hashes >> np.uint64(64 - _FILTER_BITS)]]
        places = np.searchsorted(self._runs, hashes)
        places[places == len(self._runs)] = 0
        return bool(len(hashes) and (self._runs[places] == hashes).any())


def _hash_runs(values: Hashes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """Hash of `values[start:end]` for every pair; equal runs are equal wherever they stand."""
    if not len(starts):
        return np.empty(0, np.uint64)
    powers, inverses = _powers(len(values).bit_length())
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    # The product alone leaves low bits that depend on few input bits.
    hashes ^= hashes >> np.uint64(33)
    hashes *= _MIX
    return hashes ^ (hashes >> np.uint64(29))


@cache
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """R^0, R^1, ... modulo 2^64 and their inverses, 2^`bits` of each."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        table = np.full(1 << bits, base, dtype=np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table))
    return tables[0], tables[1]


def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Odd multipliers and offsets, both [128, 1]: h -> a*h + b is a permutation modulo 2^32."""
    generator = np.random.default_rng(20_260_101)
    pairs = generator.integers(0, 1 << 32, size=(2, PERMUTATIONS, 1), dtype=np.uint32)
    return pairs[0] | np.uint32(1), pairs[1]


_MULTIPLIERS, _OFFSETS = _permutations()

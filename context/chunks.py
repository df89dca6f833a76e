"""Pieces of other code that are like the one before the cursor.

Pieces are windows of `CHUNK_LINES` lines, compared by their names with the last lines before the
cursor: a Jaccard index in which a shared name counts by its rarity. Only files that share rare
names are looked into. Files that are in use now and files nearby count a little more.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qcoder.context.imports import path_distance
from qcoder.context.index import Index
from qcoder.context.record import CHUNK_LINES, FileRecord, chunk_positions
from qcoder.context.site import Site, family

_MAX_SHORTLIST = 40
_MAX_RECENT = 8
_MIN_SIMILARITY = 0.06
_OTHER_LANGUAGE = 0.3
_RECENT = 1.25
_COMMON_FILES = 20
_LAYOUTS = 512
_BUCKETS = 1 << 16


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """Lines [start_line, end_line) of a file and how alike they are (0 to about 1.5)."""

    record: FileRecord
    start_line: int
    end_line: int
    score: float
    reason: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names that occur in it."""
        words = self.record.facts.words
        chunk = words.chunks[self.start_line // CHUNK_LINES]
        return tuple(words.identifiers[at] for at in chunk_positions(chunk))


def rank_chunks(index: Index | None, site: Site) -> list[ScoredChunk]:
    """Pieces of code like the one before the cursor, best first."""
    num_files = index.num_files() if index else 1
    weights = rarities(index, site.similar, num_files)
    if not weights:
        return []
    records = {site.file.path: site.file}
    if index is not None:
        for path in _shortlist(index, site, weights, num_files):
            record = index.record(path)
            if record is not None and path != site.file.path:
                records[path] = record
    marked = _marked(weights)
    found = [c for record in records.values() for c in _alike(record, site, weights, marked)]
    found.sort(key=lambda chunk: (-chunk.score, chunk.record.path, chunk.start_line))
    return found


def rarities(index: Index | None, names: Iterable[str], num_files: int) -> dict[str, float]:
    """Inverse document frequencies of names; what nearly every file says weighs nothing."""
    weights = {}
    for name in sorted(names):
        users = index.num_users(name) if index else 1
        if users <= max(_COMMON_FILES, num_files // 4):
            weights[name] = (
                math.log(1 + (num_files - users + 0.5) / (users + 0.5)) if index else 1.0
            )
    return {name: max(weight, 0.05) for name, weight in weights.items()}


def _shortlist(index: Index, site: Site, weights: Mapping[str, float], num_files: int) -> list[str]:
    """Files that share the rarest names, and those in use now."""
    sums: dict[str, float] = defaultdict(float)
    for name, weight in weights.items():
        for path in index.users(name, max(_COMMON_FILES, num_files // 4)):
            sums[path] += weight
    best = heapq.nsmallest(_MAX_SHORTLIST, ((-total, path) for path, total in sums.items()))
    return list(dict.fromkeys([*site.recent[:_MAX_RECENT], *(path for _, path in best)]))


def _alike(
    record: FileRecord, site: Site, weights: Mapping[str, float], marked: NDArray[np.bool_]
) -> list[ScoredChunk]:
    facts = record.facts
    words = facts.words
    shared = _shared(words.identifiers, weights, marked)
    if not shared.any():
        return []
    total, mean = sum(weights.values()), sum(weights.values()) / len(weights)
    own = record.path == site.file.path
    factor = _RECENT if record.path in site.recent else 1.0
    factor *= 1 + 0.2 / (1 + path_distance(record.path, site.file.path))
    factor *= 1 if family(facts.language) == family(site.file.facts.language) else _OTHER_LANGUAGE
    reason = "same file" if own else "recent file" if record.path in site.recent else "similar code"
    positions, ends = _layout(words.chunks)
    values = shared[positions]
    weight = _sums(values, ends)
    if factor * weight.max(initial=0.0) < _MIN_SIMILARITY * total:
        return []
    others = ends[1:] - ends[:-1] - _sums(values > 0, ends)
    scores = factor * weight / (total + others * mean)
    found = []
    for number in np.flatnonzero(scores >= _MIN_SIMILARITY).tolist():
        start, end = number * CHUNK_LINES, min((number + 1) * CHUNK_LINES, facts.lines)
        if end > start and not (own and start < site.hidden_end and end > site.hidden_start):
            found.append(ScoredChunk(record, start, end, float(scores[number]), reason))
    return found


def _sums(
    values: NDArray[np.float64] | NDArray[np.bool_], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums over the names of each chunk, as differences of running sums; ends: [chunks + 1]."""
    running = np.zeros(len(values) + 1)
    np.cumsum(values, out=running[1:])
    at_ends = running[ends]
    return at_ends[1:] - at_ends[:-1]


@lru_cache(maxsize=_LAYOUTS)
def _layout(chunks: tuple[bytes, ...]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """The positions of all chunks' names in one row, and where each chunk ends in it."""
    positions = np.frombuffer(b"".join(chunks), dtype=np.uint16)
    return positions, np.cumsum([0, *(len(chunk) // 2 for chunk in chunks)])


def _shared(
    identifiers: tuple[str, ...], weights: Mapping[str, float], marked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weights of the names that a file shares with the cursor, by their position in it."""
    values = np.zeros(len(identifiers))
    for at in np.flatnonzero(marked[_buckets(identifiers)]).tolist():
        values[at] = weights.get(identifiers[at], 0.0)
    return values


def _marked(names: Iterable[str]) -> NDArray[np.bool_]:
    """The buckets that some names are in."""
    marked = np.zeros(_BUCKETS, dtype=np.bool_)
    marked[[hash(name) % _BUCKETS for name in names]] = True
    return marked


@lru_cache(maxsize=_LAYOUTS)
def _buckets(identifiers: tuple[str, ...]) -> NDArray[np.uint16]:
    """A bucket for every name of a file: most that the cursor lacks are told by it alone."""
    hashes = np.fromiter(map(hash, identifiers), np.int64, len(identifiers))
    return (hashes % _BUCKETS).astype(np.uint16)

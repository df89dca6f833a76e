"""Which definitions and which pieces of other files help most at a cursor.

Every signal is a sum over a few names, looked up in the index's inverted maps; no request reads
all files. A definition's score is the sum of:

- it is imported by name (6), or is a method of a class that is (1.2);
- its name stands near the cursor: 3 v / n with v = 1 / (1 + k / 60), k identifiers away, n files
  that define the name (n = 1 for definitions in files that this one imports);
- its name occurs in pieces of code like this one: 2 x votes x idf / sqrt(n), where the r-th most
  similar piece gives 1 / (10 + r);
- its file is imported (1, less for private and rarely called names).

Pieces are windows of `CHUNK_LINES` lines, compared by their identifiers with the lines before the
cursor: a Jaccard index in which a shared name counts by its rarity. Files that are in use now and
files nearby count a little more.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qcoder.context.imports import path_distance
from qcoder.context.index import Index
from qcoder.context.record import (
    CHUNK_LINES,
    Facts,
    FileRecord,
    Symbol,
    chunk_positions,
    identifiers_of,
)

NEAR_LINES = 80
SIMILAR_LINES = 40
_AFTER_LINES = 10
_MAX_DEFINERS = 8
_MAX_SHORTLIST = 40
_MAX_IMPORTED_FILES = 40
_MAX_VOTED_NAMES = 80
_VOTING_CHUNKS = 60
_MIN_SIMILARITY = 0.06
_OTHER_LANGUAGE = 0.3
_RECENT = 1.25

_FAMILIES = {
    "javascript": "js",
    "javascriptreact": "js",
    "typescript": "js",
    "typescriptreact": "js",
    "vue": "js",
    "svelte": "js",
    "c": "c",
    "cpp": "c",
}


@dataclass(frozen=True, slots=True)
class Site:
    """The place to complete. `file` is the current file's record in its current version.

    `near` maps names to how many identifiers lie between them and the cursor, `similar` are the
    names of the last lines before it. Lines [hidden_start, hidden_end) are in the window already.
    """

    file: FileRecord
    near: Mapping[str, int]
    similar: frozenset[str]
    line: int
    hidden_start: int
    hidden_end: int
    recent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoredSymbol:
    """A definition, how much it may help, and the strongest reason."""

    record: FileRecord
    symbol: Symbol
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """Lines [start_line, end_line) of a file and how alike they are (0 to about 1.5)."""

    record: FileRecord
    start_line: int
    end_line: int
    score: float
    reason: str
    names: tuple[str, ...]


def make_site(
    file: FileRecord,
    prefix: str,
    suffix: str,
    hidden: tuple[int, int],
    recent: Sequence[str],
) -> Site:
    """Describe a cursor by the text before and after it."""
    before = prefix.split("\n")[-NEAR_LINES:]
    near: dict[str, int] = {}
    for distance, name in enumerate(reversed(identifiers_of("\n".join(before)))):
        near.setdefault(name, distance)
    after = "\n".join(suffix.split("\n", _AFTER_LINES)[:_AFTER_LINES])
    for distance, name in enumerate(identifiers_of(after)):
        near.setdefault(name, distance + 10)
    similar = frozenset(identifiers_of("\n".join(before[-SIMILAR_LINES:])))
    return Site(file, near, similar, prefix.count("\n"), hidden[0], hidden[1], tuple(recent))


def family(language: str) -> str:
    """Languages of one family can name each other's definitions."""
    return _FAMILIES.get(language, language)


def rank_chunks(index: Index | None, site: Site) -> list[ScoredChunk]:
    """Pieces of code like the one before the cursor, best first."""
    num_files = index.num_files() if index else 1
    weights = _rarities(index, site.similar, num_files)
    if not weights:
        return []
    records = {site.file.path: site.file}
    if index is not None:
        for path in _shortlist(index, site, weights, num_files):
            record = index.record(path)
            if record is not None and path != site.file.path:
                records[path] = record
    found = [chunk for record in records.values() for chunk in _alike(record, site, weights)]
    found.sort(key=lambda chunk: (-chunk.score, chunk.record.path, chunk.start_line))
    return found


def imported_files(index: Index, site: Site) -> list[str]:
    """Files that the current one imports, in the order of its statements."""
    paths: dict[str, None] = {}
    for found in site.file.facts.imports:
        for module in (found.module, *(f"{found.module}/{name}" for name in found.names)):
            for path in index.resolve(module, site.file.path):
                paths.setdefault(path)
            if len(paths) >= _MAX_IMPORTED_FILES:
                return list(paths)
    return list(paths)


def rank_symbols(
    index: Index | None, site: Site, chunks: Sequence[ScoredChunk]
) -> list[ScoredSymbol]:
    """Definitions that the code at the cursor may need, best first."""
    scores = _Scores(site)
    _add_own_file(scores)
    if index is not None:
        imported = imported_files(index, site)
        _add_explicit_imports(scores, index)
        _add_near_names(scores, index, frozenset(imported))
        _add_votes(scores, index, chunks)
        _add_imported_files(scores, index, imported)
    return scores.ranked()


class _Scores:
    """Sums of signals by definition, with the reason that gave the most."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._family = family(site.file.facts.language)
        self._sums: dict[tuple[str, int], float] = defaultdict(float)
        self._best: dict[tuple[str, int], tuple[float, str]] = {}
        self._symbols: dict[tuple[str, int], tuple[FileRecord, Symbol]] = {}

    def usable(self, record: FileRecord) -> bool:
        """Whether code in the current file could name what this file defines."""
        return family(record.facts.language) == self._family

    def add(self, record: FileRecord, symbol: Symbol, weight: float, reason: str) -> None:
        """Add a signal; the current file's visible lines are never a candidate."""
        site = self.site
        if record.path == site.file.path and (
            record is not site.file
            or (
                symbol.start_line < site.hidden_end
                and symbol.end_line > site.hidden_start
                and symbol.start_line >= site.hidden_start
            )
        ):
            return
        key = (record.path, symbol.start_byte)
        self._sums[key] += weight
        if weight > self._best.get(key, (0.0, ""))[0]:
            self._best[key] = (weight, reason)
        self._symbols[key] = (record, symbol)

    def add_methods(self, record: FileRecord, owner: Symbol, weight: float, reason: str) -> None:
        """Add a signal to the methods of a class."""
        for symbol in record.facts.symbols:
            inside = owner.start_byte < symbol.start_byte < owner.end_byte
            if (
                symbol.kind == "method"
                and not symbol.nested
                and (inside or symbol.owner == owner.name)
            ):
                private = symbol.name.startswith("_") and symbol.name != "__init__"
                self.add(record, symbol, weight * (0.3 if private else 1.0), reason)

    def ranked(self) -> list[ScoredSymbol]:
        """Everything, by value for its length; recently used files first among equals."""
        recent = frozenset(self.site.recent)
        found = []
        for key, total in self._sums.items():
            record, symbol = self._symbols[key]
            factor = _RECENT if record.path in recent else 1.0
            found.append(ScoredSymbol(record, symbol, factor * total, self._best[key][1]))
        found.sort(
            key=lambda s: (
                -s.score / math.sqrt(6 + len(s.symbol.signature) / 3.6),
                s.record.path,
                s.symbol.start_byte,
            )
        )
        return found


def _add_own_file(scores: _Scores) -> None:
    site = scores.site
    for symbol in site.file.facts.symbols:
        if symbol.start_line <= site.line < symbol.end_line:
            scores.add(site.file, symbol, 5.0, "around the cursor")
        elif symbol.name in site.near and not symbol.nested:
            closeness = 1 / (1 + site.near[symbol.name] / 60)
            scores.add(site.file, symbol, 3.0 * closeness, "called near cursor")


def _add_explicit_imports(scores: _Scores, index: Index) -> None:
    importer = scores.site.file.path
    for found in scores.site.file.facts.imports:
        paths = frozenset(index.resolve(found.module, importer)) if found.names else frozenset()
        for name in found.names:
            named = [pair for pair in index.symbols_named(name) if scores.usable(pair[0])]
            exact = [pair for pair in named if pair[0].path in paths]
            # A package may hand on what another file defines; a module from elsewhere may not.
            for record, symbol in exact or (named[:3] if paths else []):
                scores.add(record, symbol, 6.0, "import")
                scores.add_methods(record, symbol, 1.2, "import")


def _add_near_names(scores: _Scores, index: Index, imported: frozenset[str]) -> None:
    for name, distance in scores.site.near.items():
        if not index.is_defined(name):
            continue
        named = [pair for pair in index.symbols_named(name) if scores.usable(pair[0])]
        closeness = 1 / (1 + distance / 60)
        for record, symbol in named:
            known = record.path in imported
            if not known and len(named) > _MAX_DEFINERS:
                continue
            weight = closeness / (1 if known else len(named))
            scores.add(record, symbol, 3.0 * weight, "called near cursor")
            scores.add_methods(record, symbol, 1.5 * weight, "called near cursor")


def _add_votes(scores: _Scores, index: Index, chunks: Sequence[ScoredChunk]) -> None:
    votes: dict[str, float] = defaultdict(float)
    for rank, chunk in enumerate(chunks[:_VOTING_CHUNKS]):
        for name in chunk.names:
            votes[name] += 1 / (10 + rank)
    num_files = index.num_files()
    rarity = _rarities(index, [name for name in votes if index.is_defined(name)], num_files)
    best = heapq.nlargest(
        _MAX_VOTED_NAMES, ((votes[name] * weight, name) for name, weight in rarity.items())
    )
    for vote, name in best:
        named = [pair for pair in index.symbols_named(name) if scores.usable(pair[0])]
        if len(named) > _MAX_DEFINERS:
            continue
        for record, symbol in named:
            scores.add(record, symbol, 2.0 * vote / math.sqrt(len(named)), "used in similar code")


def _add_imported_files(scores: _Scores, index: Index, imported: Sequence[str]) -> None:
    for path in imported:
        record = index.record(path)
        if record is None or not scores.usable(record):
            continue
        for symbol in record.facts.symbols:
            if symbol.nested:
                continue
            weight = 0.3 if symbol.name.startswith("_") else 1.0
            calls = index.calls(symbol.name)
            weight *= 0.5 + 0.5 * min(1.0, math.log1p(calls) / 4)
            scores.add(record, symbol, weight * (0.5 if symbol.owner else 1.0), "imported module")


def _rarities(index: Index | None, names: Iterable[str], num_files: int) -> dict[str, float]:
    """Inverse document frequencies of names; what nearly every file says weighs nothing."""
    weights = {}
    for name in sorted(names):
        users = index.num_users(name) if index else 1
        if users <= max(20, num_files // 4):
            weights[name] = (
                math.log(1 + (num_files - users + 0.5) / (users + 0.5)) if index else 1.0
            )
    return {name: max(weight, 0.05) for name, weight in weights.items()}


def _shortlist(index: Index, site: Site, weights: Mapping[str, float], num_files: int) -> list[str]:
    """Files that share the rarest names, and those in use now."""
    sums: dict[str, float] = defaultdict(float)
    for name, weight in weights.items():
        for path in index.users(name, max(20, num_files // 4)):
            sums[path] += weight
    best = heapq.nsmallest(_MAX_SHORTLIST, ((-total, path) for path, total in sums.items()))
    return list(dict.fromkeys([*site.recent[:8], *(path for _, path in best)]))


def _alike(record: FileRecord, site: Site, weights: Mapping[str, float]) -> list[ScoredChunk]:
    facts = record.facts
    shared = _positions(facts, weights)
    if not shared:
        return []
    total, mean = sum(weights.values()), sum(weights.values()) / len(weights)
    own = record.path == site.file.path
    factor = _RECENT if record.path in site.recent else 1.0
    factor *= 1 + 0.2 / (1 + path_distance(record.path, site.file.path))
    factor *= 1 if family(facts.language) == family(site.file.facts.language) else _OTHER_LANGUAGE
    reason = "same file" if own else "recent file" if record.path in site.recent else "similar code"
    names_at = frozenset(shared)
    found = []
    for number, chunk in enumerate(facts.chunks):
        start, end = number * CHUNK_LINES, min((number + 1) * CHUNK_LINES, facts.lines)
        if own and start < site.hidden_end and end > site.hidden_start:
            continue
        positions = chunk_positions(chunk)
        common = names_at.intersection(positions)
        if not common:
            continue
        weight = sum(shared[p] for p in common)
        score = factor * weight / (total + (len(positions) - len(common)) * mean)
        if score >= _MIN_SIMILARITY and end > start:
            names = tuple(facts.identifiers[p] for p in positions)
            found.append(ScoredChunk(record, start, end, score, reason, names))
    return found


def _positions(facts: Facts, weights: Mapping[str, float]) -> dict[int, float]:
    found = {}
    for name, weight in weights.items():
        at = bisect_left(facts.identifiers, name)
        if at < len(facts.identifiers) and facts.identifiers[at] == name:
            found[at] = weight
    return found

"""Which definitions help most at a cursor.

A definition's score is the sum of its signals, weighted by `WEIGHTS` (`signals.py` for those that
point at definitions, `neighbours.py` for those that point at files), times how well it fits what is
wanted at the cursor (a method after a dot, a name that begins as typed) and how much of its name the
lines there speak of (`spoken.py`). Definitions are ordered by score for their length. No request
reads all files: single definitions come first, then files by their own score until there are enough
for the budget; only one for very many looks at the list of all paths.
"""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qcoder.context.chunks import ScoredChunk
from qcoder.context.imports import path_distance
from qcoder.context.lookup import CLASS_KINDS, Lookup
from qcoder.context.neighbours import FILE_SIGNALS
from qcoder.context.receivers import SELF_CHAINS
from qcoder.context.record import FileRecord, Symbol
from qcoder.context.signals import SYMBOL_SIGNALS, WEIGHTS
from qcoder.context.site import Site, Wanted, family
from qcoder.context.spoken import Spoken

_AROUND = 5.0
_NEAR_OWN = 3.0
_NEAR_SPAN = 60
_CHARS_PER_TOKEN = 3.6
_LENGTH_POWER = 0.35
_MAX_REASONS = 3
_MIN_SHARE = 0.15
_SPARE = 100
_SPOKEN = 2.0
_PRIVATE, _OWN_PRIVATE = 0.5, 0.7
_TEST_FACTOR = 0.3
_NEARBY = 0.05
# A smaller request is filled by files that have to do with the cursor's, without looking at all.
_WHOLE_WORKSPACE_FROM = 1000
_TEST_PATH = re.compile(
    r"(?:^|/)(?:tests?|specs?|__tests__|testing)/|(?:^|/)test_|[_.](?:test|spec)\."
)
# Methods are called without a dot where an object's own members are in scope.
_BARE_METHODS = frozenset({"java", "csharp", "c", "ruby", "kotlin", "scala", "swift"})


@dataclass(frozen=True, slots=True)
class ScoredSymbol:
    """A definition, how much it may help, and what each signal gave to that."""

    record: FileRecord
    symbol: Symbol
    score: float
    signals: Mapping[str, float]

    @property
    def reason(self) -> str:
        """The signals that gave most of the score, the strongest first."""
        total = sum(self.signals.values())
        strongest = sorted(self.signals.items(), key=lambda item: (-item[1], item[0]))
        reasons = [name for name, value in strongest if value >= _MIN_SHARE * total]
        return ", ".join(reasons[:_MAX_REASONS])


def rank_symbols(
    lookup: Lookup | None,
    site: Site,
    chunks: Sequence[ScoredChunk],
    enough: int = 400,
    weights: Mapping[str, float] = WEIGHTS,
    fill: bool = True,
) -> list[ScoredSymbol]:
    """Definitions that the code at the cursor may need, best first: `enough` and some more.

    `lookup` is that of the site; without it only the current file is looked at. With `fill`, very
    many are completed from files that nothing points at.
    """
    chain = site.wanted.chain
    of_module = lookup is not None and bool(chain and lookup.module_files(chain[-1]))
    scores = _Scores(site, of_module)
    _add_own_file(scores)
    if lookup is not None:
        for name, signal in SYMBOL_SIGNALS.items():
            for record, symbol, value in signal(lookup, chunks):
                scores.add(record, symbol, weights[name] * value, name)
        by_file = file_scores(lookup, chunks, weights)
        files = sorted(by_file, key=lambda path: (-sum(by_file[path].values()), path))
        for record, symbol, signals in _of_files(lookup, by_file, files, scores, enough):
            for name, value in signals.items():
                scores.add(record, symbol, value, name)
        if fill and enough >= _WHOLE_WORKSPACE_FROM:
            _add_nearby(lookup, scores, enough)
    return scores.ranked(enough + _SPARE)


def file_scores(
    lookup: Lookup, chunks: Sequence[ScoredChunk], weights: Mapping[str, float] = WEIGHTS
) -> dict[str, dict[str, float]]:
    """Other files that the cursor's file has to do with: weighted signals by path."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, signal in FILE_SIGNALS.items():
        for path, value in signal(lookup, chunks):
            if path != lookup.site.file.path:
                found[path][name] = max(found[path].get(name, 0.0), weights[name] * value)
    return found


class _Scores:
    """Sums of signals by definition, signal by signal."""

    def __init__(self, site: Site, of_module: bool) -> None:
        self.site = site
        self._path, self._of_module = site.file.path, of_module
        self.sums: dict[tuple[str, int], dict[str, float]] = {}
        self.symbols: dict[tuple[str, int], tuple[FileRecord, Symbol]] = {}

    def add(self, record: FileRecord, symbol: Symbol, value: float, reason: str) -> None:
        """Add a signal; the current file's visible lines are never a candidate."""
        path = record.path
        if path == self._path and _is_in_window(self.site, record, symbol):
            return
        key = (path, symbol.start_byte)
        own = self.sums.get(key)
        if own is None:
            own = self.sums[key] = {}
            self.symbols[key] = (record, symbol)
        # One signal may point at a definition in several ways: the best of them counts.
        if value > own.get(reason, -1.0):
            own[reason] = value

    def ranked(self, most: int) -> list[ScoredSymbol]:
        """The best `most`, by value for their length."""
        fit = _Fit(self.site, self._of_module)
        # What the dot is behind says nothing about what follows it.
        behind = self.site.wanted.chain[-1:]
        near = {name: at for name, at in self.site.near.items() if name not in behind}
        spoken = Spoken(near, (symbol.name for _, symbol in self.symbols.values()))
        order = []
        for key, signals in self.sums.items():
            record, symbol = self.symbols[key]
            score = sum(signals.values()) * fit.of(record, symbol)
            score *= 1 + _SPOKEN * spoken.share(symbol.name)
            length = 6 + len(symbol.signature) / _CHARS_PER_TOKEN
            order.append((-score / length**_LENGTH_POWER, key, score))
        return [
            ScoredSymbol(*self.symbols[key], score, self.sums[key])
            for _, key, score in heapq.nsmallest(most, order)
        ]


class _Fit:
    """How well a definition fits what is wanted at the cursor, as a factor."""

    def __init__(self, site: Site, of_module: bool) -> None:
        self._wanted = site.wanted
        # Behind the name of a module stands what is at its top, as if there were no dot.
        self._is_member = site.wanted.is_member and not of_module
        self._of_module = of_module
        # An object calls its own private methods as often as others.
        of_itself = site.wanted.chain in SELF_CHAINS
        self._private = _OWN_PRIVATE if of_itself else _PRIVATE
        self._typed = site.wanted.typed.lower()
        self._path = site.file.path
        self._folder = site.file.path.rpartition("/")[0]
        self._language = family(site.file.facts.language)
        self._in_test = _TEST_PATH.search(self._path) is not None
        self._of_paths: dict[str, float] = {}
        self._of_kinds: dict[tuple[str, bool], float] = {}

    def of(self, record: FileRecord, symbol: Symbol) -> float:
        """The factor; 1 for an average definition that may well be meant."""
        of_path = self._of_paths.get(record.path)
        if of_path is None:
            away = not self._in_test and _TEST_PATH.search(record.path) is not None
            of_path = self._of_paths[record.path] = _TEST_FACTOR if away else 1.0
        kind = (symbol.kind, bool(symbol.owner))
        of_kind = self._of_kinds.get(kind)
        if of_kind is None:
            of_kind = self._of_kinds[kind] = self._of_kind(self._wanted, *kind)
        return of_path * of_kind * self._of_name(record, symbol)

    def _of_kind(self, wanted: Wanted, kind: str, is_method: bool) -> float:
        is_class = kind in CLASS_KINDS
        if self._is_member:
            return 1.5 if is_method and not is_class else 0.4 if is_class else 0.5
        if wanted.is_class:
            return 1.5 if is_class else 0.4
        bare = self._of_module or self._language not in _BARE_METHODS
        if is_method and not is_class and bare:
            return 0.25
        return 1.0

    def _of_name(self, record: FileRecord, symbol: Symbol) -> float:
        name, factor = symbol.name, 1.0
        if self._typed:
            begins = name.lower().startswith(self._typed)
            factor *= 2.0 if begins else max(0.05, 0.7 ** len(self._typed))
        if self._language == "go":
            outside = record.path.rpartition("/")[0] != self._folder
            return factor * (0.05 if outside and not name[:1].isupper() else 1.0)
        if name.startswith("__"):
            return factor * 0.3
        return factor * (self._private if name.startswith(("_", "#")) else 1.0)


def _add_nearby(lookup: Lookup, scores: _Scores, enough: int) -> None:
    """Fill up with definitions of files that nothing points at, those of near folders first."""
    own, known = lookup.site.file.path, {path for path, _ in scores.sums}
    near = sorted(
        (path_distance(path, own), path) for path in lookup.index.paths() if path not in known
    )
    for distance, path in near:
        if len(scores.sums) >= enough:
            return
        record = lookup.record(path)
        for symbol in record.facts.symbols if record is not None else ():
            if record is not None and not symbol.nested:
                scores.add(record, symbol, _NEARBY / (1 + distance / 4), "workspace")


def _is_in_window(site: Site, record: FileRecord, symbol: Symbol) -> bool:
    if record is not site.file:
        return True
    return (
        symbol.start_line < site.hidden_end
        and symbol.end_line > site.hidden_start
        and symbol.start_line >= site.hidden_start
    )


def _add_own_file(scores: _Scores) -> None:
    site = scores.site
    for symbol in site.file.facts.symbols:
        if symbol.start_line <= site.line < symbol.end_line:
            scores.add(site.file, symbol, _AROUND, "around the cursor")
        elif symbol.name in site.near and not symbol.nested:
            closeness = 1 / (1 + site.near[symbol.name] / _NEAR_SPAN)
            scores.add(site.file, symbol, _NEAR_OWN * closeness, "called near cursor")


def _of_files(
    lookup: Lookup,
    by_file: Mapping[str, Mapping[str, float]],
    files: Sequence[str],
    scores: _Scores,
    enough: int,
) -> Iterator[tuple[FileRecord, Symbol, Mapping[str, float]]]:
    """Definitions of the best files until there are enough, and those that are scored already."""
    known = {path for path, _ in scores.sums}
    for path in files:
        full = len(scores.sums) >= enough
        record = None if full and path not in known else lookup.record(path)
        for symbol in record.facts.symbols if record is not None else ():
            if symbol.nested or (full and (path, symbol.start_byte) not in scores.sums):
                continue
            if record is not None:
                yield record, symbol, by_file[path]

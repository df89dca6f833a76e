"""Signals that point at single definitions: imports, the receiver, names nearby, usage votes.

A row of `SYMBOL_SIGNALS` gives definitions with a value from 0 to 1; `WEIGHTS` says how much each
row counts. A signal's name is what a segment shows as its reason.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from qcoder.context.chunks import ScoredChunk, rarities
from qcoder.context.lookup import CLASS_KINDS, Lookup
from qcoder.context.receivers import Valued, members
from qcoder.context.record import FileRecord, Symbol

SymbolSignal = Callable[[Lookup, Sequence[ScoredChunk]], Iterator[Valued]]

_MAX_DEFINERS = 8
_MAX_VOTED_NAMES = 120
_VOTING_CHUNKS = 60
_METHOD = 0.2
_NEAR_SPAN = 60

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "after the dot": 28.0,
        "import": 5.0,
        "called near cursor": 1.5,
        "used in similar code": 7.0,
        "imported module": 0.8,
        "imported by an import": 0.2,
        "same package": 1.2,
        "same folder": 0.3,
        "tested file": 4.0,
        "similar file": 1.0,
        "changed together": 0.6,
        "recent file": 0.8,
    }
)
"""How much a signal of value 1 adds to a definition's score."""


def after_the_dot(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[Valued]:
    """Members of the object or module that the dot before the cursor is behind."""
    yield from members(lookup)


def imports(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[Valued]:
    """Definitions that are imported by name, and the methods of such classes."""
    importer = lookup.site.file.path
    for statement in lookup.site.file.facts.imports:
        for name in statement.taken():
            for record, symbol in lookup.index.imported(statement, name, importer):
                if lookup.record(record.path) is not None:
                    yield record, symbol, 1.0
                    yield from _methods(record, symbol, _METHOD)


def near_names(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[Valued]:
    """Definitions of names close to the cursor; of many definers, only visible ones count."""
    for name, distance in lookup.site.near.items():
        if not lookup.index.is_defined(name):
            continue
        named = lookup.named(name)
        closeness = 1 / (1 + distance / _NEAR_SPAN)
        visible = [pair for pair in named if lookup.is_visible(pair[0].path)]
        for record, symbol in visible or (named if len(named) <= _MAX_DEFINERS else ()):
            value = closeness / (1 if visible else len(named))
            yield record, symbol, value
            yield from _methods(record, symbol, value / 2)


def votes(lookup: Lookup, chunks: Sequence[ScoredChunk]) -> Iterator[Valued]:
    """Definitions whose names occur in similar code: the r-th most similar piece gives 1/(10+r)."""
    sums: dict[str, float] = defaultdict(float)
    for rank, chunk in enumerate(chunks[:_VOTING_CHUNKS]):
        for name in chunk.names:
            sums[name] += 1 / (10 + rank)
    index = lookup.index
    rarity = rarities(index, [name for name in sums if index.is_defined(name)], index.num_files())
    best = heapq.nlargest(
        _MAX_VOTED_NAMES, ((sums[name] * weight, name) for name, weight in rarity.items())
    )
    for vote, name in best:
        named = lookup.named(name)
        visible = [pair for pair in named if lookup.is_visible(pair[0].path)]
        for record, symbol in visible or (named if len(named) <= _MAX_DEFINERS else ()):
            yield record, symbol, vote / math.sqrt(len(visible) or len(named))


def _methods(record: FileRecord, owner: Symbol, value: float) -> Iterator[Valued]:
    if owner.kind not in CLASS_KINDS:
        return
    for symbol in record.facts.members(owner.full_name):
        yield record, symbol, value


SYMBOL_SIGNALS: Mapping[str, SymbolSignal] = MappingProxyType(
    {
        "after the dot": after_the_dot,
        "import": imports,
        "called near cursor": near_names,
        "used in similar code": votes,
    }
)

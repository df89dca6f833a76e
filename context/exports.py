"""Where a name comes from that modules hand on: `from .core import Engine` in a package's file.

Followed from record to record at query time, so that a re-export costs nothing until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qcoder.context.imports import EVERYTHING
from qcoder.context.record import FileRecord, Symbol

_MAX_HOPS = 6
_MAX_VISITS = 64


def exported(
    name: str,
    paths: Iterable[str],
    record_of: Callable[[str], FileRecord | None],
    resolve: Callable[[str, str], tuple[str, ...]],
) -> list[tuple[FileRecord, Symbol]]:
    """Definitions at the top of files, or of the files they import them from, that `name` means."""
    found: list[tuple[FileRecord, Symbol]] = []
    seen: set[tuple[str, str]] = set()
    pending = [(path, name, 0) for path in paths]
    while pending and len(seen) < _MAX_VISITS:
        path, wanted, hops = pending.pop(0)
        record = record_of(path)
        if record is None or (path, wanted) in seen:
            continue
        seen.add((path, wanted))
        here = [
            s for s in record.facts.symbols if s.name == wanted and not s.nested and not s.owner
        ]
        found += [(record, symbol) for symbol in here]
        if here or hops == _MAX_HOPS:
            continue
        for statement in record.facts.imports:
            original = statement.original(wanted)
            if original is not None and original != EVERYTHING:
                inner = resolve(statement.module, path)
                pending += [(target, original, hops + 1) for target in inner]
    return found

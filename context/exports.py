"""Where a name comes from that modules hand on: `from .core import Engine` in a package's file.

Followed from record to record at query time, so that a re-export costs nothing until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qcoder.context.imports import EVERYTHING
from qcoder.context.record import FileRecord, Symbol

_MAX_HOPS = 6
_MAX_VISITS = 64
DEFAULT = "default"
"""What JavaScript calls the one thing that a module exports without a name."""

# Here what a class holds is imported by its name as well: `import com.x.Outer.Inner`.
_MEMBERS_TOO = frozenset({"java", "kotlin", "scala", "csharp"})


def exported(
    name: str,
    paths: Iterable[str],
    record_of: Callable[[str], FileRecord | None],
    resolve: Callable[[str, str], tuple[str, ...]],
    called: str = "",
) -> list[tuple[FileRecord, Symbol]]:
    """Definitions at the top of files, or of the files they import them from, that `name` means.

    `called` is what the importing file says in its place; it may tell what a default is.
    """
    found: list[tuple[FileRecord, Symbol]] = []
    seen: set[tuple[str, str]] = set()
    pending = [(path, name, called or name, 0) for path in paths]
    while pending and len(seen) < _MAX_VISITS:
        path, wanted, called, hops = pending.pop(0)
        record = record_of(path)
        if record is None or (path, wanted) in seen:
            continue
        seen.add((path, wanted))
        here = meant(wanted, called, record)
        found += [(record, symbol) for symbol in here]
        if here or hops == _MAX_HOPS:
            continue
        for statement in record.facts.imports:
            original = statement.original(wanted)
            if original is None and wanted == DEFAULT:
                # `import Card from "./impl"; export default Card`.
                original = statement.original(called)
            if original is not None and original != EVERYTHING:
                inner = resolve(statement.module, path)
                last = called if original == DEFAULT else original
                pending += [(target, original, last, hops + 1) for target in inner]
    return found


def meant(name: str, called: str, record: FileRecord) -> list[Symbol]:
    """Definitions of a file that others import by a name; its default is `called` so elsewhere."""
    named = record.facts.named(name)
    here = [symbol for symbol in named if not symbol.owner]
    if not here and name == DEFAULT:
        top = record.facts.members("")
        default = [symbol for symbol in top if symbol.signature.startswith("export default")]
        return default or [symbol for symbol in top if symbol.name == called]
    if not here and record.facts.language in _MEMBERS_TOO:
        return list(named)
    return here

"""Tasks: a file cut off right before the name of something that another file defines.

Four classes, the drawing of which knows nothing of the ranking under test:

- imported: the one definition of the name in the repository; an import before the call names it
  (in Go, the package that qualifies it);
- unseen: the one definition of the name, which does not occur before the call (and is no method
  of the language's own types, nor taken from an imported module that is not the definition's);
- ambiguous: at least two definitions; which one is meant follows from the imports;
- receiver: a method of an object whose type is known before the call.

Names have at least four characters. No task is in the first eight lines of a file or calls what
its own file defines. At most four tasks a class come from one file, each with a name of its own.
The definition's header line occurs once in its file, so that showing it can be told.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from qcoder.context.index import Index
from qcoder.context.record import FileRecord, Symbol
from retrieval.sites import FAMILY, STANDARD_METHODS, STANDARD_NAMES, CallSite, call_sites
from retrieval.truth import TRUTHS, Truth

CLASSES = ("imported", "unseen", "ambiguous", "receiver")
DRAW_S = 1800.0
"""Seconds after which drawing ends with what there is: jedi is slow on some repositories."""
_MIN_NAME = 4
_FIRST_LINE = 8
_PER_FILE = 4
_MAX_SYMBOL_FILES = 400
_HEADER_CHARS = 90
_MAX_FILE_CHARS = 150_000


@dataclass(frozen=True, slots=True)
class Task:
    """Complete `path` cut at `offset` (code points): the truth is `header`, a line of `truth`."""

    kind: str
    path: str
    language: str
    offset: int
    line: int
    name: str
    truth: str
    header: str


def load_or_draw(
    index: Index, per_class: int, seed: int, store: Path | None = None, limit_s: float = DRAW_S
) -> list[Task]:
    """Tasks from `store` when it holds some, else drawn (and stored there)."""
    if store is not None and store.exists():
        stored = [Task(**row) for row in json.loads(store.read_text("utf-8"))]
        by_kind = {kind: [task for task in stored if task.kind == kind] for kind in CLASSES}
        return [task for kind in CLASSES for task in by_kind[kind][:per_class]]
    tasks = draw(index, per_class, seed, limit_s)
    if store is not None:
        store.write_text(json.dumps([asdict(task) for task in tasks]), "utf-8")
    return tasks


def draw(index: Index, per_class: int, seed: int, limit_s: float) -> list[Task]:
    """Up to `per_class` tasks of every class, from files in seeded order, until time is up."""
    deadline = time.monotonic() + limit_s
    rng = random.Random(seed)
    paths = [path for path in index.paths() if _language(index, path) in FAMILY]
    rng.shuffle(paths)
    truths = {family: make(index) for family, make in TRUTHS.items()}
    found: dict[str, list[Task]] = {kind: [] for kind in CLASSES}
    for done, path in enumerate(paths):
        wanted = [kind for kind in CLASSES if len(found[kind]) < per_class]
        if not wanted or time.monotonic() > deadline:
            break
        language = _language(index, path)
        for kind, task in _of_file(index, path, language, truths[FAMILY[language]], wanted, rng):
            if len(found[kind]) < per_class:
                found[kind].append(task)
        if done % 100 == 99:
            counts = {kind: len(tasks) for kind, tasks in found.items()}
            print(f"drawing tasks: {done + 1}/{len(paths)} files, {counts}", file=sys.stderr)
    return [task for kind in CLASSES for task in found[kind]]


def _of_file(
    index: Index, path: str, language: str, truth: Truth, wanted: list[str], rng: random.Random
) -> list[tuple[str, Task]]:
    text = index.text(path)
    record = index.record(path)
    if text is None or record is None or len(text) > _MAX_FILE_CHARS:
        return []
    own = {symbol.name for symbol in record.facts.symbols}
    sites = [
        site
        for site in call_sites(text, language)
        if len(site.name) >= _MIN_NAME and site.line >= _FIRST_LINE and site.name not in own
    ]
    rng.shuffle(sites)
    found: list[tuple[str, Task]] = []
    taken: Counter[str] = Counter()
    names: set[tuple[str, str]] = set()
    for site in sites:
        for kind in wanted:
            if taken[kind] >= _PER_FILE or (kind, site.name) in names:
                continue
            names.add((kind, site.name))
            named = _definitions(index, site.name, language)
            answer = _RULES[kind](site, named, text, path, truth)
            header = _header(index, *answer) if answer else None
            if answer is None or header is None or answer[0].path == path:
                continue
            taken[kind] += 1
            found.append(
                (
                    kind,
                    Task(
                        kind,
                        path,
                        language,
                        site.offset,
                        site.line,
                        site.name,
                        answer[0].path,
                        header,
                    ),
                )
            )
    return found


_Pair = tuple[FileRecord, Symbol]
_Rule = Callable[[CallSite, list[_Pair], str, str, Truth], _Pair | None]


def _imported(
    site: CallSite, named: list[_Pair], text: str, path: str, truth: Truth
) -> _Pair | None:
    if len(named) != 1 or not truth.is_imported(site):
        return None
    return truth.resolve(site, named, text, path)


def _unseen(site: CallSite, named: list[_Pair], text: str, path: str, truth: Truth) -> _Pair | None:
    if len(named) != 1 or re.search(rf"\b{re.escape(site.name)}\b", text[: site.offset]):
        return None
    if site.head in site.imported_words:  # it may be another project's function of this name
        return truth.resolve(site, named, text, path)
    if not site.receiver:
        return None if named[0][1].owner or site.name in STANDARD_NAMES else named[0]
    standard = site.name in STANDARD_METHODS[FAMILY[named[0][0].facts.language]]
    return None if standard else named[0]


def _ambiguous(
    site: CallSite, named: list[_Pair], text: str, path: str, truth: Truth
) -> _Pair | None:
    if len(named) < 2 or not truth.is_imported(site):
        return None
    return truth.resolve(site, named, text, path)


def _receiver(
    site: CallSite, named: list[_Pair], text: str, path: str, truth: Truth
) -> _Pair | None:
    methods = [pair for pair in named if pair[1].owner]
    if not site.receiver or not methods or truth.is_imported(site):
        return None
    return truth.resolve(site, methods, text, path)


_RULES: dict[str, _Rule] = {
    "imported": _imported,
    "unseen": _unseen,
    "ambiguous": _ambiguous,
    "receiver": _receiver,
}


def _definitions(index: Index, name: str, language: str) -> list[_Pair]:
    family = FAMILY[language]
    return [
        pair
        for pair in index.symbols_named(name, _MAX_SYMBOL_FILES)
        if FAMILY.get(pair[0].facts.language) == family
    ]


def _header(index: Index, record: FileRecord, symbol: Symbol) -> str | None:
    """The definition's line that holds its name, when no other line of the file is the same."""
    word = re.compile(rf"\b{re.escape(symbol.name)}\b")
    line = next((row.strip() for row in symbol.signature.split("\n") if word.search(row)), None)
    text = index.text(record.path)
    if line is None or text is None:
        return None
    header = line[:_HEADER_CHARS]
    same = sum(header in row for row in text.split("\n"))
    return header if same == 1 else None


def _language(index: Index, path: str) -> str:
    record = index.record(path)
    return record.facts.language if record else ""

"""Which bugs are injected where: a draw that is the same for the same files and seed, or a file's.

A file of mutants is JSON lines with `class`, `path` (below the root), `line` and either `text`, the
whole mutated file, or `start_line`, `end_line` (1-based, inclusive) and `lines` in their place.
"""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from injection.leaks import LEAKS_AND_CONCURRENCY
from injection.slips import LOGIC
from injection.source import Bug, Operator, Source

OPERATORS: Mapping[str, Operator] = {**LEAKS_AND_CONCURRENCY, **LOGIC}
SKIPPED = frozenset(
    {"test", "tests", "testing", "test_util", "vendor", "_vendor", "node_modules", "examples"}
)
MAX_BYTES = 200_000
MAX_PER_FILE = 2
MAX_PER_REPOSITORY = 0.3
"""Most of a class that one repository may give."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One injected bug: the file before and after."""

    kind: str
    root: Path
    path: str
    line: int
    original: str
    mutated: str


def python_files(root: Path) -> list[Path]:
    """Files of a repository that people wrote and ship, sorted."""
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not SKIPPED & {part.lower() for part in path.relative_to(root).parts}
        and not path.name.startswith("test_")
        and path.stat().st_size <= MAX_BYTES
    ]


def text_of(path: Path) -> str | None:
    """Text of a file; None when it is no Python 3."""
    try:
        text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, str(path), "exec")
    except (OSError, UnicodeError, SyntaxError, ValueError):
        return None
    return text


def draw(
    roots: Mapping[str, Path],
    per_class: int,
    seed: int,
    operators: Mapping[str, Operator] = OPERATORS,
) -> list[Mutant]:
    """At most `per_class` mutants of every class from repositories by name."""
    found: dict[str, list[tuple[str, Mutant]]] = {kind: [] for kind in operators}
    for name, root in sorted(roots.items()):
        for path in python_files(root):
            text = text_of(path)
            if text is None:
                continue
            source, relative = Source(text), path.relative_to(root).as_posix()
            for kind, operator in operators.items():
                rng = random.Random(f"{seed}/{name}/{relative}/{kind}")
                bugs = list(some(operator(source, rng), rng))
                found[kind] += [
                    (name, Mutant(kind, root, relative, b.line, text, b.text)) for b in bugs
                ]
    return [mutant for kind, rows in found.items() for mutant in chosen(rows, per_class, seed)]


def some(bugs: Iterator[Bug], rng: random.Random) -> Iterator[Bug]:
    """A few of a file's bugs that parse, in random order."""
    every = list(bugs)
    rng.shuffle(every)
    taken = 0
    for bug in every:
        if taken == MAX_PER_FILE:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(bug.text, "mutant", "exec")
        except (SyntaxError, ValueError):
            continue
        taken += 1
        yield bug


def chosen(rows: list[tuple[str, Mutant]], count: int, seed: int) -> list[Mutant]:
    """`count` mutants of one class, no repository with more than its share where others have some."""
    rng = random.Random(seed)
    rows = [*rows]
    rng.shuffle(rows)
    limit = max(1, round(count * MAX_PER_REPOSITORY))
    taken: list[Mutant] = []
    late: list[Mutant] = []
    counts: Counter[str] = Counter()
    for name, mutant in rows:
        counts[name] += 1
        (taken if counts[name] <= limit else late).append(mutant)
    return (taken + late)[:count]


def read_mutants(file: Path, root: Path) -> list[Mutant]:
    """Mutants of a file that another author wrote; raises ValueError that names the line."""
    mutants = []
    for number, row in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not row.strip():
            continue
        try:
            said = json.loads(row)
            original = (root / said["path"]).read_text("utf-8")
            text = said.get("text")
            if text is None:
                lines = original.split("\n")
                lines[said["start_line"] - 1 : said["end_line"]] = said["lines"]
                text = "\n".join(lines)
            line = said.get("line", said.get("start_line", 1))
            mutants.append(Mutant(said["class"], root, said["path"], line, original, text))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}:{number}: no mutant ({error})") from None
    return mutants

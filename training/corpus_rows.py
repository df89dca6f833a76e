"""Random access to a training corpus: one JSON-lines file a language, as `corpus.py` writes them.

A row is drawn with a probability in proportion to its length, as training draws files. Only where
the lines begin is kept in memory.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """One file of the corpus; `at` is where its line begins, which tells rows apart."""

    at: int
    package: str
    path: str
    text: str


def language_file(corpus: Path, language: str) -> Path | None:
    """The file of a language; None when the corpus has no text of it."""
    path = corpus / f"{language}.jsonl"
    return path if path.is_file() and path.stat().st_size else None


def draw(path: Path, rng: random.Random) -> Iterator[CorpusRow]:
    """Rows without end; the same may come again."""
    with path.open("rb") as lines:
        ends = list(accumulate(map(len, lines)))
        while True:
            row = bisect_right(ends, rng.randrange(ends[-1]))
            at = ends[row - 1] if row else 0
            lines.seek(at)
            yield parse_row(at, lines.readline())


def every_row(path: Path) -> Iterator[CorpusRow]:
    """All rows in order."""
    with path.open("rb") as lines:
        at = 0
        for line in lines:
            yield parse_row(at, line)
            at += len(line)


def parse_row(at: int, line: bytes) -> CorpusRow:
    """One line of a language's file."""
    row = json.loads(line)
    return CorpusRow(at, row["package"], row["path"], row["text"])

"""Files that the cursor's file has to do with, and why.

A row of `FILE_SIGNALS` gives paths with a value from 0 to 1. None of them passes over all files:
imports and names go through the index's maps, history and recent files are short lists.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from qcoder.context.chunks import ScoredChunk
from qcoder.context.lookup import Lookup

FileSignal = Callable[[Lookup, Sequence[ScoredChunk]], Iterator[tuple[str, float]]]

_MAX_SECOND_HOP = 150
_MAX_SIMILAR_FILES = 30
_TEST_PARTS = re.compile(r"^(?:tests?|specs?)[_.-]+|[_.-](?:tests?|specs?|integration_test)$", re.I)


def imported(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files that the current one imports; those that it names first weigh no more than the last."""
    for path in lookup.imported:
        yield path, 1.0


def imported_by_imports(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files that the imported files import."""
    seen = {lookup.site.file.path, *lookup.imported}
    for path in lookup.imported[:20]:
        record = lookup.record(path)
        for found in record.facts.imports[:40] if record is not None else ():
            for target in lookup.index.resolve(found.module, path)[:4]:
                if target not in seen:
                    seen.add(target)
                    yield target, 1.0
        if len(seen) > _MAX_SECOND_HOP:
            return


def same_package(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files of the same folder where that is a package whose names need no import."""
    if lookup.family in ("go", "java", "csharp", "kotlin", "scala"):
        for path in lookup.index.in_folder(lookup.folder):
            yield path, 1.0


def same_folder(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files beside the current one."""
    paths = lookup.index.in_folder(lookup.folder)
    for path in paths:
        yield path, 1.0 / max(1.0, len(paths) / 20)


def tested_file(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """What a test file tests by its name: `test_redis.py`, `redis.spec.ts` and `redis.py`."""
    stem = posixpath.basename(lookup.site.file.path).partition(".")[0]
    whole = posixpath.splitext(posixpath.basename(lookup.site.file.path))[0]
    bare = _TEST_PARTS.sub("", _TEST_PARTS.sub("", whole if "." in whole else stem))
    if bare and bare not in (stem, whole):
        found = lookup.index.named_files(bare)
        for path in found[:8]:
            yield path, 1.0 / len(found[:8])


def similar(lookup: Lookup, chunks: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files with code like that before the cursor."""
    best: dict[str, float] = {}
    for chunk in chunks:
        best.setdefault(chunk.record.path, chunk.score)
    top = max(best.values(), default=0.0)
    for path, score in list(best.items())[:_MAX_SIMILAR_FILES]:
        yield path, score / top


def changed_together(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files that git's history changes in the same commits as the current one."""
    yield from lookup.index.history.together(lookup.site.file.path)


def recent(lookup: Lookup, _: Sequence[ScoredChunk]) -> Iterator[tuple[str, float]]:
    """Files that are open or were edited a moment ago, the latest first."""
    for number, path in enumerate(lookup.site.recent[:12]):
        yield path, 1.0 / (1 + number / 4)


FILE_SIGNALS: Mapping[str, FileSignal] = MappingProxyType(
    {
        "imported module": imported,
        "imported by an import": imported_by_imports,
        "same package": same_package,
        "same folder": same_folder,
        "tested file": tested_file,
        "similar file": similar,
        "changed together": changed_together,
        "recent file": recent,
    }
)

"""From one file on the disk to its record, or to the reason why it has none."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pathspec

from qcoder.context.languages import language_of
from qcoder.context.record import Facts, FileRecord, analyse
from qcoder.context.source import read_source

PLAIN = "text"
# A file written this shortly before it was read may be written again within the same clock tick.
_RACY_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One file to read: `size` in bytes as the disk says, `known` the facts of its last version."""

    path: str
    size: int
    known: Facts | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One file as read. Facts are None when the content is that of the hash asked about."""

    path: str
    size: int
    mtime_ns: int
    facts: Facts | None

    def record(self, known: Facts | None) -> FileRecord:
        """The record, with the known facts where nothing changed."""
        facts = self.facts or known
        assert facts is not None, "asked about a hash without facts"
        return FileRecord(self.path, self.size, self.mtime_ns, facts)


def read(
    root: Path,
    path: str,
    exclude: pathspec.GitIgnoreSpec | None,
    known_hash: bytes | None = None,
    plain: bool = False,
) -> Reading | str:
    """Read one file; a reason in a few words when it does not count. `plain` parses nothing."""
    source = read_source(root, path, exclude)
    if isinstance(source, str):
        return source
    mtime_ns = source.mtime_ns if source.mtime_ns < time.time_ns() - _RACY_NS else 0
    if source.hash == known_hash:
        return Reading(path, source.size, mtime_ns, None)
    language = PLAIN if plain else language_of(path, source.text)
    return Reading(path, source.size, mtime_ns, analyse(source.text, language, source.hash))


def is_spoiled(path: str, known: Facts | None) -> bool:
    """Whether a file is kept as plain text although its name says more: a parser crashed on it."""
    return known is not None and known.language == PLAIN != language_of(path)

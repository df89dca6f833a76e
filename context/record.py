"""What the index knows of one file, self-contained, in the compact form in which it is kept and saved.

`Facts` depend on the content and the language alone, so files with equal text share them and a
rename costs no parsing. A `FileRecord` adds where the file is and which version of it was read.

Facts hold two packed blobs; what is asked for is unpacked then and kept for a while. A workspace of
a million lines is some tens of megabytes this way, and its saved form is read without touching it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgpack  # type: ignore[import-untyped]
import xxhash

from qcoder.context.imports import Import, parse_imports
from qcoder.context.languages import is_data
from qcoder.context.parse import Definition, Syntax, syntax
from qcoder.context.projects import Project, declared_names, project_of
from qcoder.context.words import CHUNK_LINES, chunk_positions, chunk_words, identifiers_of

__all__ = [
    "CHUNK_LINES",
    "Facts",
    "FileRecord",
    "Symbol",
    "analyse",
    "chunk_positions",
    "facts_of",
    "from_plain",
    "identifiers_of",
    "to_plain",
]

_MAX_SUMMARY_CHARS = 240
# Enough for what a request touches, and a fraction of what all records would take unpacked.
_UNPACKED_OUTLINES = 2048
_UNPACKED_WORDS = 512
_LOOKED_UP = 512


@dataclass(frozen=True, slots=True)
class Symbol:
    """A definition as the index keeps it; `summary` is the first paragraph of its docs.

    `owner` is dotted. Bytes and lines are half-open ranges of the file; `nested` says that
    a function encloses it, so nobody outside can name it.
    """

    name: str
    kind: str
    owner: str
    start_byte: int
    end_byte: int
    start_line: int
    end_line: int
    signature: str
    summary: str
    nested: bool

    @property
    def full_name(self) -> str:
        """The name with its owners, as the owner of its members is written."""
        return f"{self.owner}.{self.name}" if self.owner else self.name


@dataclass(frozen=True, slots=True)
class Outline:
    """Definitions, imports and what the file says as a project file."""

    symbols: tuple[Symbol, ...]
    imports: tuple[Import, ...]
    project: Project


@dataclass(frozen=True, slots=True)
class Words:
    """Names in a file: all of them, by chunk of lines (see `chunk_words`), defined.

    `defined` are the names that code in other files can mean, those of `projects.py` included.
    """

    identifiers: tuple[str, ...]
    chunks: tuple[bytes, ...]
    defined: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that follows from one content in one language; the blobs are `Outline`, `Words`."""

    hash: bytes
    language: str
    lines: int
    num_symbols: int
    packed_outline: bytes
    packed_words: bytes

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """Definitions in file order."""
        return _outline(self.packed_outline).symbols

    def named(self, name: str) -> Sequence[Symbol]:
        """Definitions of a name outside functions, in file order."""
        return _by_name(self.packed_outline).get(name, ())

    def members(self, owner: str) -> Sequence[Symbol]:
        """Definitions outside functions that have this dotted `owner`, in file order."""
        return _by_owner(self.packed_outline).get(owner, ())

    def owners(self, owner: str) -> Sequence[Symbol]:
        """Definitions that a symbol's dotted `owner` may mean, in file order."""
        return _owners(self.packed_outline).get(owner, ())

    @property
    def imports(self) -> tuple[Import, ...]:
        """Imported modules in the order of their statements."""
        return _outline(self.packed_outline).imports

    @property
    def project(self) -> Project:
        """What the file says as a project file; empty for nearly all files."""
        return _outline(self.packed_outline).project

    @property
    def words(self) -> Words:
        """Names in the file; ask once for several of them."""
        return _words(self.packed_words)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Every name, in order of first occurrence."""
        return self.words.identifiers

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """For every `CHUNK_LINES` lines, which identifiers occur there."""
        return self.words.chunks


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of the workspace as last read; `mtime_ns` 0 means: look at the content again."""

    path: str
    size: int
    mtime_ns: int
    facts: Facts


def analyse(text: str, language: str, content_hash: bytes | None = None) -> Facts:
    """Read the facts out of a text. Never raises; without grammar there are no symbols."""
    return facts_of(text, language, syntax(text, language), content_hash)


def facts_of(text: str, language: str, found: Syntax, content_hash: bytes | None = None) -> Facts:
    """The facts of a text whose syntax is known already."""
    identifiers, chunks = chunk_words(text)
    project = project_of(text, language)
    # What a configuration file defines is no name that code elsewhere can mean.
    outside = () if is_data(language) else found.definitions
    defined = {definition.name for definition in outside if not definition.nested}
    defined.update(declared_names(project, found.packages))
    words = (
        identifiers,
        chunks,
        "\n".join(sorted(defined)),
    )
    outline = (
        [_plain_symbol(definition) for definition in found.definitions],
        [(i.module, i.names, i.aliases) for i in parse_imports(found.imports, language)],
        project,
    )
    return Facts(
        hash=content_hash or xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")),
        language=language,
        lines=text.count("\n") + (not text.endswith("\n") and bool(text)),
        num_symbols=len(found.definitions),
        packed_outline=_pack(outline),
        packed_words=_pack(words),
    )


def to_plain(facts: Facts) -> list[Any]:
    """The msgpack form of facts."""
    return [
        facts.hash,
        facts.language,
        facts.lines,
        facts.num_symbols,
        facts.packed_outline,
        facts.packed_words,
    ]


def from_plain(plain: Sequence[Any]) -> Facts:
    """Facts from their msgpack form; raises ValueError or TypeError on anything else."""
    return Facts(*plain)


def _plain_symbol(definition: Definition) -> tuple[Any, ...]:
    span = definition.span
    return (
        definition.name,
        definition.kind,
        definition.owner,
        span.start_byte,
        span.end_byte,
        span.start_line,
        span.end_line,
        definition.signature,
        definition.summary[:_MAX_SUMMARY_CHARS],
        definition.nested,
    )


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed


def _unpack(packed: bytes) -> Any:
    return msgpack.unpackb(packed, unicode_errors="surrogatepass", use_list=False)


@lru_cache(maxsize=_UNPACKED_OUTLINES)
def _outline(packed: bytes) -> Outline:
    symbols, imports, project = _unpack(packed)
    return Outline(
        tuple(Symbol(*row) for row in symbols), tuple(Import(*row) for row in imports), project
    )


@lru_cache(maxsize=_LOOKED_UP)
def _by_name(packed: bytes) -> Mapping[str, Sequence[Symbol]]:
    return _grouped(packed, attrgetter("name"))


@lru_cache(maxsize=_LOOKED_UP)
def _by_owner(packed: bytes) -> Mapping[str, Sequence[Symbol]]:
    return _grouped(packed, attrgetter("owner"))


def _grouped(packed: bytes, key: Callable[[Symbol], str]) -> Mapping[str, Sequence[Symbol]]:
    found: dict[str, list[Symbol]] = {}
    for symbol in _outline(packed).symbols:
        if not symbol.nested:
            found.setdefault(key(symbol), []).append(symbol)
    return found


@lru_cache(maxsize=_LOOKED_UP)
def _owners(packed: bytes) -> Mapping[str, Sequence[Symbol]]:
    """Definitions by their full names, those that own others alone."""
    symbols = _outline(packed).symbols
    asked: set[str] = set()
    for owner in {symbol.owner for symbol in symbols}:
        parts = owner.split(".")
        asked.update(".".join(parts[: depth + 1]) for depth in range(len(parts)))
    found: dict[str, list[Symbol]] = {}
    for symbol in symbols:
        full = symbol.full_name
        if full in asked:
            found.setdefault(full, []).append(symbol)
    return found


@lru_cache(maxsize=_UNPACKED_WORDS)
def _words(packed: bytes) -> Words:
    return read_words(packed)


def read_words(packed: bytes) -> Words:
    """Unpack names without keeping them: for a pass over many files."""
    identifiers, chunks, defined = _unpack(packed)
    return Words(
        tuple(identifiers.split(" ")) if identifiers else (),
        chunks,
        frozenset(defined.split("\n")) if defined else frozenset(),
    )

"""What the index knows of one file, self-contained, and its compact form on disk.

`Facts` depend on the content and the language alone, so files with equal text share them and a
rename costs no parsing. A `FileRecord` adds where the file is and which version of it was read.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from qcoder.context.imports import Import, parse_imports
from qcoder.context.parse import Definition, syntax

CHUNK_LINES = 20
_MAX_SUMMARY_CHARS = 240
_MAX_IDENTIFIERS = 1 << 16
_IDENTIFIER = re.compile(r"[^\W\d]\w{2,}")


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


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that follows from one content in one language.

    `identifiers` are sorted; each of `chunks` holds the positions in it of the names that occur
    in its `CHUNK_LINES` lines, ascending, as unsigned 16-bit numbers.
    """

    hash: bytes
    language: str
    lines: int
    symbols: tuple[Symbol, ...]
    references: Mapping[str, int]
    imports: tuple[Import, ...]
    identifiers: tuple[str, ...]
    chunks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of the workspace as last read; `mtime_ns` 0 means: look at the content again."""

    path: str
    size: int
    mtime_ns: int
    facts: Facts


def analyse(text: str, language: str, content_hash: bytes | None = None) -> Facts:
    """Read the facts out of a text. Never raises; without grammar there are no symbols."""
    found = syntax(text, language)
    identifiers, chunks = _chunk(text)
    data_hash = content_hash or xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
    return Facts(
        hash=data_hash,
        language=language,
        lines=text.count("\n") + (not text.endswith("\n") and bool(text)),
        symbols=tuple(_symbol(definition) for definition in found.definitions),
        references={sys.intern(name): n for name, n in (found.references or {}).items()},
        imports=parse_imports(found.imports, language),
        identifiers=identifiers,
        chunks=chunks,
    )


def identifiers_of(text: str) -> list[str]:
    """Names of at least three characters in order of occurrence, repeated ones included."""
    return _IDENTIFIER.findall(text)


def chunk_positions(chunk: bytes) -> array[int]:
    """The positions in `Facts.identifiers` that a chunk holds."""
    positions = array("H")
    positions.frombytes(chunk)
    return positions


def to_plain(facts: Facts) -> list[Any]:
    """The msgpack form of facts."""
    return [
        facts.hash,
        facts.language,
        facts.lines,
        [
            [
                symbol.name,
                symbol.kind,
                symbol.owner,
                symbol.start_byte,
                symbol.end_byte,
                symbol.start_line,
                symbol.end_line,
                symbol.signature,
                symbol.summary,
                symbol.nested,
            ]
            for symbol in facts.symbols
        ],
        dict(facts.references),
        [[found.module, list(found.names)] for found in facts.imports],
        list(facts.identifiers),
        list(facts.chunks),
    ]


def from_plain(plain: Sequence[Any]) -> Facts:
    """Facts from their msgpack form; raises ValueError or TypeError on anything else."""
    data_hash, language, lines, symbols, references, imports, identifiers, chunks = plain
    intern = sys.intern
    return Facts(
        hash=data_hash,
        language=intern(language),
        lines=lines,
        symbols=tuple(Symbol(intern(row[0]), intern(row[1]), *row[2:]) for row in symbols),
        references={intern(name): n for name, n in references.items()},
        imports=tuple(Import(module, tuple(names)) for module, names in imports),
        identifiers=tuple(map(intern, identifiers)),
        chunks=tuple(chunks),
    )


def _chunk(text: str) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    lines = text.split("\n")
    windows = [
        set(_IDENTIFIER.findall("\n".join(lines[start : start + CHUNK_LINES])))
        for start in range(0, len(lines), CHUNK_LINES)
    ]
    identifiers = sorted(set().union(*windows))[:_MAX_IDENTIFIERS]
    position = {name: i for i, name in enumerate(identifiers)}
    chunks = []
    for window in windows:
        chosen = array("H", sorted(position[name] for name in window if name in position))
        chunks.append(chosen.tobytes())
    return tuple(map(sys.intern, identifiers)), tuple(chunks)


def _symbol(definition: Definition) -> Symbol:
    paragraph = (definition.docstring or "").split("\n\n", 1)[0]
    summary = " ".join(paragraph.split())[:_MAX_SUMMARY_CHARS]
    return Symbol(
        sys.intern(definition.name),
        sys.intern(definition.kind),
        definition.owner,
        definition.span.start_byte,
        definition.span.end_byte,
        definition.span.start_line,
        definition.span.end_line,
        definition.signature,
        summary,
        definition.nested,
    )

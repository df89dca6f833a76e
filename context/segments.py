"""The data of `context`: documents, spans, segments and what the packer returns.

Lines and columns are 0-based here; a column counts Unicode code points. Byte offsets are UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import xxhash

TokenCounter = Callable[[str], int]
"""How many tokens a text costs; the packer never imports a tokenizer."""


class Level(StrEnum):
    """How much of a segment is shown, from least to most."""

    PATH = "path"
    SIGNATURE = "signature"
    DOCSTRING = "docstring"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Document:
    """One version of one text, as an editor or the disk has it."""

    uri: str
    version: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of a file: bytes [start_byte, end_byte), lines [start_line, end_line)."""

    start_byte: int
    end_byte: int
    start_line: int
    end_line: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A named or unnamed piece of one file; `path` is relative to the workspace, with slashes."""

    path: str
    span: Span
    kind: str
    name: str
    text: str

    @property
    def sha(self) -> str:
        """Content hash of the text (xxh3, 128 bits, hexadecimal): equal text, equal hash."""
        return content_hash(self.text)


class Tier(StrEnum):
    """How long a segment of a prompt stays what and where it is, from longest to shortest."""

    STABLE = "stable"
    SESSION = "session"
    VOLATILE = "volatile"


@dataclass(frozen=True, slots=True)
class PackedSegment:
    """A segment as it goes into the prompt, with its cost and why it is there."""

    segment: Segment
    level: Level
    tokens: int
    reason: str
    tier: Tier = Tier.VOLATILE


@dataclass(frozen=True, slots=True)
class CursorWindow:
    """Text around the cursor: `prefix` ends and `suffix` begins exactly at the cursor."""

    path: str
    language: str
    prefix: str
    suffix: str
    tokens: int


@dataclass(frozen=True, slots=True)
class PackedContext:
    """Segments in prompt order (stable first, best last), then the cursor window."""

    segments: tuple[PackedSegment, ...]
    window: CursorWindow
    budget_tokens: int

    @property
    def tokens(self) -> int:
        """Total cost; never more than `budget_tokens`."""
        return self.window.tokens + sum(s.tokens for s in self.segments)


def content_hash(text: str) -> str:
    """xxh3-128 of the UTF-8 bytes, hexadecimal."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))

"""The names that occur in a text, and in which windows of its lines they occur.

A name is a word of at least three characters that does not begin with a digit. Texts in ASCII, nearly
all of them, are cut with a translation table and `split`: three times as fast as an expression.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import repeat
from typing import TypeVar

_Word = TypeVar("_Word", str, bytes)

CHUNK_LINES = 20
_MAX_IDENTIFIERS = 1 << 16
_MIN_CHARS = 3
_IDENTIFIER = re.compile(r"\b[^\W\d]\w{2,}")
_NINE = ord("9")
_NO_POSITION = repeat(-1)
# Every character that is no part of a word becomes a space; line breaks stay.
_WORDS = bytes(
    code if code < 128 and (chr(code).isalnum() or chr(code) in "_\n") else ord(" ")
    for code in range(256)
)


def identifiers_of(text: str) -> list[str]:
    """Names of a text in order of occurrence, repeated ones included."""
    return _IDENTIFIER.findall(text)


def chunk_words(text: str) -> tuple[str, list[bytes]]:
    """Sorted names of a text with spaces between; for every `CHUNK_LINES` lines their positions.

    Positions are ascending unsigned 16-bit numbers: see `chunk_positions`.
    """
    if not text.isascii():
        windows = _windows(text)
        names = sorted(set().union(*windows))[:_MAX_IDENTIFIERS]
        return " ".join(names), _packed(windows, names)
    ascii_windows = _ascii_windows(text)
    # Digits come before letters and the underscore.
    ascii_names = [
        word for word in set().union(*ascii_windows) if len(word) >= _MIN_CHARS and word[0] > _NINE
    ]
    ascii_names.sort()
    del ascii_names[_MAX_IDENTIFIERS:]
    return b" ".join(ascii_names).decode("ascii"), _packed(ascii_windows, ascii_names)


def chunk_positions(chunk: bytes) -> array[int]:
    """The positions among the names of its text that a chunk holds."""
    positions = array("H")
    positions.frombytes(chunk)
    return positions


def _ascii_windows(text: str) -> list[set[bytes]]:
    lines = text.encode("ascii").translate(_WORDS).split(b"\n")
    return [
        set(b" ".join(lines[start : start + CHUNK_LINES]).split())
        for start in range(0, len(lines), CHUNK_LINES)
    ]


def _windows(text: str) -> list[set[str]]:
    lines = text.split("\n")
    return [
        set(_IDENTIFIER.findall("\n".join(lines[start : start + CHUNK_LINES])))
        for start in range(0, len(lines), CHUNK_LINES)
    ]


def _packed(windows: Sequence[set[_Word]], names: Sequence[_Word]) -> list[bytes]:
    position = dict(zip(names, range(len(names)), strict=True))
    chunks = []
    for window in windows:
        positions = sorted(map(position.get, window, _NO_POSITION))
        chunks.append(array("H", positions[bisect_left(positions, 0) :]).tobytes())
    return chunks

"""The names that occur in a text, and in which windows of its lines they occur.

A name is a word of at least three characters that does not begin with a digit. `words.cpp` finds them
where it could be compiled; without it texts in ASCII, nearly all of them, are cut with a translation
table and `split`, which is a third as fast, and others with an expression.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

logger = logging.getLogger(__name__)

CHUNK_LINES = 20
_MAX_IDENTIFIERS = 1 << 16
_MIN_CHARS = 3
_IDENTIFIER = re.compile(r"\b[^\W\d]\w{2,}")
_NO_WORD = re.compile(r"[^\x00-\x7f\w]")
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")
_SUFFIXES = (".abi3.so", ".pyd")
_NINE = ord("9")
_NO_NAME = -1
# Every character that is no part of a word becomes a space; line breaks stay.
_WORDS = bytes(
    code if code < 128 and (chr(code).isalnum() or chr(code) in "_\n") else ord(" ")
    for code in range(256)
)


def identifiers_of(text: str) -> list[str]:
    """Names of a text in order of occurrence, repeated ones included."""
    return _IDENTIFIER.findall(text)


def chunk_words(text: str) -> tuple[str, list[bytes]]:
    """Names by first occurrence with spaces between; their positions in `CHUNK_LINES` lines each.

    The positions of a chunk are unsigned 16-bit numbers in no order: see `chunk_positions`.
    """
    compiled = _library()
    if compiled is not None and not text.isascii():
        # What is beyond ASCII and left then belongs to words; digits there are too rare to matter.
        text = _NO_WORD.sub(" ", text)
        compiled = None if _FOREIGN_DIGIT.search(text) else compiled
    return plain_chunk_words(text) if compiled is None else _compiled_chunk_words(compiled, text)


def plain_chunk_words(text: str) -> tuple[str, list[bytes]]:
    """What `chunk_words` gives, without compiled code."""
    positions = _Positions()
    position_of = positions.__getitem__
    chunks = []
    for words in _ascii_windows(text) if text.isascii() else _windows(text):
        found = set(map(position_of, words))
        found.discard(_NO_NAME)
        chunks.append(array("H", found).tobytes())
    return b" ".join(positions.names).decode("utf-8", "surrogatepass"), chunks


def chunk_positions(chunk: bytes) -> array[int]:
    """The positions among the names of its text that a chunk holds."""
    positions = array("H")
    positions.frombytes(chunk)
    return positions


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    folder = Path(__file__).parent
    for path in (folder / f"_words{suffix}" for suffix in _SUFFIXES):
        if path.exists():
            try:
                found = ctypes.CDLL(str(path))
                found.qcoder_chunk_words.restype = ctypes.c_int64
                found.qcoder_chunk_words.argtypes = [
                    ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64,
                    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
                ]  # fmt: skip
            except (OSError, AttributeError) as error:
                logger.warning("words=plain reason=%s does not load: %s", path.name, error)
                continue
            return found
    return None


def _compiled_chunk_words(library: ctypes.CDLL, text: str) -> tuple[str, list[bytes]]:
    data = text.encode("utf-8")
    room = _room.for_bytes(len(data))
    counts = (ctypes.c_uint32 * (data.count(b"\n") // CHUNK_LINES + 1))()
    written = library.qcoder_chunk_words(
        data, len(data), CHUNK_LINES, room.names, room.positions, counts
    )
    if written < 0:
        raise MemoryError
    ends = list(accumulate(counts, initial=0))
    taken = ctypes.string_at(room.positions, 2 * ends[-1])
    chunks = [taken[2 * start : 2 * end] for start, end in pairwise(ends)]
    return ctypes.string_at(room.names, written).decode("utf-8"), chunks


class _Room(threading.local):
    """Where the library writes, kept for the next text: new memory costs as much as the work."""

    size = 0
    names: ctypes.Array[ctypes.c_char]
    positions: ctypes.Array[ctypes.c_uint16]

    def for_bytes(self, size: int) -> _Room:
        """This with room for a text of `size` bytes."""
        if size > self.size or not self.size:
            self.size = size
            self.names = ctypes.create_string_buffer(size + 1)
            self.positions = (ctypes.c_uint16 * (size // 2 + 1))()
        return self


_room = _Room()


class _Positions(dict[bytes, int]):
    """Word -> its position among `names`, which grow as words are asked for."""

    __slots__ = ("names",)

    def __init__(self) -> None:
        self.names: list[bytes] = []

    def __missing__(self, word: bytes) -> int:
        # Digits come before letters and the underscore.
        is_name = len(word) >= _MIN_CHARS and word[0] > _NINE
        if not is_name or len(self.names) >= _MAX_IDENTIFIERS:
            self[word] = _NO_NAME
            return _NO_NAME
        position = self[word] = len(self.names)
        self.names.append(word)
        return position


def _ascii_windows(text: str) -> Iterator[list[bytes]]:
    lines = text.encode("ascii").translate(_WORDS).split(b"\n")
    for start in range(0, len(lines), CHUNK_LINES):
        yield b" ".join(lines[start : start + CHUNK_LINES]).split()


def _windows(text: str) -> Iterator[list[bytes]]:
    lines = text.split("\n")
    for start in range(0, len(lines), CHUNK_LINES):
        names = _IDENTIFIER.findall("\n".join(lines[start : start + CHUNK_LINES]))
        yield [name.encode("utf-8", "surrogatepass") for name in names]

"""Pieces of files on their way into a prompt: one definition at one level, or a run of lines.

Pieces of one file that stand together share its path line, so a signature costs little more than
its own tokens. Texts end with a line break: tokens then do not join across pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qcoder.context.languages import LANGUAGES
from qcoder.context.record import FileRecord, Symbol
from qcoder.context.segments import Level, PackedSegment, Segment, Span

_LEVEL_ORDER = (Level.PATH, Level.SIGNATURE, Level.DOCSTRING, Level.BODY)
_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of lines [start_line, end_line) of one file as it will be shown, and its worth."""

    path: str
    span: Span
    kind: str
    name: str
    level: Level
    text: str
    score: float
    reason: str


def render(segment: PackedSegment) -> str:
    """Exactly the text that goes into the prompt after the file separator: path line and text."""
    return f"{segment.segment.path}\n{segment.segment.text}"


def symbol_piece(
    record: FileRecord, symbol: Symbol, level: Level, score: float, reason: str
) -> Piece:
    """A definition by its signature, with the first paragraph of its docs where asked for."""
    language = record.facts.language
    depth = symbol.owner.count(".") + 1 if symbol.owner and language != "go" else 0
    indent = "    " * depth
    lines = [indent + symbol.signature]
    if level is Level.DOCSTRING and symbol.summary:
        spec = LANGUAGES.get(language)
        if spec is not None and spec.docs == "string":
            quoted = symbol.summary.replace("\\", " ").replace('"', "'")
            lines.append(f'{indent}    """{quoted}"""')
        else:
            lines.insert(0, f"{indent}{spec.line_comment if spec else '#'} {symbol.summary}")
    return Piece(
        record.path,
        Span(symbol.start_byte, symbol.end_byte, symbol.start_line, symbol.end_line),
        symbol.kind,
        symbol.name,
        level,
        "\n".join(lines) + "\n",
        score,
        reason,
    )


def lines_piece(
    path: str,
    text: str,
    lines: tuple[int, int],
    kind: str,
    name: str,
    score: float,
    reason: str,
) -> Piece | None:
    """Whole lines of a file, without blank ones at the ends; None when nothing is left."""
    starts = _line_starts(text)
    if lines[0] >= min(lines[1], len(starts)):
        return None
    begin = int(starts[lines[0]])
    stop = int(starts[lines[1]]) - 1 if lines[1] < len(starts) else len(text)
    rows = text[begin:stop].split("\n")
    skipped, end = 0, len(rows)
    while skipped < end and not rows[skipped].strip():
        begin += len(rows[skipped]) + 1
        skipped += 1
    while end > skipped and not rows[end - 1].strip():
        end -= 1
    if skipped >= end:
        return None
    rows, start = rows[skipped:end], lines[0] + skipped
    end = start + len(rows)
    shown = "\n".join(row.removesuffix("\r") for row in rows)
    first = _num_bytes(text[:begin])
    last = first + _num_bytes("\n".join(rows))
    span = Span(first, last, start, end)
    return Piece(path, span, kind, name, Level.BODY, shown + "\n", score, reason)


def merge(pieces: Sequence[Piece], tokens: int) -> PackedSegment:
    """One segment of pieces of one file, in file order; its reason is that of the best piece."""
    ordered = sorted(pieces, key=lambda piece: (piece.span.start_byte, piece.span.end_byte))
    best = max(ordered, key=lambda piece: (piece.score, -piece.span.start_byte))
    span = Span(
        ordered[0].span.start_byte,
        max(piece.span.end_byte for piece in ordered),
        ordered[0].span.start_line,
        max(piece.span.end_line for piece in ordered),
    )
    segment = Segment(
        best.path,
        span,
        best.kind if len(ordered) == 1 else "definitions",
        ", ".join(piece.name for piece in ordered if piece.name)[:_MAX_NAME_CHARS],
        "".join(piece.text for piece in ordered),
    )
    level = max((piece.level for piece in ordered), key=_LEVEL_ORDER.index)
    return PackedSegment(segment, level, tokens, best.reason)


@lru_cache(maxsize=64)
def _line_starts(text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Offsets of all lines; several pieces of a file are asked for one after the other."""
    lengths = np.fromiter(map(len, text.split("\n")), dtype=np.int64)
    return np.concatenate(([0], np.cumsum(lengths[:-1] + 1)))


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

"""A text with edits, and which edits leave a program of it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

from qcoder.lsp_server.snapshot import TextEdit

BYTE_ORDER_MARK = "\ufeff"


def applied(text: str, edits: Sequence[TextEdit]) -> str:
    """The text after the edits, which must not overlap; of two at one place the first comes first."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    parts, at = [], 0
    for e in sorted(edits, key=lambda e: (e.start_line, e.start_column)):
        begin = starts[e.start_line] + e.start_column
        parts += [text[at:begin], e.new_text]
        at = starts[e.end_line] + e.end_column
    return "".join([*parts, text[at:]])


def compiles(text: str) -> bool:
    """Whether a text is Python for the interpreter that runs this; nothing of it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.removeprefix(BYTE_ORDER_MARK))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def that_compile(text: str, edits: Sequence[TextEdit]) -> list[TextEdit]:
    """The edits after each of which Python still compiles; all where it did not before."""
    if not edits or not compiles(text):
        return list(edits)
    together = disjoint(edits)
    fine = together if compiles(applied(text, together)) else []
    return [edit for edit in edits if edit in fine or compiles(applied(text, [edit]))]


def disjoint(edits: Sequence[TextEdit]) -> list[TextEdit]:
    """Edits of which none overlaps another: of two that do, the one that begins first."""
    kept: list[TextEdit] = []
    end = (0, 0)
    for edit in sorted(edits, key=lambda e: (e.start_line, e.start_column)):
        if (edit.start_line, edit.start_column) >= end:
            kept.append(edit)
            end = (edit.end_line, edit.end_column)
    return kept

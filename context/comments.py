"""The documentation comment above a definition, without its markers."""

from __future__ import annotations

from collections.abc import Sequence

from qcoder.context.languages import LanguageSpec

_MAX_COMMENT_LINES = 80


def comment_above(lines: Sequence[bytes], row: int, spec: LanguageSpec) -> str | None:
    """Text of the comment that ends on the line before `row`; None when there is none.

    A blank line cuts the tie; attributes and decorators (`spec.transparent`) do not.
    """
    top, bottom = comment_rows(lines, row, spec)
    if top == bottom:
        return None
    rows = [line.decode("utf-8", "replace") for line in lines[top:bottom]]
    return _strip_markers(rows, spec)


def comment_rows(lines: Sequence[bytes], row: int, spec: LanguageSpec) -> tuple[int, int]:
    """First and last row, half-open, of the comment above `row`; the same twice for none."""
    row -= 1
    skipped = tuple(mark.encode() for mark in spec.transparent)
    while skipped and row >= 0 and lines[row].lstrip().startswith(skipped):
        row -= 1
    if row < 0:
        return 0, 0
    lowest = max(-1, row - _MAX_COMMENT_LINES)
    top = _block_comment(lines, row, lowest, spec)
    return (_line_comments(lines, row, lowest, spec) if top is None else top), row + 1


def _block_comment(lines: Sequence[bytes], row: int, lowest: int, spec: LanguageSpec) -> int | None:
    """First row of the block comment that ends at `row`."""
    if spec.block_comment is None:
        return None
    opening, closing = (mark.encode() for mark in spec.block_comment)
    if not lines[row].rstrip().endswith(closing):
        return None
    for top in range(row, lowest, -1):
        if lines[top].lstrip().startswith(opening):
            return top
        if opening in lines[top]:
            return None
    return None


def _line_comments(lines: Sequence[bytes], row: int, lowest: int, spec: LanguageSpec) -> int:
    """First row of the line comments that end at `row`; the row behind it for none."""
    mark = spec.line_comment.encode()
    top = row
    while top > lowest:
        line = lines[top].lstrip()
        if not line.startswith(mark) or line.startswith(b"#!"):
            break
        top -= 1
    return top + 1


def _strip_markers(rows: Sequence[str], spec: LanguageSpec) -> str | None:
    opening, closing = spec.block_comment or ("", "")
    kept = []
    for row in rows:
        line = row.strip()
        if opening and line.startswith(opening):
            line = line.removeprefix(opening).lstrip("*!")
        if closing and line.endswith(closing):
            line = line.removesuffix(closing).rstrip("*")
        if line.startswith(spec.line_comment):
            line = line[len(spec.line_comment) :].lstrip("/!#-").removeprefix(" |")
        elif opening == "/*":
            line = line.removeprefix("*")
        kept.append(line.removeprefix(" ").rstrip())
    return "\n".join(kept).strip("\n") or None

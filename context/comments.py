"""The documentation comment above a definition, without its markers."""

from __future__ import annotations

from collections.abc import Sequence

from qcoder.context.languages import LanguageSpec

_MAX_COMMENT_LINES = 80


def comment_above(lines: Sequence[bytes], row: int, spec: LanguageSpec) -> str | None:
    """Text of the comment that ends on the line before `row`; None when there is none.

    A blank line cuts the tie; attributes and decorators (`spec.transparent`) do not.
    """
    row -= 1
    skipped = tuple(mark.encode() for mark in spec.transparent)
    while skipped and row >= 0 and lines[row].lstrip().startswith(skipped):
        row -= 1
    if row < 0:
        return None
    lowest = max(-1, row - _MAX_COMMENT_LINES)
    rows = _block_comment(lines, row, lowest, spec) or _line_comments(lines, row, lowest, spec)
    if not rows:
        return None
    return _strip_markers([line.decode("utf-8", "replace") for line in rows], spec)


def _block_comment(
    lines: Sequence[bytes], row: int, lowest: int, spec: LanguageSpec
) -> Sequence[bytes]:
    if spec.block_comment is None:
        return ()
    opening, closing = (mark.encode() for mark in spec.block_comment)
    if not lines[row].rstrip().endswith(closing):
        return ()
    for top in range(row, lowest, -1):
        if lines[top].lstrip().startswith(opening):
            return lines[top : row + 1]
        if opening in lines[top]:
            return ()
    return ()


def _line_comments(
    lines: Sequence[bytes], row: int, lowest: int, spec: LanguageSpec
) -> Sequence[bytes]:
    mark = spec.line_comment.encode()
    top = row
    while top > lowest:
        line = lines[top].lstrip()
        if not line.startswith(mark) or line.startswith(b"#!"):
            break
        top -= 1
    return lines[top + 1 : row + 1]


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

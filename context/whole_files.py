"""Whole files chosen for a prompt, in the order in which they were chosen.

A file that another one repeats is a line that points there. Files are measured before they are
read, so that one that cannot fit costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from qcoder.context.costs import SEGMENT_SLACK, Costs
from qcoder.context.definitions import MAX_MISSES, MIN_TOKENS, Definitions
from qcoder.context.index import Index
from qcoder.context.languages import LANGUAGES
from qcoder.context.pieces import Piece, lines_piece
from qcoder.context.record import FileRecord
from qcoder.context.segments import Level, Span
from qcoder.context.view import View

# No tokenizer packs more than this many bytes into a token over a whole file.
_MAX_BYTES_PER_TOKEN = 8


class WholeFiles:
    """Chosen files by path, first chosen first."""

    def __init__(self, index: Index | None, costs: Costs, view: View) -> None:
        self.by_path: dict[str, Piece] = {}
        self._index = index
        self._costs = costs
        self._view = view

    def add(
        self, order: Iterable[tuple[str, str]], limit: int, replaces: tuple[Definitions, ...] = ()
    ) -> int:
        """Add files while they fit, in place of their definitions in `replaces`. Tokens used."""
        left, misses = limit, 0
        for path, reason in order:
            if left < MIN_TOKENS or misses >= MAX_MISSES:
                break
            record = self._index.record(path) if self._index is not None else None
            if record is None or path in self.by_path or path == self._view.path:
                continue
            if record.size > _MAX_BYTES_PER_TOKEN * left:
                misses += 1
                continue
            piece = self._piece(record, reason)
            if piece is None:
                continue
            cost = self._costs.of_file(piece) + SEGMENT_SLACK
            cost -= sum(chosen.cost_of(path) for chosen in replaces)
            if cost > left:
                misses += 1
                continue
            for chosen in replaces:
                chosen.by_path.pop(path, None)
            misses = 0
            self.by_path[path] = piece
            left -= cost
        return limit - left

    def drop_last(self) -> int:
        """Remove the file that was chosen last; its tokens."""
        _, piece = self.by_path.popitem()
        return self._costs.of_file(piece)

    def _piece(self, record: FileRecord, reason: str) -> Piece | None:
        text = self._view.text(record)
        if text is None:
            return None
        lines = (0, record.facts.lines)
        piece = lines_piece(record.path, text, lines, "file", "", 0.0, reason)
        if piece is None:
            return None
        first = self._view.file_with(piece.text)
        if first is None:
            self._view.show_file(record.path, piece.text)
            return piece
        return _pointer(record, piece.span, first, reason)


def _pointer(record: FileRecord, span: Span, first: str, reason: str) -> Piece:
    spec = LANGUAGES.get(record.facts.language)
    text = f"{spec.line_comment if spec else '#'} same as {first}\n"
    return Piece(record.path, span, "file", "", Level.PATH, text, 0.0, reason)

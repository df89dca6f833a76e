"""Definitions chosen for a prompt: signatures first, then docs and bodies of the best of them.

A method comes with the line of its class. Costs are estimates until the pieces of a file are joined
to a segment: a piece costs its own tokens, the first one of a file those of its path too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcoder.context.costs import Costs
from qcoder.context.pieces import Piece, lines_piece, symbol_piece
from qcoder.context.rank import ScoredSymbol
from qcoder.context.record import FileRecord, Symbol
from qcoder.context.segments import Level
from qcoder.context.view import View

MIN_TOKENS = 12
MAX_MISSES = 12
_UPGRADE_SCORE = 3.0
_BODY_SCORE = 10.0
_MAX_BODY_LINES = 200


class Definitions:
    """Chosen definitions, by path and by where they start."""

    def __init__(self, costs: Costs, view: View) -> None:
        self.by_path: dict[str, dict[int, Piece]] = {}
        self._costs = costs
        self._view = view

    def has(self, path: str, start_byte: int) -> bool:
        """Whether a definition is among them."""
        return start_byte in self.by_path.get(path, ())

    def add_signatures(
        self,
        symbols: Sequence[ScoredSymbol],
        limit: int,
        is_shown: Callable[[str, int], bool] | None = None,
    ) -> int:
        """Add signatures in order while they fit. Tokens used.

        `is_shown` says of a path and a start in bytes whether the prompt has the definition already.
        """
        left, misses = limit, 0
        for scored in symbols:
            if left < MIN_TOKENS or misses >= MAX_MISSES:
                break
            path, start = scored.record.path, scored.symbol.start_byte
            if self.has(path, start) or (is_shown is not None and is_shown(path, start)):
                continue
            group = self._group(scored)
            cost = sum(self._costs.of_piece(piece) for piece in group)
            if path not in self.by_path:
                cost += self._costs.of_header(path)
            if cost > left:
                misses += 1
                continue
            self.by_path.setdefault(path, {}).update((p.span.start_byte, p) for p in group)
            left -= cost
        return limit - left

    def upgrade(self, symbols: Sequence[ScoredSymbol], limit: int) -> int:
        """Show docs, then bodies, of the best chosen definitions while they fit. Tokens used."""
        left = limit
        by_score = sorted(
            (
                scored
                for scored in symbols
                if scored.score >= _UPGRADE_SCORE
                and self.has(scored.record.path, scored.symbol.start_byte)
            ),
            key=lambda s: (-s.score, s.record.path, s.symbol.start_byte),
        )
        for level in (Level.DOCSTRING, Level.BODY):
            misses = 0
            for scored in by_score:
                if left < MIN_TOKENS or misses >= MAX_MISSES:
                    break
                chosen = self.by_path[scored.record.path]
                before = chosen.get(scored.symbol.start_byte)
                after = self._at_level(scored, level) if before is not None else None
                if before is None or after is None:
                    continue
                cost = self._swap(chosen, before, after, left)
                misses += cost is None
                left -= cost or 0
        return limit - left

    def cost_of(self, path: str) -> int:
        """Tokens of what is chosen of a file."""
        own = self.by_path.get(path, {})
        cost = sum(self._costs.of_piece(piece) for piece in own.values())
        return cost + (self._costs.of_header(path) if own else 0)

    def leave_window(self) -> None:
        """Drop what the window shows, after it grew."""
        window = self._view.window
        own = self.by_path.get(self._view.path, {})
        for key, piece in list(own.items()):
            if window.start_line <= piece.span.start_line < window.end_line:
                del own[key]
        if not own:
            self.by_path.pop(self._view.path, None)

    def drop_least(self) -> int:
        """Remove the least worthy definition; its tokens."""
        path, key = min(
            ((path, key) for path, own in self.by_path.items() for key in own),
            key=lambda at: (self.by_path[at[0]][at[1]].score, at),
        )
        piece = self.by_path[path].pop(key)
        if not self.by_path[path]:
            del self.by_path[path]
        return self._costs.of_piece(piece)

    def _group(self, scored: ScoredSymbol) -> list[Piece]:
        """The signature, after that of its class when the class is not there yet."""
        record, symbol = scored.record, scored.symbol
        group = []
        for owner in self._owners_of(record, symbol):
            line = (owner.start_line, owner.start_line + 1)
            shown = self.has(record.path, owner.start_byte)
            if not shown and not self._view.in_window(record.path, line):
                group.append(
                    symbol_piece(record, owner, Level.SIGNATURE, scored.score / 2, scored.reason)
                )
        group.append(symbol_piece(record, symbol, Level.SIGNATURE, scored.score, scored.reason))
        return group

    def _owners_of(self, record: FileRecord, symbol: Symbol) -> list[Symbol]:
        """Definitions around one, outermost first."""
        if not symbol.owner:
            return []
        parts = symbol.owner.split(".")
        around = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
        return [
            owner
            for name in around
            for owner in record.facts.owners(name)
            if owner.start_byte < symbol.start_byte and symbol.end_byte <= owner.end_byte
        ]

    def _at_level(self, scored: ScoredSymbol, level: Level) -> Piece | None:
        record, symbol = scored.record, scored.symbol
        if level is Level.DOCSTRING:
            if not symbol.summary:
                return None
            return symbol_piece(record, symbol, level, scored.score, scored.reason)
        lines = (symbol.start_line, symbol.end_line)
        if scored.score < _BODY_SCORE or lines[1] - lines[0] > _MAX_BODY_LINES:
            return None
        text = None if self._view.in_window(record.path, lines) else self._view.text(record)
        if text is None:
            return None
        piece = lines_piece(
            record.path, text, lines, symbol.kind, symbol.name, scored.score, scored.reason
        )
        return None if piece is None or self._view.is_shown(piece.text) else piece

    def _swap(
        self, chosen: dict[int, Piece], before: Piece, after: Piece, limit: int
    ) -> int | None:
        """Put a fuller form in place of one and of what it contains; its cost, None over `limit`."""
        around, gone = before.span, [before]
        if after.level is Level.BODY:
            for piece in chosen.values():
                inside = around.start_byte <= piece.span.start_byte < around.end_byte
                outside = piece.span.start_byte <= around.start_byte < piece.span.end_byte
                if piece is not before and piece.level is Level.BODY and outside:
                    return 0
                if piece is not before and inside:
                    gone.append(piece)
        cost = self._costs.of_piece(after) - sum(self._costs.of_piece(piece) for piece in gone)
        if cost > limit:
            return None
        for piece in gone:
            del chosen[next(key for key, value in chosen.items() if value is piece)]
        chosen[around.start_byte] = after
        if after.level is Level.BODY:
            self._view.show(after.text)
        return cost

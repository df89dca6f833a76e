"""What pieces cost in tokens, counted once, and whether two of them are the same."""

from __future__ import annotations

import xxhash

from qcoder.context.pieces import Piece
from qcoder.context.segments import TokenCounter

SEGMENT_SLACK = 2
"""Special tokens around a segment, and tokens that join differently at its borders."""


class Costs:
    """Token counts of one packing; every text is counted once."""

    def __init__(self, count_tokens: TokenCounter) -> None:
        self._count = count_tokens
        self._known: dict[str, int] = {}

    def of(self, text: str) -> int:
        """Tokens of a text."""
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]

    def of_piece(self, piece: Piece) -> int:
        """Tokens of a piece without its header."""
        return self.of(piece.text)

    def of_file(self, piece: Piece) -> int:
        """Tokens of a piece that stands alone under its path, as it is rendered."""
        return self.of(f"{piece.path}\n{piece.text}")

    def of_header(self, path: str) -> int:
        """Tokens of the line that names a file, with the slack of a segment."""
        return self.of(path + "\n") + SEGMENT_SLACK


def meet(lines: tuple[int, int], others: tuple[int, int]) -> bool:
    """Whether two half-open line ranges share a line."""
    return lines[0] < others[1] and lines[1] > others[0]


def digest(text: str) -> bytes:
    """Equal for texts that differ in outer blanks only."""
    return xxhash.xxh3_128_digest(text.strip().encode("utf-8", "surrogatepass"))

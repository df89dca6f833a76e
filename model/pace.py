"""How long forward passes over many tokens take here, so that those nobody waits for stay short.

Work of a low priority is looked at between two passes: a completion that arrives meanwhile waits for
one of them at most.
"""

from __future__ import annotations

from dataclasses import dataclass

PIECE_S = 0.008
"""What a completion may wait for a pass that is under way; a tenth of what people notice."""

LEAST_TOKENS, MOST_TOKENS = 32, 256
STEP_TOKENS = 16
DRIFT = 0.2


@dataclass(slots=True)
class Pace:
    """Seconds a token of passes over at least `LEAST_TOKENS`; belongs to an engine."""

    seconds: float = PIECE_S / 64

    def took(self, tokens: int, seconds: float) -> None:
        """A pass over so many tokens."""
        if tokens < LEAST_TOKENS:
            return
        found = seconds / tokens
        # A pass that waited for a busy machine says little: the fast ones count most.
        self.seconds += (DRIFT if found > self.seconds else 3 * DRIFT) * (found - self.seconds)

    @property
    def tokens(self) -> int:
        """Of a pass that takes about `PIECE_S`, where so few tokens do not cost too much."""
        fitting = int(PIECE_S / self.seconds) // STEP_TOKENS * STEP_TOKENS
        return min(max(fitting, LEAST_TOKENS), MOST_TOKENS)

"""How long forward passes over many tokens take here, so that those nobody waits for stay short.

Work of a low priority is looked at between two passes: a completion that arrives meanwhile waits for
one of them at most.
"""

from __future__ import annotations

from dataclasses import dataclass

PIECE_S = 0.005
"""What a completion may wait for a pass that is under way."""

LEAST_TOKENS, SHORT_TOKENS, MOST_TOKENS = 32, 64, 256

CACHED_S = 0.0002
"""A token of a model whose weights stay in the processor's caches takes less than this."""

STEP_TOKENS = 16
DRIFT = 0.2


PARAMETER_S = 1.5e-11
"""A token's time a parameter that it uses, until it was measured."""


@dataclass(slots=True)
class Pace:
    """Seconds a token of passes over at least `LEAST_TOKENS`; belongs to an engine."""

    seconds: float

    def took(self, tokens: int, seconds: float) -> None:
        """A pass over so many tokens."""
        if tokens < LEAST_TOKENS:
            return
        found = seconds / tokens
        # A pass that waited for a busy machine says little: the fast ones count most.
        self.seconds += (DRIFT if found > self.seconds else 3 * DRIFT) * (found - self.seconds)

    @staticmethod
    def guessed(active_parameters: int) -> Pace:
        """Before anything was measured."""
        return Pace(PARAMETER_S * active_parameters)

    @property
    def tokens(self) -> int:
        """Of a pass that takes about `PIECE_S`, where so few tokens do not cost too much."""
        fitting = int(PIECE_S / max(self.seconds, 1e-9)) // STEP_TOKENS * STEP_TOKENS
        return min(max(fitting, LEAST_TOKENS), MOST_TOKENS)

    @property
    def urgent_tokens(self) -> int:
        """Of a pass that somebody waits for: short ones take longer together, unless weights are near."""
        return SHORT_TOKENS if self.seconds < CACHED_S else MOST_TOKENS

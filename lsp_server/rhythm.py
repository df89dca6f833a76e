"""How fast somebody types in a document, and so how long a pause says that they have stopped.

A completion is computed when the user is likely to look at it. In a new line that is at once; inside
a word it is after a pause longer than the usual gap between two keys, less the time that the answer
takes anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

USUAL_GAP_S = 0.18
PAUSE_S = 1.0
"""A gap from here on is no part of the rhythm."""

SHARE = 0.2
"""How much the latest gap counts."""

MAX_WAIT_S = 0.3
IN_WORD, BEHIND_WORD = 1.5, 1.0
"""How many usual gaps are a pause, inside a word and behind any other character."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The edits of one document so far; times are monotonic seconds."""

    gap_s: float = USUAL_GAP_S
    edited_at: float | None = None

    def edited(self, now: float) -> Rhythm:
        """After one more edit."""
        gap_s = self.gap_s
        if self.edited_at is not None and 0 < now - self.edited_at < PAUSE_S:
            gap_s += SHARE * (now - self.edited_at - gap_s)
        return replace(self, gap_s=gap_s, edited_at=now)

    def wait_s(self, now: float, before_cursor: str, least_s: float, answer_s: float) -> float:
        """Seconds from now until a completion behind `before_cursor`, the line so far, is due.

        `least_s` is the user's setting; 0 never waits. A request that comes late by itself, because
        the editor waits too, waits only for what is left. `answer_s` is how long an answer takes.
        """
        if self.edited_at is None or least_s <= 0:
            return 0.0
        pause_s = least_s
        if before_cursor.strip():
            in_word = before_cursor[-1].isalnum() or before_cursor[-1] == "_"
            gaps = IN_WORD if in_word else BEHIND_WORD
            pause_s = max(least_s, min(MAX_WAIT_S, gaps * self.gap_s - answer_s))
        return max(0.0, self.edited_at + pause_s - now)

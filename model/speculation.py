"""Speculative decoding: drafts from text that was seen before, checked several tokens at a time.

The network reads its weights once for a draft of a few tokens as for one token. Every token is still
sampled from the distribution that plain decoding would sample from; where it is the draft's, the next
distribution is known already (Leviathan et al., arXiv 2211.17192, with a draft that is certain: nothing
has to be corrected). Forward passes give the same bits for one token and for many, so the output is that
of plain decoding, random numbers included.

How long a draft is follows what drafts of its kind and passes of its length did on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from qcoder.model.decoder import Pass
from qcoder.model.ngram import LONGEST_DRAFT, Draft

DRIFT = 0.1
"""Weight of a new observation."""

GAIN = 1.1
"""A draft has to promise so many times the tokens a second of a plain step."""

KINDS = (2, 3, 4, 6, 9, 13, 32)
"""Lengths of matches that are told apart: a long match is more often right."""


@dataclass(slots=True)
class Experience:
    """What drafts brought and passes cost so far; belongs to an engine."""

    seconds: dict[int, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    drafted: int = 0
    accepted: int = 0

    def took(self, tokens: int, seconds: float) -> None:
        """A pass over so many tokens."""
        known = self.seconds.get(tokens)
        # A pass that waited for a busy machine says nothing: the fastest count most.
        drift = DRIFT if known is None or seconds > known else 3 * DRIFT
        self.seconds[tokens] = seconds if known is None else known + drift * (seconds - known)

    def judged(self, matched: int, accepted: bool) -> None:
        """Whether a drafted token was the one that was sampled."""
        self.drafted += 1
        self.accepted += accepted
        kind = _kind(matched)
        self.rates[kind] = (1 - DRIFT) * self.rate(matched) + DRIFT * accepted

    def rate(self, matched: int) -> float:
        """Share of drafted tokens that were right, behind matches of that length."""
        kind = _kind(matched)
        return self.rates.get(kind, 1 - 0.7 / (kind + 1))

    def cost(self, tokens: int) -> float:
        """Seconds of a pass; for lengths that were never tried, by their neighbours."""
        if tokens in self.seconds or not self.seconds:
            return self.seconds.get(tokens, 1.0)
        shorter = max((n for n in self.seconds if n < tokens), default=1)
        return self.seconds.get(shorter, 1.0) * (1 + 0.15 * (tokens - shorter))

    def length(self, matched: int, most: int) -> int:
        """How many tokens of a draft to check: those that promise the most tokens a second."""
        rate, best, best_gain = self.rate(matched), 0, GAIN
        expected, likely = 1.0, 1.0
        for count in range(1, min(most, LONGEST_DRAFT) + 1):
            likely *= rate
            expected += likely
            gain = expected * self.cost(1) / self.cost(1 + count)
            if gain > best_gain:
                best, best_gain = count, gain
        return best


def _kind(matched: int) -> int:
    return max((kind for kind in KINDS if kind <= matched), default=0)


class Stepper:
    """The logits behind one token after the other, some of them computed ahead."""

    __slots__ = ("_ahead", "_draft", "_experience", "_matched", "_sequence")

    def __init__(
        self, sequence: Any, experience: Experience, draft: Callable[[], Draft] | None
    ) -> None:
        """Without `draft`: plain steps, whose time is nobody's experience."""
        self._sequence, self._experience, self._draft = sequence, experience, draft
        self._ahead: list[tuple[int, Tensor]] = []
        self._matched = 0

    def after(self, token: int, room: int) -> Generator[Pass, Tensor | None, Tensor | None]:
        """Logits [vocab] of what follows `token`; `room` is how many more tokens may come.

        None where the pass was not computed: nobody wants it.
        """
        if self._ahead:
            expected, logits = self._ahead.pop(0)
            right = token == expected
            self._experience.judged(self._matched, right)
            if right:
                return logits
            # The wrong token and all behind it were computed in vain.
            self._sequence.truncate(len(self._sequence) - len(self._ahead) - 1)
            self._ahead = []
        ids = self._drafted(token, room)
        began = time.perf_counter()
        rows = yield Pass(ids, self._sequence, len(ids))
        if rows is None:
            return None
        if self._draft is not None:
            self._experience.took(len(ids), time.perf_counter() - began)
        self._ahead = list(zip(ids[1:], rows[1:], strict=True))
        first: Tensor = rows[0]
        return first

    def _drafted(self, token: int, room: int) -> list[int]:
        """The token, and a draft of what follows where it pays."""
        if self._draft is None or room < 2 or 1 not in self._experience.seconds:
            return [token]
        draft = self._draft()
        count = self._experience.length(draft.matched, min(len(draft.ids), room - 1))
        self._matched = draft.matched
        return [token, *draft.ids[:count]]

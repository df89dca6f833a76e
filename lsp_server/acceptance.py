"""What becomes of suggestions, read from the edits that follow: the same in every editor.

The protocol has no message for "shown" or "accepted". But an edit that makes the document what the
suggestion would make it has accepted it, one that inserts a longer beginning of it at once has accepted
a part, and any other ends it. Accepted text is looked for again after a while. Lives on the event loop.
"""

from __future__ import annotations

import difflib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from qcoder.lsp_server.completion_cache import Place
from qcoder.lsp_server.snapshot import Suggestion
from qcoder.lsp_server.usage import CHECKED_S, Usage

SEEN_S = 0.25
"""Who types on sooner has not seen it."""

WHOLE_JUMP, PART_JUMP = 2, 3
"""Characters that come in one edit when somebody accepts; a key brings one, or a pair."""

RETAINED_SHARE = 0.5
MAX_FOLLOWED = 64
MAX_COMPARED = 1000
MIN_PIECE = 3
RECENT, ENOUGH = 50, 10
CLOSERS = ")]}\"'`>"

Rows = Callable[[str], Sequence[str] | None]
Later = Callable[[float, Callable[[], None]], object]


@dataclass(slots=True, eq=False)
class _Shown:
    """A suggestion on the screen, with its alternatives: texts by what the document becomes.

    `length` is that of the document now.
    """

    place: Place
    choices: dict[str, str]
    at: float
    length: int
    partly: bool = False

    def goes_on(self, document: str) -> bool:
        """Whether the document is on its way: a beginning of a text, and closers of pairs."""
        head, tail = self.place.head, self.place.tail
        if len(document) < len(head) + len(tail):
            return False
        if not document.startswith(head) or not document.endswith(tail):
            return False
        typed = document[len(head) : len(document) - len(tail)]
        begun = (typed, typed.rstrip(CLOSERS))
        return any(text.startswith(begun) for text in self.choices.values())


@dataclass(slots=True, eq=False)
class _Accepted:
    """Accepted text and the rows [row, row + rows) where it is now."""

    text: str
    row: int
    rows: int


class Acceptance:
    """The suggestions of one session. `rows` gives a document's rows, `later` calls after seconds."""

    def __init__(
        self, usage: Usage, rows: Rows, later: Later, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._usage, self._rows, self._later, self._clock = usage, rows, later, clock
        self._shown: dict[str, _Shown] = {}
        self._accepted: dict[str, list[_Accepted]] = {}
        self._changed: deque[float] = deque(maxlen=RECENT)

    @property
    def rewritten(self) -> float | None:
        """Share of what was accepted lately that was changed soon after; None while too few were."""
        return sum(self._changed) / len(self._changed) if len(self._changed) >= ENOUGH else None

    def shown(self, uri: str, place: Place, suggestions: Sequence[Suggestion]) -> None:
        """Suggestions went to the editor; the rest of one that is there already is no new one."""
        choices = {}
        for suggestion in suggestions:
            covered = suggestion.edit.end_column - suggestion.edit.start_column
            choices[place.head + suggestion.text + place.tail[covered:]] = suggestion.text
        old = self._shown.get(uri)
        if old is not None and next(iter(choices)) in old.choices:
            return
        self._end(uri)
        length = len(place.head) + len(place.tail)
        self._shown[uri] = _Shown(place, choices, self._clock(), length)
        self._usage.add("shown")

    def moved(self, uri: str, start_row: int, end_row: int, new_rows: int) -> None:
        """An edit put `new_rows` line breaks in the place of rows start to end (0-based)."""
        grown = new_rows - (end_row - start_row)
        for accepted in self._accepted.get(uri, ()):
            if end_row < accepted.row:
                accepted.row += grown
            elif start_row < accepted.row + accepted.rows:
                accepted.row = min(accepted.row, start_row)
                accepted.rows = max(1, accepted.rows + grown)

    def changed(self, uri: str, document: str) -> None:
        """The document's text after an edit; `moved` was told of the edit before."""
        shown = self._shown.get(uri)
        if shown is None:
            return
        jump, shown.length = len(document) - shown.length, len(document)
        if document in shown.choices:
            del self._shown[uri]
            self._completed(uri, shown, shown.choices[document], jump)
        elif not shown.goes_on(document):
            self._end(uri)
        elif jump >= PART_JUMP:
            shown.partly = True
            self._usage.add("accepted_characters", jump)

    def forget(self, uri: str) -> None:
        """A document was closed."""
        self._end(uri)
        self._accepted.pop(uri, None)

    def _completed(self, uri: str, shown: _Shown, text: str, jump: int) -> None:
        self._usage.add("seen")
        if jump < WHOLE_JUMP and not shown.partly:
            self._usage.add("typed")
            return
        self._usage.add("accepted")
        self._usage.add("accepted_characters", max(jump, 0))
        self._follow(uri, _Accepted(text, shown.place.line, text.count("\n") + 1))

    def _end(self, uri: str) -> None:
        """The suggestion is gone: a part of it was taken, or nothing."""
        shown = self._shown.pop(uri, None)
        if shown is None:
            return
        if shown.partly:
            self._usage.add("seen")
            self._usage.add("partially_accepted")
        elif self._clock() - shown.at >= SEEN_S:
            self._usage.add("seen")
            self._usage.add("rejected")

    def _follow(self, uri: str, accepted: _Accepted) -> None:
        followed = self._accepted.setdefault(uri, [])
        if len(followed) >= MAX_FOLLOWED:
            return
        followed.append(accepted)
        for seconds in CHECKED_S:
            self._later(seconds, partial(self._check, uri, accepted, seconds))

    def _check(self, uri: str, accepted: _Accepted, seconds: int) -> None:
        followed, rows = self._accepted.get(uri, []), self._rows(uri)
        if accepted not in followed or rows is None:
            return  # closed: nobody knows
        there = "".join(rows[accepted.row : accepted.row + accepted.rows + 1])
        kept = share_kept(accepted.text, there.replace("\r", ""))
        self._usage.add(f"checked_{seconds}")
        self._usage.add(f"retained_{seconds}", kept >= RETAINED_SHARE)
        self._usage.add(f"unchanged_{seconds}", kept >= 1)
        self._usage.add(f"changed_{seconds}", round(1 - kept, 3))
        if seconds == CHECKED_S[0]:
            self._changed.append(1 - kept)
        if seconds == CHECKED_S[-1]:
            followed.remove(accepted)


def share_kept(text: str, there: str) -> float:
    """How much of a text is still in another, from 0 to 1, in pieces of several characters."""
    text = text.strip()[:MAX_COMPARED]
    if text in there:
        return 1.0
    matcher = difflib.SequenceMatcher(None, text, there[: 2 * MAX_COMPARED], autojunk=False)
    kept = sum(m.size for m in matcher.get_matching_blocks() if m.size >= MIN_PIECE)
    return min(kept / len(text), 0.999)

"""Suggestions that were computed before, for keystrokes that then need no engine.

An entry says: between these two texts this suggestion belongs. While the user types what it
suggests, the rest of it still leads to the same document, which was checked when it was computed;
so it can be shown again without asking, as long as that document has no syntax error: otherwise it
might have one that the text so far has not. The same holds where an editor closes a bracket that
the suggestion closes too. That there is nothing to suggest at a place is an entry as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, replace

from qcoder.lsp_server.snapshot import Suggestion, TextEdit

ENTRIES_A_DOCUMENT = 64
SEVERAL = 2
"""The effort from which on a place has several entries; see `Ask.effort`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cursor: the document's text before and behind it, and its 0-based position."""

    head: str
    tail: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Found:
    """What the cache knows of a place; None: that nothing is worth showing there.

    `others` are the alternatives that somebody has asked for.
    """

    suggestion: Suggestion | None
    others: tuple[Suggestion, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One answer. Of the texts around it only lengths and hashes are kept."""

    basis: Hashable
    effort: int
    head_length: int
    head_hash: int
    tail_length: int
    tail_hash: int
    suggestion: Suggestion | None

    def at(self, place: Place) -> Found | None:
        """What this answer means for a place, if anything."""
        most = len(self.suggestion.text) if self.suggestion else 0
        typed = len(place.head) - self.head_length
        covered = len(place.tail) - self.tail_length
        if not (0 <= typed <= most and 0 <= covered <= most):
            return None
        shown = rest_of(self.suggestion, place, self.head_length, covered)
        if shown is None:
            return None
        # The dear part: what is far from the cursor.
        same = hash(place.head[: self.head_length]) == self.head_hash
        return shown if same and hash(place.tail[covered:]) == self.tail_hash else None


class CompletionCache:
    """The latest answers of each open document. `basis` is all that they depend on but the text."""

    def __init__(self) -> None:
        self._entries: dict[str, deque[_Entry]] = {}

    def find(self, uri: str, place: Place, basis: Hashable, effort: int) -> Found | None:
        """The latest answer for a place that cost at least `effort`.

        Who asks for several gets all that are known.
        """
        found = (
            answer
            for entry in self._entries.get(uri, ())
            if entry.basis == basis and entry.effort >= effort
            if (answer := entry.at(place)) is not None
        )
        first = next(found, None)
        if effort < SEVERAL or first is None or first.suggestion is None:
            return first
        others = {s.text: s for one in found if (s := one.suggestion) is not None}
        others.pop(first.suggestion.text, None)
        return Found(first.suggestion, tuple(others.values()))

    def put(
        self, uri: str, place: Place, basis: Hashable, effort: int, suggestion: Suggestion | None
    ) -> None:
        """Remember an answer; of several the best comes last."""
        edit = suggestion.edit if suggestion else None
        tail = place.tail[edit.end_column - edit.start_column :] if edit else place.tail
        if suggestion is not None:
            # What was packed may be far longer than all else here.
            slim = replace(suggestion.context, segments=())
            suggestion = replace(suggestion, context=slim)
        entry = _Entry(
            basis, effort, len(place.head), hash(place.head), len(tail), hash(tail), suggestion
        )
        entries = self._entries.setdefault(uri, deque(maxlen=ENTRIES_A_DOCUMENT))
        entries.appendleft(entry)

    def forget(self, uri: str) -> None:
        """Drop the answers of a document."""
        self._entries.pop(uri, None)


def place_at(text: str, line: int, column: int) -> Place | None:
    """The place at a 0-based position; None when the text does not have it."""
    if line < 0 or column < 0:
        return None
    start = 0
    for _ in range(line):
        start = text.find("\n", start) + 1
        if start == 0:
            return None
    end = text.find("\n", start)
    at = start + column
    if at > (len(text) if end < 0 else end):
        return None
    return Place(text[:at], text[at:], line, column)


def rest_of(
    suggestion: Suggestion | None, place: Place, head_length: int, covered: int
) -> Found | None:
    """What is left of a suggestion that was made behind `head_length` characters.

    `covered` characters behind the cursor have come in since then: they go where the rest of the
    suggestion brings them along.
    """
    typed, behind = place.head[head_length:], place.tail[:covered]
    if suggestion is None:
        return None if typed or behind else Found(None)
    rest = suggestion.text[len(typed) :]
    edit = suggestion.edit
    moved = bool(typed) or covered != edit.end_column - edit.start_column
    if moved and suggestion.errors:
        return None
    if not rest or not suggestion.text.startswith(typed):
        return None
    if not rest.endswith(behind) or "\n" in behind:
        return None
    edit = TextEdit(place.line, place.column, place.line, place.column + covered, rest)
    return Found(replace(suggestion, text=rest, edit=edit))

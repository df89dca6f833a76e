"""Ghost text while the editor's own completion menu is open: it goes on behind the chosen entry.

The editor shows only what begins with that entry. So the completion is made for the document as it
would be with the entry taken, and given back with the missing part of the entry in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lsprotocol import types
from pygls.workspace import PositionCodec

from qcoder.lsp_server import convert
from qcoder.lsp_server.completion_cache import place_at
from qcoder.lsp_server.snapshot import Snapshot, Suggestion


def missing_part(
    codec: PositionCodec,
    rows: Sequence[str],
    position: types.Position,
    chosen: types.SelectedCompletionInfo | None,
) -> str:
    """What taking the entry would add at the cursor; empty where it would do anything else."""
    if chosen is None or chosen.range.end != position or chosen.range.start.line != position.line:
        return ""
    line, column = convert.from_position(codec, rows, position)
    _, start = convert.from_position(codec, rows, chosen.range.start)
    typed = rows[line][start:column] if line < len(rows) else ""
    if "\n" in chosen.text or not chosen.text.startswith(typed):
        return ""
    return chosen.text[len(typed) :]


def taken(snapshot: Snapshot, line: int, column: int, part: str) -> Snapshot:
    """The snapshot with `part` at a 0-based position; itself where there is no such position."""
    place = place_at(snapshot.document.text, line, column)
    if not part or place is None:
        return snapshot
    document = replace(snapshot.document, text=place.head + part + place.tail)
    return replace(snapshot, document=document)


def given_back(suggestion: Suggestion, part: str) -> Suggestion:
    """A suggestion for the document without `part`."""
    if not part:
        return suggestion
    edit = suggestion.edit
    same_line = edit.end_line == edit.start_line
    edit = replace(
        edit,
        start_column=edit.start_column - len(part),
        end_column=edit.end_column - len(part) * same_line,
        new_text=part + edit.new_text,
    )
    return replace(suggestion, text=part + suggestion.text, edit=edit)

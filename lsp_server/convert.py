"""Our types to the protocol's and back: the only place that knows both."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lsprotocol import types
from pygls import uris
from pygls.workspace import PositionCodec

from qcoder.lsp_server.documents import column_of, rows_of
from qcoder.lsp_server.snapshot import Finding, Suggestion, TextEdit

LABEL_CHARACTERS = 80
PAIRS = frozenset({"()", "[]", "{}", '""', "''", "``"})
TYPED_WORD = re.compile(r"\w*\Z")
SEVERITY = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "info": types.DiagnosticSeverity.Information,
    "hint": types.DiagnosticSeverity.Hint,
}


def path_of(uri: str) -> Path | None:
    """Path of a file, or the bare name of a buffer that was never saved; None for all else."""
    if uri.startswith("untitled:"):
        return Path(uri.removeprefix("untitled:").rpartition("/")[2] or "untitled")
    found = uris.to_fs_path(uri) if uri.startswith("file:") else None
    try:
        usable = bool(found) and b"\0" not in os.fsencode(found or "")
    except UnicodeEncodeError:
        return None
    return Path(found) if found and usable else None


def to_position(
    codec: PositionCodec, rows: Sequence[str], line: int, column: int
) -> types.Position:
    """Client position of a 0-based line and code point column."""
    row = rows[line] if line < len(rows) else ""
    return types.Position(line, codec.client_num_units(row[:column]))


def from_position(
    codec: PositionCodec, rows: Sequence[str], position: types.Position
) -> tuple[int, int]:
    """0-based line and code point column of a client position, kept inside the line."""
    if position.line >= len(rows):
        return position.line, 0
    row = rows[position.line].rstrip("\r\n")
    return position.line, column_of(row, position.character, codec)


def cursor_after(
    codec: PositionCodec, change: types.TextDocumentContentChangeEvent
) -> types.Position | None:
    """Where the cursor stands after an edit, as far as one can know; None for a whole text.

    Behind what was inserted, but between the two halves of a pair that the editor completed.
    """
    if not isinstance(change, types.TextDocumentContentChangePartial):
        return None
    *above, last = rows_of(change.text[:1] if change.text in PAIRS else change.text)
    start, units = change.range.start, codec.client_num_units(last)
    if above:
        return types.Position(start.line + len(above), units)
    return types.Position(start.line, start.character + units)


def to_edit(codec: PositionCodec, rows: Sequence[str], edit: TextEdit) -> types.TextEdit:
    """A text edit in client positions."""
    return types.TextEdit(
        types.Range(
            to_position(codec, rows, edit.start_line, edit.start_column),
            to_position(codec, rows, edit.end_line, edit.end_column),
        ),
        edit.new_text,
    )


def to_inline_item(
    codec: PositionCodec, rows: Sequence[str], suggestion: Suggestion
) -> types.InlineCompletionItem:
    """Ghost text."""
    edit = to_edit(codec, rows, suggestion.edit)
    return types.InlineCompletionItem(insert_text=edit.new_text, range=edit.range)


def to_completion_item(
    codec: PositionCodec,
    rows: Sequence[str],
    suggestion: Suggestion,
    mode: types.InsertTextMode | None = None,
) -> types.CompletionItem:
    """The same suggestion for clients without ghost text; `mode` as `insert_mode` has it.

    It replaces the word at the cursor by itself and what follows: clients compare that word with
    the item's text and hide what does not begin with it.
    """
    edit = suggestion.edit
    row = rows[edit.start_line] if edit.start_line < len(rows) else ""
    found = TYPED_WORD.search(row[: edit.start_column])
    word = found.group() if found else ""
    edit = replace(edit, start_column=edit.start_column - len(word), new_text=word + edit.new_text)
    text = edit.new_text.strip()
    return types.CompletionItem(
        label=text.split("\n")[0][:LABEL_CHARACTERS],
        kind=types.CompletionItemKind.Text,
        detail="qcoder",
        text_edit=to_edit(codec, rows, edit),
        filter_text=text,
        sort_text="~",
        insert_text_mode=mode,
    )


def insert_mode(client: types.ClientCapabilities) -> types.InsertTextMode | None:
    """How a client is told to insert an entry: the lines of ours are indented already."""
    completion = client.text_document.completion if client.text_document else None
    item = completion.completion_item if completion else None
    known = item.insert_text_mode_support if item else None
    as_is = types.InsertTextMode.AsIs
    return as_is if known is not None and as_is in known.value_set else None


def to_diagnostic(codec: PositionCodec, rows: Sequence[str], finding: Finding) -> types.Diagnostic:
    """A finding as the editor shows it."""
    return types.Diagnostic(
        range=types.Range(
            to_position(codec, rows, finding.line, finding.column),
            to_position(codec, rows, finding.end_line, finding.end_column),
        ),
        message=finding.message,
        severity=SEVERITY[finding.severity],
        code=finding.rule,
        source="qcoder",
    )

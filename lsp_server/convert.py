"""Our types to the protocol's and back: the only place that knows both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsprotocol import types
from pygls import uris
from pygls.workspace import PositionCodec

from qcoder.lsp_server.snapshot import Finding, Suggestion, TextEdit

SEVERITY = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "info": types.DiagnosticSeverity.Information,
    "hint": types.DiagnosticSeverity.Hint,
}


def path_of(uri: str) -> Path | None:
    """Path of a file URI; None for other schemes."""
    found = uris.to_fs_path(uri) if uri.startswith("file:") else None
    return Path(found) if found else None


def to_position(
    codec: PositionCodec, lines: Sequence[str], line: int, column: int
) -> types.Position:
    """Client position of a 0-based line and code point column."""
    row = lines[line] if line < len(lines) else ""
    return types.Position(line, codec.client_num_units(row[:column]))


def from_position(
    codec: PositionCodec, lines: Sequence[str], position: types.Position
) -> tuple[int, int]:
    """0-based line and code point column of a client position, kept inside the line."""
    if position.line >= len(lines):
        return position.line, 0
    row = lines[position.line].rstrip("\r\n")
    units, column = position.character, 0
    while column < len(row) and units > 0:
        units -= codec.client_num_units(row[column])
        column += 1
    return position.line, column


def to_edit(codec: PositionCodec, lines: Sequence[str], edit: TextEdit) -> types.TextEdit:
    """A text edit in client positions."""
    return types.TextEdit(
        types.Range(
            to_position(codec, lines, edit.start_line, edit.start_column),
            to_position(codec, lines, edit.end_line, edit.end_column),
        ),
        edit.new_text,
    )


def to_inline_item(
    codec: PositionCodec, lines: Sequence[str], suggestion: Suggestion
) -> types.InlineCompletionItem:
    """Ghost text."""
    edit = to_edit(codec, lines, suggestion.edit)
    return types.InlineCompletionItem(insert_text=edit.new_text, range=edit.range)


def to_completion_item(
    codec: PositionCodec, lines: Sequence[str], suggestion: Suggestion
) -> types.CompletionItem:
    """The same suggestion for clients without ghost text."""
    edit = to_edit(codec, lines, suggestion.edit)
    return types.CompletionItem(
        label=suggestion.text.strip().split("\n")[0][:80],
        kind=types.CompletionItemKind.Text,
        detail="qcoder",
        text_edit=edit,
        filter_text=suggestion.text.strip(),
        sort_text="~",
    )


def to_diagnostic(codec: PositionCodec, lines: Sequence[str], finding: Finding) -> types.Diagnostic:
    """A finding as the editor shows it."""
    return types.Diagnostic(
        range=types.Range(
            to_position(codec, lines, finding.line, finding.column),
            to_position(codec, lines, finding.end_line, finding.end_column),
        ),
        message=finding.message,
        severity=SEVERITY[finding.severity],
        code=finding.rule,
        source="qcoder",
    )

"""Text documents that split lines where the protocol does, and nowhere else.

pygls splits with `str.splitlines`, which also breaks at form feeds, U+2028 and others, so edits
after such a character land on the wrong line. The protocol knows \\n, \\r\\n and \\r only. An edit
here replaces the rows that it touches; the whole text is joined only when somebody reads it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from urllib.parse import unquote

from lsprotocol import types
from pygls.workspace import PositionCodec, TextDocument, Workspace

logger = logging.getLogger(__name__)

Place = tuple[int, int]
"""0-based row and code point column."""


def rows_of(text: str) -> list[str]:
    """Rows with their line ends; the last one has none and may be empty."""
    rows = io.StringIO(text, newline="").readlines()
    if not rows or rows[-1][-1] in "\r\n":
        rows.append("")
    return rows


def splice(rows: list[str], start: Place, end: Place, text: str) -> None:
    """Replace the text between two places, in place, so that `rows` stay what `rows_of` gives."""
    first, last = start[0], end[0]
    joined = rows[first][: start[1]] + text + rows[last][end[1] :]
    if first and joined.startswith("\n") and rows[first - 1].endswith("\r"):
        first -= 1  # the edit made one line end out of two characters
        joined = rows[first] + joined
    fresh = rows_of(joined)
    if last + 1 < len(rows):
        fresh.pop()
    rows[first : last + 1] = fresh


def place_of(rows: Sequence[str], position: types.Position, codec: PositionCodec) -> Place:
    """Where a client position is; beyond a row or the text means its end."""
    if position.line >= len(rows):
        return len(rows) - 1, len(rows[-1])
    return position.line, column_of(rows[position.line].rstrip("\r\n"), position.character, codec)


def column_of(row: str, units: int, codec: PositionCodec) -> int:
    """Code points in the first `units` code units of a row; a character cut in two stays out."""
    if codec.encoding == types.PositionEncodingKind.Utf32 or row.isascii():
        return min(units, len(row))
    for column, character in enumerate(row):
        units -= codec.client_num_units(character)
        if units < 0:
            return column
    return len(row)


def normalized(text: str) -> str:
    """The text with every line end as \\n, and without halves of surrogate pairs.

    Line numbers and columns stay what they were, and every reader can encode the result.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


class ProtocolTextDocument(TextDocument):
    """A pygls document with the protocol's idea of lines."""

    _rows: list[str] | None = None
    _plain: str | None = None

    @property
    def lines(self) -> list[str]:
        """Rows with their ends, as `rows_of` gives them; not to be changed by the caller."""
        if self._rows is None:
            self._rows = rows_of(self.source)
        return self._rows

    @property
    def source(self) -> str:
        """The whole text; joined once a version. Never read from the disk."""
        if self._source is None:
            self._source = "".join(self._rows or ())
        return self._source

    @property
    def plain(self) -> str:
        """The text as tasks read it, `normalized`; once a version."""
        if self._plain is None:
            self._plain = normalized(self.source)
        return self._plain

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """Apply one change of a `didChange`: a range, or the whole text."""
        self._plain = None
        if isinstance(change, types.TextDocumentContentChangePartial):
            rows, codec = self.lines, self.position_codec
            places = (place_of(rows, p, codec) for p in (change.range.start, change.range.end))
            start, end = sorted(places)
            splice(rows, start, end, change.text)
            self._source = None
        else:
            self._source, self._rows = change.text, None


class ProtocolWorkspace(Workspace):
    """A pygls workspace of such documents."""

    @staticmethod
    def replacing(old: Workspace, folders: Sequence[types.WorkspaceFolder]) -> ProtocolWorkspace:
        """A workspace in the place of the one that pygls made at `initialize`."""
        return ProtocolWorkspace(
            old.root_uri, types.TextDocumentSyncKind.Incremental, folders, old.position_encoding
        )

    def update_text_document(
        self,
        text_doc: types.VersionedTextDocumentIdentifier,
        change: types.TextDocumentContentChangeEvent,
    ) -> None:
        """Apply a change; one to a document that is not open is a log line."""
        if unquote(text_doc.uri) in self._text_documents:
            super().update_text_document(text_doc, change)
        else:
            logger.warning("didChange for a document that is not open is ignored")

    def _create_text_document(
        self,
        doc_uri: str,
        source: str | None = None,
        version: int | None = None,
        language_id: str | None = None,
    ) -> TextDocument:
        return ProtocolTextDocument(
            doc_uri,
            source=source or "",
            version=version,
            language_id=language_id,
            sync_kind=self._sync_kind,
            position_codec=self._position_codec,
        )


def open_document(workspace: Workspace, uri: str) -> ProtocolTextDocument | None:
    """The document if it is open; pygls keeps documents under their unquoted URIs."""
    found = workspace.text_documents.get(unquote(uri))
    return found if isinstance(found, ProtocolTextDocument) else None

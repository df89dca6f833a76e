"""Notebooks as one document a language: a cell is completed with the cells before and after it.

A notebook's code cells of one language, one below the other, are a document of their own, under the
notebook's URI. Only the edge knows cells: positions are moved by the lines above a cell on the way in
and back on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lsprotocol import types
from pygls.workspace import Workspace

from qcoder.lsp_server.documents import open_document
from qcoder.lsp_server.snapshot import Snapshot, Suggestion, TextEdit

SYNC = types.NotebookDocumentSyncOptions([types.NotebookDocumentFilterWithNotebook(notebook="*")])
"""All notebooks, all cells."""


@dataclass(frozen=True, slots=True)
class Spot:
    """What a request for a document or a cell is about.

    `rows` are the client's own; its line 0 is line `first_line` of the snapshot's document.
    """

    snapshot: Snapshot
    rows: Sequence[str]
    first_line: int = 0

    def moved(self, suggestion: Suggestion) -> Suggestion:
        """A suggestion in the client's lines."""
        if not self.first_line:
            return suggestion
        edit = suggestion.edit
        up = self.first_line
        edit = TextEdit(
            edit.start_line - up,
            edit.start_column,
            edit.end_line - up,
            edit.end_column,
            edit.new_text,
        )
        return replace(suggestion, edit=edit)


@dataclass(frozen=True, slots=True)
class Joined:
    """The cells of a notebook that belong together, and where one of them begins."""

    uri: str
    version: int
    text: str
    language: str
    first_line: int


def joined(workspace: Workspace, cell_uri: str) -> Joined | None:
    """A cell with those of its language around it; None for what is no code cell."""
    notebook = workspace.get_notebook_document(cell_uri=cell_uri)
    cell = open_document(workspace, cell_uri)
    if notebook is None or cell is None:
        return None
    texts, first_line, found = [], 0, False
    for other in notebook.cells:
        document = open_document(workspace, other.document)
        if document is None or other.kind != types.NotebookCellKind.Code:
            continue
        if document.language_id != cell.language_id:
            continue
        if document is cell:
            found = True
        elif not found:
            first_line += document.plain.count("\n") + 1
        texts.append(document.plain)
    if not found:
        return None
    language = cell.language_id or ""
    return Joined(notebook.uri, notebook.version, "\n".join(texts), language, first_line)

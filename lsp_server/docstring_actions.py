"""Docstrings in the editor: what is offered at a line, and the edit behind an offer.

The offers are computed beside the engine, from the snapshot alone; the edit is made when one is
chosen, in the engine's thread. A document that changed meanwhile gets no edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsprotocol import types

from qcoder.lsp_server import convert, jobs, protocol
from qcoder.lsp_server.docstring import docstring_edits, shapes_of
from qcoder.lsp_server.docstring_drift import drift_of
from qcoder.lsp_server.docstring_python import MODULE
from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot, is_refused
from qcoder.lsp_server.work_progress import WorkProgress
from qcoder.model.request import CancelToken, Priority

DOCSTRING_TITLE = "Generate docstring"
UPDATE_TITLE = "Update docstring"
FILE_TITLE = "Document this file"
FILE_KIND = "source.documentFile"
KINDS = (types.CodeActionKind.RefactorRewrite, FILE_KIND)
FEWEST_FOR_FILE = 2
"""Undocumented definitions from which on the whole file is offered."""


def docstring_actions(
    snapshot: Snapshot, line: int, only: Sequence[str] | None
) -> list[types.CodeAction]:
    """What can be done about documentation at a 0-based line; `only` are kinds that are wanted."""
    if is_refused(snapshot):
        return []
    document = snapshot.document
    shapes = [s for s in shapes_of(document, snapshot.path) if s.symbol != MODULE]
    found = []
    here = next((s for s in reversed(shapes) if is_at(s, line)), None)
    rewrite = types.CodeActionKind.RefactorRewrite
    if here is not None and wants(only, rewrite):
        data: dict[str, Any] = {"uri": document.uri, "line": here.line}
        if not here.documented:
            found.append(types.CodeAction(f"{DOCSTRING_TITLE} for {here.name}", rewrite, data=data))
        elif drift_of(here, document.language):
            title = f"{UPDATE_TITLE} of {here.name}"
            found.append(types.CodeAction(title, rewrite, data={**data, "update": True}))
    bare = sum(s.public and not s.documented for s in shapes)
    if bare >= FEWEST_FOR_FILE and wants(only, FILE_KIND):
        data = {"uri": document.uri, "line": None}
        found.append(types.CodeAction(f"{FILE_TITLE} ({bare} definitions)", FILE_KIND, data=data))
    return found


def applied_by_server(action: types.CodeAction) -> types.CodeAction:
    """The same offer for a client that cannot ask for its edit: a command that has it applied."""
    data = action.data
    if not isinstance(data, dict) or action.edit is not None:
        return action
    arguments = [data.get("uri"), data.get("line")]
    command = types.Command(action.title, protocol.COMMAND_DOCSTRING, arguments=arguments)
    return types.CodeAction(action.title, action.kind, command=command)


def is_at(shape: Shape, line: int) -> bool:
    """Whether a line belongs to the head of a definition or to its docstring."""
    there = shape.existing
    in_docstring = there is not None and there.line <= line <= there.end_line
    return in_docstring or shape.span[0] <= line <= shape.line


def wants(only: Sequence[str] | None, kind: str) -> bool:
    """Whether a client that asks for some kinds takes this one; a kind includes those below it."""
    return only is None or any(kind == k or kind.startswith(f"{k}.") for k in only if k)


async def docstring_edit(
    ls: QcoderServer, uri: str, line: int | None, update: bool = False
) -> types.WorkspaceEdit | None:
    """The edit for the definition at a 0-based line, or for all public ones of the file (None)."""
    snapshot, engine = ls.snapshot(uri), ls.session.engine
    if snapshot is None:
        return None
    key = ("docstring", uri)
    thread = ls.session.engine_thread
    progress = WorkProgress(ls, "qcoder: writing docstrings", lambda: thread.cancel(key))

    def work(token: CancelToken) -> list[DocstringEdit]:
        return docstring_edits(
            snapshot, engine, line=line, cancel=token, update=update, progress=progress.report
        )

    ls.session.activity.begin("docstring", "writing a docstring")
    try:
        found = await jobs.attempt(thread, key, Priority.EDIT, work)
    finally:
        ls.session.activity.end("docstring")
        progress.end()
    document = ls.snapshot(uri)
    if not found or document is None or document.document.version != snapshot.document.version:
        return None
    codec, rows = ls.workspace.position_codec, ls.rows(uri) or []
    edits = [convert.to_edit(codec, rows, e.edit) for e in found]
    return types.WorkspaceEdit(changes={uri: edits})

"""Handlers of requests: thin, asynchronous, exactly one answer each.

A handler takes a snapshot, queues work and awaits it; no logic lives here. A superseded or failed
request gets null.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from lsprotocol import types

from qcoder.context.parse import outline
from qcoder.lsp_server import convert, diagnostics, jobs, protocol
from qcoder.lsp_server.completion import complete
from qcoder.lsp_server.diagnostics import register_diagnostics
from qcoder.lsp_server.docstring import docstring_edits
from qcoder.lsp_server.lifecycle import (
    asked,
    register_documents,
    register_files,
    register_lifecycle,
)
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot, Suggestion
from qcoder.model.request import CancelToken, Priority

DOCSTRING_TITLE = "Generate docstring"


def make_server(config: str | None = None) -> QcoderServer:
    """A server with all handlers registered."""
    server = QcoderServer(config)
    register_lifecycle(server)
    register_documents(server)
    register_files(server)
    register_completion(server)
    register_diagnostics(server)
    register_actions(server)
    register_commands(server)
    return server


def register_completion(server: QcoderServer) -> None:
    """Ghost text, and the completion list for clients without it."""

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline(
        ls: QcoderServer, params: types.InlineCompletionParams
    ) -> types.InlineCompletionList | None:
        uri = params.text_document.uri
        invoked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
        if not invoked and not await settled(ls, uri):
            return None
        suggestion = await suggest(ls, uri, params.position, invoked)
        rows = ls.rows(uri)
        if suggestion is None or rows is None:
            return None
        codec = ls.workspace.position_codec
        return types.InlineCompletionList([convert.to_inline_item(codec, rows, suggestion)])

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions())
    async def completion(
        ls: QcoderServer, params: types.CompletionParams
    ) -> types.CompletionList | None:
        text = ls.client_capabilities.text_document
        if text is not None and text.inline_completion is not None:
            return None
        uri = params.text_document.uri
        suggestion = await suggest(ls, uri, params.position, True)
        rows = ls.rows(uri)
        if suggestion is None or rows is None:
            return None
        item = convert.to_completion_item(ls.workspace.position_codec, rows, suggestion)
        return types.CompletionList(is_incomplete=True, items=[item])


def register_actions(server: QcoderServer) -> None:
    """The docstring code action."""

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(
            code_action_kinds=[types.CodeActionKind.RefactorRewrite], resolve_provider=True
        ),
    )
    async def code_action(
        ls: QcoderServer, params: types.CodeActionParams
    ) -> list[types.CodeAction] | None:
        snapshot = ls.snapshot(params.text_document.uri)
        if snapshot is None:
            return None
        line = params.range.start.line

        def work(_: CancelToken) -> types.CodeAction | None:
            return docstring_action(snapshot, line)

        key = ("actions", snapshot.document.uri)
        action = await jobs.attempt(ls.session.rules_thread, key, Priority.EDIT, work)
        return [action] if action is not None else None

    @server.feature(types.CODE_ACTION_RESOLVE)
    async def resolve(ls: QcoderServer, action: types.CodeAction) -> types.CodeAction:
        data = action.data
        # Neovim also resolves actions that carry no data.
        if isinstance(data, dict):
            uri, line = data.get("uri"), data.get("line")
            if isinstance(uri, str) and isinstance(line, int):
                action.edit = await docstring_edit(ls, uri, line)
        return action


def register_commands(server: QcoderServer) -> None:
    """Commands, and the ping."""

    @server.command(protocol.COMMAND_DOCSTRING)
    async def generate_docstring(ls: QcoderServer, uri: str, line: int) -> bool:
        edit = await docstring_edit(ls, uri, line)
        if edit is None:
            return False
        wanted = types.ApplyWorkspaceEditParams(edit, DOCSTRING_TITLE)
        answer = await asked(ls.workspace_apply_edit_async(wanted))
        return bool(answer is not None and answer.applied)

    @server.command(protocol.COMMAND_REVIEW)
    def review_file(ls: QcoderServer, uri: str) -> None:
        diagnostics.review_again(ls, uri)

    @server.command(protocol.COMMAND_REINDEX)
    def reindex(ls: QcoderServer) -> None:
        ls.session.reindex()

    @server.command(protocol.COMMAND_RESTART)
    def restart(ls: QcoderServer) -> None:
        ls.session.restart_engine()

    @server.feature(protocol.PING)
    def ping(ls: QcoderServer, params: Any) -> None:
        return None


async def settled(ls: QcoderServer, uri: str) -> bool:
    """Wait while the user types in a burst; False when a newer request has come."""
    wait = ls.session.settings.completion.debounce_ms / 1000
    now = time.monotonic()
    before, ls.last_inline[uri] = ls.last_inline.get(uri, 0.0), now
    if now - before < wait:
        await asyncio.sleep(wait)
    return ls.last_inline[uri] == now


async def suggest(
    ls: QcoderServer, uri: str, position: types.Position, invoked: bool
) -> Suggestion | None:
    """Run a completion job; a newer one of the document supersedes it."""
    snapshot, engine, rows = ls.snapshot(uri), ls.session.engine, ls.rows(uri)
    if snapshot is None or engine is None or rows is None:
        return None
    if not snapshot.settings.completion.enabled:
        return None
    line, column = convert.from_position(ls.workspace.position_codec, rows, position)

    def work(token: CancelToken) -> Suggestion | None:
        return complete(snapshot, line, column, engine, invoked=invoked, cancel=token)

    key = ("completion", uri)
    return await jobs.attempt(ls.session.engine_thread, key, Priority.COMPLETION, work)


def docstring_action(snapshot: Snapshot, line: int) -> types.CodeAction | None:
    """The action for the definition whose head is at a 0-based line and has no docstring."""
    document = snapshot.document
    for definition in outline(document.text, document.language):
        bare = definition.docstring is None and definition.body_span is not None
        if bare and definition.span.start_line <= line <= definition.line:
            return types.CodeAction(
                f"{DOCSTRING_TITLE} for {definition.name}",
                kind=types.CodeActionKind.RefactorRewrite,
                data={"uri": document.uri, "line": definition.line},
            )
    return None


async def docstring_edit(ls: QcoderServer, uri: str, line: int) -> types.WorkspaceEdit | None:
    """The edit that gives the symbol at a 0-based line its docstring."""
    snapshot, engine = ls.snapshot(uri), ls.session.engine
    if snapshot is None:
        return None

    def work(token: CancelToken) -> list[DocstringEdit]:
        return docstring_edits(snapshot, engine, line=line, cancel=token)

    end = ls.session.begin("docstring", "writing a docstring")
    try:
        found = await jobs.attempt(
            ls.session.engine_thread, ("docstring", uri), Priority.EDIT, work
        )
    finally:
        end()
    document = ls.snapshot(uri)
    if not found or document is None or document.document.version != snapshot.document.version:
        return None
    codec, rows = ls.workspace.position_codec, ls.rows(uri) or []
    return types.WorkspaceEdit(changes={uri: [convert.to_edit(codec, rows, found[0].edit)]})

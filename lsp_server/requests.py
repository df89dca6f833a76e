"""Handlers of requests: thin, asynchronous, exactly one answer each.

A handler takes a snapshot, queues work and awaits it; no logic lives here. A superseded or failed
request gets null.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from lsprotocol import types

from qcoder.context.parse import outline
from qcoder.lsp_server import convert, jobs, protocol
from qcoder.lsp_server.lifecycle import register_documents, register_lifecycle
from qcoder.lsp_server.server import QcoderServer
from qcoder.model.request import CancelToken, Priority

logger = logging.getLogger(__name__)

DOCSTRING_TITLE = "Generate docstring"


def make_server(config: str | None = None) -> QcoderServer:
    """A server with all handlers registered."""
    server = QcoderServer(config)
    register_lifecycle(server)
    register_documents(server)
    register_completion(server)
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
        suggestion = await guarded(ls.suggest(uri, params.position, "inline", invoked))
        if suggestion is None or uri not in ls.workspace.text_documents:
            return None
        codec, lines = ls.workspace.position_codec, ls.lines(uri)
        return types.InlineCompletionList([convert.to_inline_item(codec, lines, suggestion)])

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions())
    async def completion(
        ls: QcoderServer, params: types.CompletionParams
    ) -> types.CompletionList | None:
        text = ls.client_capabilities.text_document
        if text is not None and text.inline_completion is not None:
            return None
        uri = params.text_document.uri
        suggestion = await guarded(ls.suggest(uri, params.position, "completion", True))
        if suggestion is None or uri not in ls.workspace.text_documents:
            return None
        item = convert.to_completion_item(ls.workspace.position_codec, ls.lines(uri), suggestion)
        return types.CompletionList(is_incomplete=True, items=[item])


def register_actions(server: QcoderServer) -> None:
    """The docstring code action."""

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(
            code_action_kinds=[types.CodeActionKind.RefactorRewrite], resolve_provider=True
        ),
    )
    def code_action(
        ls: QcoderServer, params: types.CodeActionParams
    ) -> list[types.CodeAction] | None:
        snapshot = ls.snapshot(params.text_document.uri)
        if snapshot is None:
            return None
        line = params.range.start.line
        for definition in outline(snapshot.document.text, snapshot.document.language):
            bare = definition.docstring is None and definition.body_span is not None
            if bare and definition.span.start_line <= line <= definition.line:
                data = {"uri": snapshot.document.uri, "line": definition.line}
                return [
                    types.CodeAction(
                        f"{DOCSTRING_TITLE} for {definition.name}",
                        kind=types.CodeActionKind.RefactorRewrite,
                        data=data,
                    )
                ]
        return None

    @server.feature(types.CODE_ACTION_RESOLVE)
    async def resolve(ls: QcoderServer, action: types.CodeAction) -> types.CodeAction:
        data = action.data
        # Neovim also resolves actions that carry no data.
        if isinstance(data, dict) and isinstance(data.get("uri"), str):
            action.edit = await guarded(docstring_edit(ls, data["uri"], int(data.get("line", 0))))
        return action


def register_commands(server: QcoderServer) -> None:
    """Commands, and the ping."""

    @server.command(protocol.COMMAND_DOCSTRING)
    async def generate_docstring(ls: QcoderServer, uri: str, line: int) -> bool:
        edit = await guarded(docstring_edit(ls, uri, line))
        if edit is None:
            return False
        await asyncio.shield(
            ls.workspace_apply_edit_async(types.ApplyWorkspaceEditParams(edit, DOCSTRING_TITLE))
        )
        return True

    @server.command(protocol.COMMAND_REVIEW)
    def review_file(ls: QcoderServer, uri: str) -> None:
        ls.review(uri, with_model=True)

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


async def docstring_edit(ls: QcoderServer, uri: str, line: int) -> types.WorkspaceEdit | None:
    """The edit that gives the symbol at a 0-based line its docstring."""
    from qcoder.lsp_server.docstring import docstring_edits

    snapshot, engine = ls.snapshot(uri), ls.session.engine
    if snapshot is None:
        return None

    def work(token: CancelToken) -> Any:
        return docstring_edits(snapshot, engine, line=line, cancel=token)

    found = await jobs.run(ls.session.engine_thread, ("docstring", uri), Priority.EDIT, work)
    if not found or uri not in ls.workspace.text_documents:
        return None
    codec, lines = ls.workspace.position_codec, ls.lines(uri)
    edits = [convert.to_edit(codec, lines, item.edit) for item in found[:1]]
    return types.WorkspaceEdit(changes={uri: edits})


async def guarded(work: Any) -> Any:
    """Await `work`; what fails is one log line and None, cancellation passes."""
    try:
        return await work
    except Exception as error:  # the handler's boundary
        logger.error("request failed: %s: %s", type(error).__name__, error)
        logger.debug("request failed", exc_info=True)
        return None

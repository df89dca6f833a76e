"""Handlers of requests: thin, asynchronous, exactly one answer each.

A handler takes a snapshot, queues work and awaits it; no logic lives here. A superseded or failed
request gets null, one for which there is nothing to show an empty list.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lsprotocol import types

from qcoder.lsp_server import convert, diagnostics, jobs, protocol, review_actions
from qcoder.lsp_server.assist_actions import KIND as ASSIST_KIND
from qcoder.lsp_server.assist_actions import assist_actions, register_assistance
from qcoder.lsp_server.completion_cache import place_at
from qcoder.lsp_server.diagnostics import register_diagnostics
from qcoder.lsp_server.docstring_actions import (
    DOCSTRING_TITLE,
    KINDS,
    applied_by_server,
    docstring_actions,
    docstring_edit,
)
from qcoder.lsp_server.lifecycle import (
    asked,
    register_documents,
    register_files,
    register_lifecycle,
    register_notebooks,
)
from qcoder.lsp_server.menu_choice import given_back, missing_part, taken
from qcoder.lsp_server.review_changes import register_review_changes
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import Suggestion
from qcoder.lsp_server.usage import DAYS, summed
from qcoder.lsp_server.usage_store import read as read_usage
from qcoder.lsp_server.usage_store import usage_path
from qcoder.model.adapted import listed_models
from qcoder.model.request import CancelToken, Priority

logger = logging.getLogger(__name__)

MENU_TRIGGERS = ".([="
"""Behind these a menu opens by itself in clients without ghost text; in words it does anyway."""


def make_server(config: str | None = None) -> QcoderServer:
    """A server with all handlers registered."""
    server = QcoderServer(config)
    register_lifecycle(server)
    register_documents(server)
    register_notebooks(server)
    register_files(server)
    register_completion(server)
    register_diagnostics(server)
    register_actions(server)
    register_commands(server)
    register_questions(server)
    register_assistance(server)
    register_review_changes(server)
    return server


def register_completion(server: QcoderServer) -> None:
    """Ghost text, and the completion list for clients without it."""

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline(
        ls: QcoderServer, params: types.InlineCompletionParams
    ) -> types.InlineCompletionList | None:
        invoked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
        uri, position = params.text_document.uri, params.position
        part = missing_part(
            ls.workspace.position_codec,
            ls.rows(uri) or (),
            position,
            params.context.selected_completion_info,
        )
        answer = await suggest(ls, uri, position, invoked, invoked, part)
        if answer is None:
            return None
        codec = ls.workspace.position_codec
        return types.InlineCompletionList(
            [convert.to_inline_item(codec, answer.rows, s) for s in answer.suggestions]
        )

    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION,
        types.CompletionOptions(trigger_characters=[*MENU_TRIGGERS]),
    )
    async def completion(
        ls: QcoderServer, params: types.CompletionParams
    ) -> types.CompletionList | None:
        if not fills_menu(ls):
            return None
        answer = await suggest(ls, params.text_document.uri, params.position, True)
        if answer is None:
            return None
        codec, mode = ls.workspace.position_codec, convert.insert_mode(ls.client_capabilities)
        items = [
            convert.to_completion_item(codec, answer.rows, s, mode) for s in answer.suggestions
        ]
        return types.CompletionList(is_incomplete=True, items=items)


def fills_menu(ls: QcoderServer) -> bool:
    """Whether suggestions go into the completion menu: if nobody says, where there is no ghost text."""
    wanted = ls.session.settings.completion.menu
    if wanted != "auto":
        return wanted == "always"
    text = ls.client_capabilities.text_document
    return text is None or text.inline_completion is None


def resolves_actions(ls: QcoderServer) -> bool:
    """Whether the client asks for the edit of an action; of one that says nothing it is assumed."""
    text = ls.client_capabilities.text_document
    actions = text.code_action if text is not None else None
    return actions is None or actions.resolve_support is not None


def register_actions(server: QcoderServer) -> None:
    """Code actions: about documentation, and about the findings of the review."""

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(
            code_action_kinds=[*KINDS, review_actions.KIND, ASSIST_KIND], resolve_provider=True
        ),
    )
    async def code_action(
        ls: QcoderServer, params: types.CodeActionParams
    ) -> list[types.CodeAction] | None:
        uri = params.text_document.uri
        snapshot, rows = ls.snapshot(uri), ls.rows(uri)
        if snapshot is None or rows is None:
            return None
        line, only, engine = params.range.start.line, params.context.only, ls.session.engine
        resolves = resolves_actions(ls)
        lines, codec = (line, params.range.end.line), ls.workspace.position_codec

        def work(_: CancelToken) -> list[types.CodeAction]:
            found = review_actions.review_actions(snapshot, codec, rows, lines, only)
            offers = docstring_actions(snapshot, line, only)
            found += offers if resolves else map(applied_by_server, offers)
            return found + assist_actions(snapshot, engine, lines, only)

        key = ("actions", snapshot.document.uri)
        return await jobs.attempt(ls.session.rules_thread, key, Priority.EDIT, work) or None

    @server.feature(types.CODE_ACTION_RESOLVE)
    async def resolve(ls: QcoderServer, action: types.CodeAction) -> types.CodeAction:
        data = action.data
        # Neovim also resolves actions that carry no data.
        if isinstance(data, dict):
            uri, line = data.get("uri"), data.get("line")
            if isinstance(uri, str) and "line" in data and isinstance(line, int | None):
                action.edit = await docstring_edit(ls, uri, line, data.get("update") is True)
        return action


def register_commands(server: QcoderServer) -> None:
    """What clients run by name."""

    @server.command(protocol.COMMAND_DOCSTRING)
    async def generate_docstring(ls: QcoderServer, uri: str, line: int | None) -> bool:
        edit = await docstring_edit(ls, uri, line, update=True)
        if edit is None:
            return False
        wanted = types.ApplyWorkspaceEditParams(edit, DOCSTRING_TITLE)
        answer = await asked(ls.workspace_apply_edit_async(wanted))
        return bool(answer is not None and answer.applied)

    @server.command(protocol.COMMAND_REVIEW)
    def review_file(ls: QcoderServer, uri: str) -> None:
        diagnostics.review_again(ls, uri)

    @server.command(protocol.COMMAND_EXPLAIN_RULE)
    def explain_rule(ls: QcoderServer, rule: str) -> None:
        text = review_actions.explanation(rule)
        if text is not None:
            message = types.ShowMessageParams(types.MessageType.Info, text)
            ls.window_show_message(message)

    @server.command(protocol.COMMAND_REINDEX)
    def reindex(ls: QcoderServer) -> None:
        ls.session.reindex()

    @server.command(protocol.COMMAND_RESTART)
    def restart(ls: QcoderServer) -> None:
        ls.session.restart_engine()


def register_questions(server: QcoderServer) -> None:
    """Questions about the server itself."""

    @server.feature(protocol.PING)
    def ping(ls: QcoderServer, params: Any) -> None:
        return None

    @server.feature(protocol.COUNTS)
    def counts(ls: QcoderServer, params: Any) -> dict[str, int]:
        return ls.completions.counts()

    @server.feature(protocol.EXPLAIN_LAST)
    def explain_last(ls: QcoderServer, params: Any) -> dict[str, Any]:
        uri = getattr(params, "uri", None)
        told = ls.completions.explain(uri if isinstance(uri, str) else None)
        return {"status": dataclasses.asdict(ls.session.activity.status()), **told}

    @server.feature(protocol.STATISTICS)
    def statistics(ls: QcoderServer, params: Any) -> dict[str, float | None]:
        ls.keep_usage()
        days = getattr(params, "days", None)
        return summed(read_usage(usage_path()), days if isinstance(days, int) else DAYS)

    @server.feature(protocol.MODELS)
    def models(ls: QcoderServer, params: Any) -> dict[str, Any]:
        rows = [{"name": row.name, "description": row.description} for row in listed_models()]
        return {"current": ls.session.settings.model.name, "models": rows}


@dataclass(frozen=True, slots=True)
class Answer:
    """Suggestions, best first, and the rows of the document that they belong to."""

    suggestions: tuple[Suggestion, ...]
    rows: Sequence[str]


async def suggest(
    ls: QcoderServer,
    uri: str,
    position: types.Position,
    invoked: bool,
    several: bool = False,
    part: str = "",
) -> Answer | None:
    """What to show at a position; with alternatives where `several` are wanted.

    `part` of a menu's entry counts as if it stood at the cursor; the suggestions begin with it.
    None when the question is out of date: a client that keeps what it shows then does right. No
    suggestions when there is nothing to show.
    """
    spot, engine = ls.spot(uri), ls.session.engine
    if spot is None or engine is None or not spot.snapshot.settings.completion.enabled:
        return None
    snapshot = spot.snapshot
    line, column = convert.from_position(ls.workspace.position_codec, spot.rows, position)
    line += spot.first_line
    seen = taken(snapshot, line, column, part)
    try:
        found = await ls.completions.suggest(
            seen, line, column + len(part), engine, invoked, several
        )
    except Exception as error:  # the handler's boundary; cancellation passes
        logger.error("completion failed: %s: %s", type(error).__name__, error)
        logger.debug("completion failed", exc_info=True)
        return None
    now = ls.spot(uri)
    if found is None or now is None or now.snapshot.document.version != snapshot.document.version:
        return None
    shown = (found.suggestion, *found.others) if found.suggestion else ()
    shown = tuple(given_back(suggestion, part) for suggestion in shown)
    place = place_at(snapshot.document.text, line, column)
    if shown and place is not None:
        ls.acceptance.shown(snapshot.document.uri, place, shown)
    return Answer(tuple(map(spot.moved, shown)), now.rows)

"""Explanations and tests in the editor: offered where the model follows instructions, else not there.

A test becomes a new file by an edit that the client shows. Whether it runs is a question to the user,
asked once it is written, and only in a workspace that the user trusts: running it runs their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsprotocol import types

from qcoder.lsp_server import jobs, protocol
from qcoder.lsp_server.asking import Asked, chat_template
from qcoder.lsp_server.assistance import (
    RUNNABLE,
    TESTS,
    Draft,
    Outcome,
    definition_at,
    drafted,
    explained,
    run_test,
)
from qcoder.lsp_server.docstring_actions import wants
from qcoder.lsp_server.lifecycle import asked as answered
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import Snapshot, is_refused
from qcoder.lsp_server.work_progress import WorkProgress
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, Priority

KIND = "refactor.qcoder"
RUN = "Run it"


def assist_actions(
    snapshot: Snapshot, engine: Engine | None, lines: tuple[int, int], only: Sequence[str] | None
) -> list[types.CodeAction]:
    """What can be asked about the 0-based lines from the first to the last, included."""
    if engine is None or not wants(only, KIND) or is_refused(snapshot):
        return []
    document = snapshot.document
    definition = definition_at(document, lines[0])
    if definition is None or chat_template(engine) is None:
        return []
    span = (definition.span.start_line, definition.span.end_line - 1)
    if lines[1] > lines[0]:  # a selection is meant as it is
        span = lines
    title = f"Explain {definition.name}" if span != lines else "Explain the selection"
    offers = [(title, protocol.COMMAND_EXPLAIN_CODE, [document.uri, *span])]
    if document.language in TESTS:
        title = f"Write a test for {definition.name}"
        offers.append((title, protocol.COMMAND_TEST, [document.uri, lines[0]]))
    return [
        types.CodeAction(title, KIND, command=types.Command(title, name, arguments=list(arguments)))
        for title, name, arguments in offers
    ]


def register_assistance(server: QcoderServer) -> None:
    """The commands behind the actions."""

    @server.command(protocol.COMMAND_EXPLAIN_CODE)
    async def explain_code(ls: QcoderServer, uri: str, first: int, last: int) -> str:
        snapshot = ls.snapshot(uri)
        if snapshot is None:
            return ""
        text = await of_model(
            ls, uri, "explaining", lambda to: explained(to, snapshot, first, last)
        )
        say(ls, text or "The model has no answer.", good=bool(text))
        return text or ""

    @server.command(protocol.COMMAND_TEST)
    async def write_test(ls: QcoderServer, uri: str, line: int) -> bool:
        snapshot = ls.snapshot(uri)
        definition = definition_at(snapshot.document, line) if snapshot is not None else None
        if snapshot is None or definition is None or snapshot.root is None:
            return False
        draft = await of_model(
            ls, uri, "writing a test", lambda to: drafted(to, snapshot, definition)
        )
        if draft is None:
            say(ls, f"The model wrote no test of {definition.name} that is code.", good=False)
            return False
        target = snapshot.root / draft.path
        wanted = types.ApplyWorkspaceEditParams(
            new_file(target.as_uri(), draft.text), f"Test for {definition.name}"
        )
        answer = await answered(ls.workspace_apply_edit_async(wanted))
        if answer is None or not answer.applied:
            return False
        if ls.trusted and draft.language in RUNNABLE:
            await offer_run(ls, draft, snapshot)
        return True


async def of_model(ls: QcoderServer, uri: str, title: str, work: Any) -> Any:
    """What `work` makes of the model, in the engine's thread; None without a model that is asked."""
    engine = ls.session.engine
    template = chat_template(engine) if engine is not None else None
    snapshot = ls.snapshot(uri)
    if engine is None or template is None or snapshot is None or is_refused(snapshot):
        return None
    thread, key = ls.session.engine_thread, ("assistance", uri)

    def job(token: CancelToken) -> Any:
        return work(Asked(engine, template, "review", Priority.EDIT, token))

    progress = WorkProgress(ls, f"qcoder: {title}", lambda: thread.cancel(key))
    try:
        return await jobs.attempt(thread, key, Priority.EDIT, job)
    finally:
        progress.end()


async def offer_run(ls: QcoderServer, draft: Draft, snapshot: Snapshot) -> None:
    """Ask whether the new test is to run, and say how it went."""
    question = types.ShowMessageRequestParams(
        types.MessageType.Info,
        f"{draft.path} was written by the model. Read it; then it can run, which runs your code.",
        [types.MessageActionItem(RUN)],
    )
    chosen = await answered(ls.window_show_message_request_async(question))
    root = snapshot.root
    if chosen is None or chosen.title != RUN or root is None:
        return

    def work(_: CancelToken) -> Outcome:
        return run_test(draft, root)

    thread, key = ls.session.rules_thread, ("test", draft.path)
    outcome = await jobs.attempt(thread, key, Priority.BACKGROUND, work)
    if outcome is not None:
        verdict = "passes" if outcome.passed else "fails"
        say(ls, f"{draft.path} {verdict}.\n{outcome.output}", good=outcome.passed)


def new_file(uri: str, text: str) -> types.WorkspaceEdit:
    """The edit that makes a file; a file that is there already refuses it."""
    start = types.Position(0, 0)
    insert = types.TextEdit(types.Range(start, start), text)
    return types.WorkspaceEdit(
        document_changes=[
            types.CreateFile(uri, options=types.CreateFileOptions(overwrite=False)),
            types.TextDocumentEdit(
                types.OptionalVersionedTextDocumentIdentifier(uri, None), [insert]
            ),
        ]
    )


def say(ls: QcoderServer, text: str, good: bool) -> None:
    """Show a message."""
    kind = types.MessageType.Info if good else types.MessageType.Warning
    ls.window_show_message(types.ShowMessageParams(kind, text))

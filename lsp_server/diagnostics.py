"""Findings in the editor: when a review is due, and how it gets there.

A review is due when a document is opened or saved, when somebody asks, when the settings of
reviews change, and, of the rules alone, when typing pauses: half a statement is no fault yet. Clients that pull, and can be told to pull again, get
the rules' findings when they ask, the same ones until the next review is due; others are sent them.
The model's hints take longer and are always sent; a client that pulls is sent them alone, because
it shows what it pulled and what it was sent side by side.
"""

from __future__ import annotations

from lsprotocol import types

from qcoder.lsp_server import convert, jobs
from qcoder.lsp_server.changes import lines_since_head
from qcoder.lsp_server.documents import open_document
from qcoder.lsp_server.review import review_by_model, review_document
from qcoder.lsp_server.server import QcoderServer
from qcoder.lsp_server.snapshot import Finding, Snapshot
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, Priority

TYPING_PAUSE_S = 0.6
"""After so long without a key the rules look again."""

Full = types.RelatedFullDocumentDiagnosticReport
Unchanged = types.RelatedUnchangedDocumentDiagnosticReport


def register_diagnostics(server: QcoderServer) -> None:
    """The request of clients that pull."""

    @server.feature(
        types.TEXT_DOCUMENT_DIAGNOSTIC,
        types.DiagnosticOptions(inter_file_dependencies=False, workspace_diagnostics=False),
    )
    async def diagnostic(
        ls: QcoderServer, params: types.DocumentDiagnosticParams
    ) -> Full | Unchanged:
        uri, known = params.text_document.uri, params.previous_result_id
        snapshot, due = ls.snapshot(uri), ls.reviewed.get(uri)
        if snapshot is None or due is None or not pulls(ls):
            return Full([])
        if not snapshot.settings.review.enabled:
            return Full([])
        if due == known:
            return Unchanged(due)
        findings = await rules(ls, snapshot)
        rows = ls.rows(uri)
        if findings is None or rows is None:
            return Unchanged(known) if known else Full([])
        codec = ls.workspace.position_codec
        return Full([convert.to_diagnostic(codec, rows, f) for f in findings], result_id=due)


def review_opened(ls: QcoderServer, uri: str) -> None:
    """The rules' findings of a document are due; clients that pull ask by themselves."""
    snapshot = ls.snapshot(uri)
    if snapshot is None:
        return
    ls.reviewed[uri] = str(next(ls.review_numbers))
    path = convert.path_of(uri)
    if path in ls.unopened_findings:  # from now on the review of the open document says it
        sent = types.PublishDiagnosticsParams(ls.unopened_findings.pop(path), [])
        ls.text_document_publish_diagnostics(sent)
    if not snapshot.settings.review.enabled:
        publish(ls, snapshot, [])
    elif not pulls(ls):
        push_rules(ls, snapshot)


def review_typed(ls: QcoderServer, uri: str) -> None:
    """The rules' findings of a document are due when typing pauses; a later edit puts it off."""
    document = open_document(ls.workspace, uri)
    if document is not None and ls.loop is not None and uri in ls.reviewed:
        ls.loop.call_later(TYPING_PAUSE_S, review_paused, ls, uri, document.version)


def review_paused(ls: QcoderServer, uri: str, version: int | None) -> None:
    """Typing has paused, if the document still has the version that it had then."""
    document = open_document(ls.workspace, uri)
    if document is not None and document.version == version and uri in ls.reviewed:
        review_opened(ls, uri)
        refresh(ls)


def review_again(ls: QcoderServer, uri: str) -> None:
    """Everything about a document is due: the rules' findings and the model's hints."""
    review_opened(ls, uri)
    refresh(ls)
    snapshot, engine = ls.snapshot(uri), ls.session.engine
    if snapshot is not None and engine is not None:
        review = snapshot.settings.review
        if review.enabled and review.model_hints:
            push_hints(ls, snapshot, engine)


def review_all(ls: QcoderServer) -> None:
    """The settings of reviews have changed."""
    for uri in tuple(ls.reviewed):
        review_opened(ls, uri)
    refresh(ls)


def forget(ls: QcoderServer, uri: str) -> None:
    """A document was closed: nothing about it is shown any more."""
    ls.reviewed.pop(uri, None)
    ls.session.engine_thread.cancel(("review", uri))
    ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


def pulls(ls: QcoderServer) -> bool:
    """Whether the client asks for diagnostics and does so again when told, or knows no other way."""
    text = ls.client_capabilities.text_document
    if text is None or text.diagnostic is None:
        return False
    return text.publish_diagnostics is None or can_refresh(ls)


def choose_way(ls: QcoderServer) -> None:
    """Offer no pulling to a client that is sent its findings; called while it initializes.

    Helix asks once, and the empty answer would take away what it was sent.
    """
    text = ls.client_capabilities.text_document
    if text is not None and text.diagnostic is not None and not pulls(ls):
        ls.protocol.fm.features.pop(types.TEXT_DOCUMENT_DIAGNOSTIC, None)


def can_refresh(ls: QcoderServer) -> bool:
    """Whether the client can be told to ask again."""
    workspace = ls.client_capabilities.workspace
    offered = workspace.diagnostics if workspace else None
    return bool(offered is not None and offered.refresh_support)


def refresh(ls: QcoderServer) -> None:
    """Let a client that pulls ask again."""
    if pulls(ls) and can_refresh(ls):
        ls.workspace_diagnostic_refresh(None)


async def rules(ls: QcoderServer, snapshot: Snapshot) -> list[Finding] | None:
    """The rules' findings; None when a newer question has come or the review failed."""

    def work(token: CancelToken) -> list[Finding]:
        return review_document(snapshot, None, None, token)

    key = ("pull", snapshot.document.uri)
    return await jobs.attempt(ls.session.rules_thread, key, Priority.REVIEW, work)


def push_rules(ls: QcoderServer, snapshot: Snapshot) -> None:
    """Review with the rules and send what they find."""

    def work(token: CancelToken) -> list[Finding]:
        return review_document(snapshot, None, None, token)

    def done(findings: list[Finding] | None, error: BaseException | None) -> None:
        if findings is not None and ls.loop is not None:
            jobs.post(ls.loop, publish, ls, snapshot, findings)

    key = ("review", snapshot.document.uri)
    ls.session.rules_thread.submit(key, Priority.REVIEW, work, done)


def push_hints(ls: QcoderServer, snapshot: Snapshot, engine: Engine) -> None:
    """Review with rules and model and send what is the client's to be sent."""
    model_only = pulls(ls)

    def work(token: CancelToken) -> list[Finding]:
        changed = changed_lines(snapshot)
        hints = review_by_model(snapshot, engine, changed, token)
        return hints if model_only else review_document(snapshot, None, None, token) + hints

    def done(findings: list[Finding] | None, error: BaseException | None) -> None:
        if findings is not None and ls.loop is not None:
            jobs.post(ls.loop, publish, ls, snapshot, findings)

    key = ("review", snapshot.document.uri)
    ls.session.engine_thread.submit(key, Priority.REVIEW, work, done)


def changed_lines(snapshot: Snapshot) -> frozenset[int] | None:
    """The lines that the last commit has not; None outside of a checkout, where all are new."""
    if snapshot.root is None:
        return None
    return lines_since_head(snapshot.root, snapshot.path, snapshot.document.text)


def publish(ls: QcoderServer, snapshot: Snapshot, findings: list[Finding]) -> None:
    """Send the findings of a snapshot if its document still has that version."""
    uri, version = snapshot.document.uri, snapshot.document.version
    document = open_document(ls.workspace, uri)
    if document is None or (document.version or 0) != version:
        return
    codec, rows = ls.workspace.position_codec, document.lines
    items = [convert.to_diagnostic(codec, rows, f) for f in findings]
    ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, items, version))

"""The language server object: a pygls server with a session, and what handlers share.

The handlers themselves are registered by `lifecycle.py` and `requests.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol

from qcoder import __version__
from qcoder.lsp_server import convert, jobs, protocol
from qcoder.lsp_server.completion import complete
from qcoder.lsp_server.documents import split_lines
from qcoder.lsp_server.protocol import Status
from qcoder.lsp_server.review import review_document
from qcoder.lsp_server.session import Session
from qcoder.lsp_server.settings import resolve_settings
from qcoder.lsp_server.snapshot import Finding, Snapshot, Suggestion
from qcoder.model.request import CancelToken, Priority

logger = logging.getLogger(__name__)

INVALID_PARAMS = -32602


class QcoderProtocol(LanguageServerProtocol):
    """pygls' protocol, except that a request with malformed parameters gets an answer."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Decode a message; answer what cannot be decoded with an error."""
        try:
            return super().structure_message(data)
        except Exception as error:
            if "id" in data and "method" in data:
                message = f"{data['method']}: parameters do not fit the protocol"
                failure = types.ResponseError(code=INVALID_PARAMS, message=message)
                self._send_response(data["id"], None, failure)
            logger.warning("message method=%s is malformed", data.get("method"))
            raise error


class QcoderServer(LanguageServer):
    """A pygls server with a session."""

    def __init__(self, config: str | None = None) -> None:
        super().__init__(
            "qcoder",
            f"v{__version__}",
            protocol_cls=QcoderProtocol,
            text_document_sync_kind=types.TextDocumentSyncKind.Incremental,
        )
        self.config = config
        self.options: dict[str, Any] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.session = Session(self.status, self.index_progress)
        self.indexing = IndexProgress(self)
        self.last_inline: dict[str, float] = {}

    def status(self, status: Status) -> None:
        """Send `qcoder/status` from any thread."""
        loop = self.loop
        if loop is None or loop.is_closed():
            return
        payload = dataclasses.asdict(status)
        loop.call_soon_threadsafe(self.protocol.notify, protocol.STATUS, payload)

    def index_progress(self, done: int, total: int) -> None:
        """Show how far indexing is, from any thread."""
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.indexing.show, done, total)

    def snapshot(self, uri: str) -> Snapshot | None:
        """Snapshot of an open document; None for what is not open or not a file."""
        document = self.workspace.text_documents.get(uri)
        path = convert.path_of(uri)
        if document is None or path is None:
            return None
        return self.session.snapshot(uri, path, document.version or 0, document.source)

    def lines(self, uri: str) -> list[str]:
        """Lines of an open document, with their ends."""
        return split_lines(self.workspace.text_documents[uri].source)

    def read_settings(self) -> None:
        """Merge all settings; problems are shown once, the rest counts."""
        root = self.session.root
        settings, problems = resolve_settings(
            Path(self.config) if self.config else None, self.options, [root] if root else []
        )
        self.session.settings = settings
        for problem in problems:
            logger.warning("settings: %s", problem)
        if problems:
            self.window_show_message(
                types.ShowMessageParams(types.MessageType.Warning, "qcoder: " + "; ".join(problems))
            )

    async def suggest(
        self, uri: str, position: types.Position, key: str, invoked: bool
    ) -> Suggestion | None:
        """Run a completion job; a newer one with the same key supersedes it."""
        snapshot, engine = self.snapshot(uri), self.session.engine
        if snapshot is None or engine is None or not snapshot.settings.completion.enabled:
            return None
        codec = self.workspace.position_codec
        line, column = convert.from_position(codec, self.lines(uri), position)

        def work(token: CancelToken) -> Suggestion | None:
            return complete(snapshot, line, column, engine, invoked=invoked, cancel=token)

        result = await jobs.run(self.session.engine_thread, (key, uri), Priority.COMPLETION, work)
        found: Suggestion | None = result
        return found

    def publish(self, snapshot: Snapshot, findings: list[Finding]) -> None:
        """Push diagnostics of a snapshot if its document still has that version."""
        uri = snapshot.document.uri
        open_document = self.workspace.text_documents.get(uri)
        if open_document is None or (open_document.version or 0) != snapshot.document.version:
            return
        codec, lines = self.workspace.position_codec, self.lines(uri)
        self.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(
                uri,
                [convert.to_diagnostic(codec, lines, f) for f in findings],
                version=snapshot.document.version,
            )
        )

    def review(self, uri: str, with_model: bool) -> None:
        """Queue a review: rules in the background, then the model's hints when wanted."""
        snapshot = self.snapshot(uri)
        if snapshot is None or not snapshot.settings.review.enabled or self.loop is None:
            return
        loop, engine = self.loop, self.session.engine

        def structural() -> None:
            findings = review_document(snapshot, None)
            loop.call_soon_threadsafe(self.publish, snapshot, findings)

        self.session.later(structural)
        if not (with_model and engine is not None and snapshot.settings.review.model_hints):
            return

        def hints(token: CancelToken) -> list[Finding]:
            return review_document(snapshot, engine, None, token)

        def done(findings: list[Finding] | None, error: BaseException | None) -> None:
            if findings is not None:
                loop.call_soon_threadsafe(self.publish, snapshot, findings)

        self.session.engine_thread.submit(("review", uri), Priority.REVIEW, hints, done)


class IndexProgress:
    """The `$/progress` of indexing, for clients that show such; lives on the event loop."""

    def __init__(self, server: QcoderServer) -> None:
        self._server = server
        self._token: str | None = None
        self._begun = False

    def show(self, done: int, total: int) -> None:
        """Begin with the first call, report, and end when all is done."""
        window = self._server.client_capabilities.window
        if not (window and window.work_done_progress):
            return
        if self._token is None:
            if done < total:
                self._token = str(uuid.uuid4())
                self._begin = asyncio.ensure_future(self._start(self._token))
            return
        if not self._begun:
            return
        progress = self._server.work_done_progress
        if done < total:
            report = types.WorkDoneProgressReport(percentage=100 * done // total)
            progress.report(self._token, report)
        else:
            progress.end(self._token, types.WorkDoneProgressEnd(message="done"))
            self._token, self._begun = None, False

    async def _start(self, token: str) -> None:
        progress = self._server.work_done_progress
        # Shielded: pygls raises when an answer comes for an await that was cancelled.
        await asyncio.shield(progress.create_async(token))
        progress.begin(token, types.WorkDoneProgressBegin("qcoder: indexing", percentage=0))
        self._begun = True
        if self._server.session.index is not None:
            self.show(1, 1)

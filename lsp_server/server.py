"""The language server object: a pygls server with a session, and what handlers share.

The handlers themselves are registered by `lifecycle.py`, `diagnostics.py` and `requests.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from qcoder import __version__
from qcoder.lsp_server import convert, notebooks, protocol
from qcoder.lsp_server.acceptance import Acceptance
from qcoder.lsp_server.completion_flow import CompletionFlow
from qcoder.lsp_server.dispatch import QcoderProtocol
from qcoder.lsp_server.documents import open_document, rows_of
from qcoder.lsp_server.jobs import post
from qcoder.lsp_server.notebooks import Spot
from qcoder.lsp_server.protocol import Status
from qcoder.lsp_server.session import Session
from qcoder.lsp_server.settings import Settings, resolve_settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.lsp_server.usage import Days, Usage
from qcoder.lsp_server.usage_store import add as add_usage
from qcoder.lsp_server.usage_store import usage_path
from qcoder.model.request import CancelToken

logger = logging.getLogger(__name__)

KEEP_USAGE_S = 60.0


class QcoderServer(LanguageServer):
    """A pygls server with a session."""

    protocol: QcoderProtocol

    def __init__(self, config: str | None = None) -> None:
        super().__init__(
            "qcoder",
            f"v{__version__}",
            protocol_cls=QcoderProtocol,
            text_document_sync_kind=types.TextDocumentSyncKind.Incremental,
            notebook_document_sync=notebooks.SYNC,
        )
        self.config = Path(config) if config else None
        self.options: Mapping[str, Any] = {}
        self.pulls_settings = False
        self.trusted = False
        self.roots: list[Path] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.session = Session(self.status, self.index_progress)
        self.indexing = IndexProgress(self)
        self.usage = Usage()
        self.acceptance = Acceptance(self.usage, self.completed_rows, call_later)
        self.completions = CompletionFlow(self.session.engine_thread, self.usage, self.acceptance)
        self.session.on_restart = self.completions.stop
        self.reviewed: dict[str, str] = {}
        self.review_numbers = itertools.count(1)
        self.unopened_findings: dict[Path, str] = {}
        self.changes_review = CancelToken()
        self._told: frozenset[str] = frozenset()

    def status(self, status: Status) -> None:
        """Send `qcoder/status` from any thread."""
        if self.loop is not None:
            post(self.loop, self.protocol.notify, protocol.STATUS, dataclasses.asdict(status))

    def index_progress(self, done: int, total: int) -> None:
        """Show how far indexing is, from any thread."""
        if self.loop is not None:
            post(self.loop, self.indexing.show, done, total)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """What went wrong outside of a request: one log line, no window in the user's way."""
        logger.error("protocol: %s", type(error).__name__)
        logger.debug("protocol: %s", error)
        if source is JsonRpcException:  # from the reading loop: a body that is no JSON
            self.protocol.refuse(None, types.ErrorCodes.ParseError, "not valid JSON")

    def snapshot(self, uri: str) -> Snapshot | None:
        """Snapshot of an open document; None for what is not open or not a file."""
        document = open_document(self.workspace, uri)
        path = convert.path_of(uri)
        if document is None or path is None:
            return None
        return self.session.snapshot(
            uri, path, document.version or 0, document.plain, document.language_id
        )

    def rows(self, uri: str) -> Sequence[str] | None:
        """Rows of an open document, with their ends; None for what is not open."""
        document = open_document(self.workspace, uri)
        return document.lines if document is not None else None

    def spot(self, uri: str) -> Spot | None:
        """What a completion for an open document or a notebook's cell is about."""
        rows = self.rows(uri)
        if rows is None:
            return None
        snapshot = self.snapshot(uri)
        if snapshot is not None:
            return Spot(snapshot, rows)
        cell = notebooks.joined(self.workspace, uri)
        path = convert.path_of(cell.uri) if cell is not None else None
        if cell is None or path is None:
            return None
        snapshot = self.session.snapshot(cell.uri, path, cell.version, cell.text, cell.language)
        return Spot(snapshot, rows, cell.first_line)

    def completed_rows(self, uri: str) -> Sequence[str] | None:
        """Rows of a document as completions see it; of a notebook all that belong together."""
        notebook = self.workspace.get_notebook_document(notebook_uri=uri)
        for cell in notebook.cells if notebook is not None else ():
            found = notebooks.joined(self.workspace, cell.document)
            if found is not None:
                return rows_of(found.text)
        return self.rows(uri)

    def keep_usage(self) -> None:
        """Add what was counted to the user's statistics, unless they are switched off."""
        self._keep(self.usage.take())

    def keep_usage_regularly(self) -> None:
        """Keep it once a while, in the background thread: a server may be killed."""
        self.session.later(partial(self._keep, self.usage.take()))
        call_later(KEEP_USAGE_S, self.keep_usage_regularly)

    def _keep(self, counted: Days) -> None:
        if counted and self.session.settings.statistics.enabled:
            add_usage(usage_path(), counted)

    def read_settings(self) -> Settings:
        """Merge all settings. Problems are shown when they are new, the rest counts."""
        settings, problems = resolve_settings(self.config, self.options, self.roots, self.trusted)
        fresh = [problem for problem in problems if problem not in self._told]
        self._told = frozenset(problems)
        for problem in fresh:
            logger.warning("settings: %s", problem)
        if fresh:
            self.window_show_message(
                types.ShowMessageParams(types.MessageType.Warning, "qcoder: " + "; ".join(fresh))
            )
        return settings


def call_later(delay_s: float, call: Callable[[], None]) -> None:
    """Call on the running event loop after seconds."""
    asyncio.get_running_loop().call_later(delay_s, call)


class IndexProgress:
    """The `$/progress` of indexing, for clients that show such; lives on the event loop."""

    def __init__(self, server: QcoderServer) -> None:
        self._server = server
        self._token: str | None = None
        self._begun = False
        self._done = False

    def show(self, done: int, total: int) -> None:
        """Begin with the first call, report, and end when all is done."""
        window = self._server.client_capabilities.window
        if not (window and window.work_done_progress):
            return
        self._done = done >= total
        if self._token is None:
            if not self._done:
                self._token = str(uuid.uuid4())
                self._start = asyncio.ensure_future(self._begin(self._token))
        elif self._begun:
            self._report(self._token, done, total)

    def _report(self, token: str, done: int, total: int) -> None:
        progress = self._server.work_done_progress
        if not self._done:
            progress.report(token, types.WorkDoneProgressReport(percentage=100 * done // total))
            return
        progress.end(token, types.WorkDoneProgressEnd(message="done"))
        progress.tokens.pop(token, None)
        self._token, self._begun = None, False

    async def _begin(self, token: str) -> None:
        progress = self._server.work_done_progress
        try:
            # Shielded: pygls raises when an answer comes for an await that was cancelled.
            await asyncio.shield(progress.create_async(token))
        except Exception as error:  # a client that refuses gets no progress
            logger.info("no progress shown: %s", type(error).__name__)
            self._token = None
            return
        progress.begin(token, types.WorkDoneProgressBegin("qcoder: indexing", percentage=0))
        self._begun = True
        if self._done:
            self._report(token, 1, 1)

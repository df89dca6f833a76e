"""The `$/progress` of one piece of work, for clients that show such, with a button to cancel it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future

from lsprotocol import types

from qcoder.lsp_server.jobs import post
from qcoder.lsp_server.server import QcoderServer

logger = logging.getLogger(__name__)


class WorkProgress:
    """Begins when the client has agreed; work that ends before that is never shown.

    Lives on the event loop; `report` may be called from any thread. `cancel` is called when the
    user cancels.
    """

    def __init__(self, server: QcoderServer, title: str, cancel: Callable[[], None]) -> None:
        self._server, self._title, self._cancel = server, title, cancel
        self._token: str | None = None
        self._done = False
        window = server.client_capabilities.window
        if window is not None and window.work_done_progress:
            self._start = asyncio.ensure_future(self._begin(str(uuid.uuid4())))

    def report(self, done: int, total: int) -> None:
        """How far the work is, from any thread."""
        if self._server.loop is not None:
            post(self._server.loop, self._report, 100 * done // max(1, total))

    def end(self) -> None:
        """The work is over, whatever came of it."""
        self._done = True
        if self._token is not None:
            progress = self._server.work_done_progress
            progress.end(self._token, types.WorkDoneProgressEnd())
            progress.tokens.pop(self._token, None)

    def _report(self, percentage: int) -> None:
        if self._token is not None and not self._done:
            report = types.WorkDoneProgressReport(percentage=percentage)
            self._server.work_done_progress.report(self._token, report)

    async def _begin(self, token: str) -> None:
        progress = self._server.work_done_progress
        try:
            # Shielded: pygls raises when an answer comes for an await that was cancelled.
            await asyncio.shield(progress.create_async(token))
        except Exception as error:  # a client that refuses gets no progress
            logger.info("no progress shown: %s", type(error).__name__)
            return
        if self._done:
            progress.tokens.pop(token, None)
            return
        progress.tokens[token].add_done_callback(self._settled)
        begin = types.WorkDoneProgressBegin(self._title, cancellable=True, percentage=0)
        progress.begin(token, begin)
        self._token = token

    def _settled(self, future: Future[object]) -> None:
        if future.cancelled():
            self._cancel()

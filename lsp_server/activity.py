"""What a session is busy with and what it lacks, as the status that the client shows."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qcoder.lsp_server.protocol import Status


class Activity:
    """Any thread may say what begins, ends and fails; `on_status` gets the status after each.

    `is_enabled` says whether completion is switched on.
    """

    def __init__(self, on_status: Callable[[Status], None], is_enabled: Callable[[], bool]) -> None:
        self._on_status, self._is_enabled = on_status, is_enabled
        self._lock = threading.RLock()
        self._busy: dict[str, str] = {}
        self._failure = ""

    def begin(self, reason: str, message: str) -> None:
        """Be busy with something, under a reason that ends it; the latest one is shown."""
        with self._lock:
            self._busy[reason] = message
            self.tell()

    def end(self, reason: str) -> None:
        """Be done with it."""
        with self._lock:
            self._busy.pop(reason, None)
            self.tell()

    def fail(self, message: str) -> None:
        """Lack a model, for this reason; "" when there is one. Told with what ends next."""
        with self._lock:
            self._failure = message

    def tell(self) -> None:
        """Send the status that follows from what is going on; so it always comes back to idle."""
        with self._lock:
            self._on_status(self.status())

    def status(self) -> Status:
        """What the server is doing now."""
        with self._lock:
            if self._busy:
                reason, message = next(reversed(self._busy.items()))
                return Status("Busy", message, reason)
            if self._failure:
                return Status("Error", self._failure, "model")
            if not self._is_enabled():
                return Status("Inactive", "completion is switched off", "disabled")
            return Status("Normal", "ready", "")

"""Changes of the workspace's files, in debounced batches, from the operating system.

A save is a few events within a millisecond or two and is passed on at once; only when more comes is
there a pause to wait for. `event_filter` names the events that matter. It is not a nicety: without it the watcher's own scan
of a big tree raises open and close events that overflow the kernel's queue, over and over, and no
edit is ever reported. When events were lost all the same, the batch is None: look at everything.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

logger = logging.getLogger(__name__)

OnChange = Callable[[frozenset[str] | None], None]
"""Gets changed paths, relative with slashes (a folder stands for what is in it), or None: all."""

SETTLE_S = 0.002
DEBOUNCE_S = 0.1
MAX_DELAY_S = 1.0
FEW = 16
# Most of them are ignored when a build writes them, and cost far less than looking at everything.
MAX_BATCH = 5000

EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirModifiedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]
_IGNORED_FOLDERS = frozenset({".git", ".hg", ".svn", ".jj", "node_modules", "__pycache__"})


class Watcher:
    """Watches one root from `start` to `stop`; the callback runs on the watcher's own thread."""

    def __init__(self, root: Path, on_change: OnChange, debounce_s: float = DEBOUNCE_S) -> None:
        self._root = os.path.abspath(root)
        self._on_change = on_change
        self._debounce_s = debounce_s
        self._changed: set[str] = set()
        self._rescan = False
        self._stopping = False
        self._first = 0.0
        self._last = 0.0
        self._wake = threading.Condition()
        self._observer: BaseObserver | None = None
        self._worker: threading.Thread | None = None
        self._overflow = _OverflowHandler(self.request_rescan)

    def start(self) -> bool:
        """Begin; False (and one warning) when the system gives no watch, then only scans help."""
        observer = Observer()
        try:
            observer.schedule(_Handler(self), self._root, recursive=True, event_filter=EVENTS)
            observer.start()
        except (OSError, RuntimeError) as error:
            logger.warning(
                "watch root=%s failed (%s): changes made outside the editor are seen at the next "
                "scan; on Linux, raise fs.inotify.max_user_watches",
                self._root,
                error,
            )
            return False
        logging.getLogger("watchdog.observers").addHandler(self._overflow)
        self._observer = observer
        self._worker = threading.Thread(target=self._run, name="qcoder-watch", daemon=True)
        self._worker.start()
        return True

    def stop(self) -> None:
        """End; pending changes are dropped. Safe to call twice, or without a start."""
        logging.getLogger("watchdog.observers").removeHandler(self._overflow)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5.0)
            self._observer = None
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(timeout=5.0)
            self._worker = None

    def request_rescan(self) -> None:
        """Make the next batch None: something happened that no list of paths can tell."""
        self._note((), rescan=True)

    def changed(self, *full_paths: str) -> None:
        """Take note of absolute paths that changed; the ones that never matter are dropped."""
        paths = [path for full in full_paths if (path := self._relative(full)) is not None]
        if paths:
            self._note(paths)

    def _note(self, paths: Sequence[str], rescan: bool = False) -> None:
        with self._wake:
            now = time.monotonic()
            if not self._changed and not self._rescan:
                self._first = now
            self._last = now
            if not self._rescan:
                self._changed.update(paths)
            if rescan or len(self._changed) > MAX_BATCH:
                self._rescan = True
                self._changed.clear()
            self._wake.notify()

    def _relative(self, full: str) -> str | None:
        if not full:
            return None
        path = os.path.relpath(full, self._root).replace(os.sep, "/")
        parts = path.split("/")
        if path == "." or parts[0] == ".." or not _IGNORED_FOLDERS.isdisjoint(parts):
            return None
        return path

    def _run(self) -> None:
        while True:
            with self._wake:
                batch = self._next_batch()
                if self._stopping:
                    return
            try:
                self._on_change(batch)
            except Exception:
                # The boundary of the thread: one failed batch must not end the watching.
                logger.exception("watch root=%s: a batch of changes failed", self._root)

    def _next_batch(self) -> frozenset[str] | None:
        """Wait, with the lock held, until changes are there and have been quiet for a moment."""
        while not self._stopping:
            if not self._changed and not self._rescan:
                self._wake.wait()
                continue
            few = len(self._changed) <= FEW and not self._rescan
            pause = min(SETTLE_S, self._debounce_s) if few else self._debounce_s
            due = min(self._last + pause, self._first + MAX_DELAY_S)
            left = due - time.monotonic()
            if left <= 0:
                break
            self._wake.wait(left)
        batch = None if self._rescan else frozenset(self._changed)
        self._changed.clear()
        self._rescan = False
        return batch


class _Handler(FileSystemEventHandler):
    """Forwards events; a modified folder says nothing that its files' events do not say."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by the observer's thread for every event of `EVENTS`."""
        if not isinstance(event, DirModifiedEvent):
            self._watcher.changed(os.fsdecode(event.src_path), os.fsdecode(event.dest_path))


class _OverflowHandler(logging.Handler):
    """The observer reports lost events in its log and nowhere else."""

    def __init__(self, request_rescan: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._request_rescan = request_rescan

    def emit(self, record: logging.LogRecord) -> None:
        """Ask for a rescan when the record tells of an overflow."""
        if "overflow" in record.getMessage().lower():
            self._request_rescan()

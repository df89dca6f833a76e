"""The server's mutable state: index, engine, settings, copy tables; and snapshots of it.

Two threads work for the session: the engine's (`jobs.EngineThread`) and one for everything that
may take a moment and is not the model (indexing, tables, structural review). Handlers only take
snapshots and queue work.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from qcoder.context.index import Index
from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.context.watch import Watcher
from qcoder.lsp_server.documents import normalized
from qcoder.lsp_server.headless import file_table, workspace_table
from qcoder.lsp_server.jobs import EngineThread
from qcoder.lsp_server.protocol import Status
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.engine import Engine
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import CancelToken, GenerationRequest, Priority, Prompt

logger = logging.getLogger(__name__)

ENGINE_VARIABLE = "QCODER_ENGINE"
"""Test seam: `fake:TEXT` runs a scripted engine in place of a model."""

MAX_RECENT = 20
PROGRESS_SECONDS = 0.2
MAX_TABLE_CHARACTERS = 1_000_000


class Session:
    """One client's session. `on_status` and `on_progress(done, total)` may come from any thread."""

    def __init__(
        self,
        on_status: Callable[[Status], None],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.settings = Settings()
        self.root: Path | None = None
        self.index: Index | None = None
        self.engine: Engine | None = None
        self.engine_thread = EngineThread()
        self._on_status, self._on_progress = on_status, on_progress
        self._tables: dict[str, SuffixTable] = {}
        self._workspace_table: SuffixTable | None = None
        self._recent: list[str] = []
        self._watcher: Watcher | None = None
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._wanted: dict[str, Document] = {}
        self._failure = ""
        threading.Thread(target=self._background, name="qcoder-index", daemon=True).start()

    def start(self, root: Path | None, settings: Settings, watch: bool) -> None:
        """Load the model and index the workspace, each in its own thread."""
        self.root, self.settings = root, settings
        self._status("Busy", "loading the model", "loading")
        self.engine_thread.submit("load", Priority.COMPLETION, self._load, self._loaded)
        if root is not None:
            self.later(lambda: self._index(root, watch))

    def stop(self) -> None:
        """End all threads soon; nothing waits for them."""
        self.engine_thread.stop()
        self._work.put(None)
        if self._watcher is not None:
            self._watcher.stop()

    def later(self, work: Callable[[], object]) -> None:
        """Run in the background thread, in order."""
        self._work.put(work)

    def relative(self, path: Path) -> str:
        """Workspace-relative path with slashes; the bare name outside."""
        if self.root is not None and path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return path.name

    def snapshot(self, uri: str, path: Path, version: int, text: str) -> Snapshot:
        """Everything a task may read about one document, frozen."""
        relative = self.relative(path)
        tables = tuple(t for t in (self._tables.get(uri), self._workspace_table) if t is not None)
        document = Document(uri, version, language_of(relative), normalized(text))
        recent = tuple(p for p in self._recent if p != relative)
        return Snapshot(document, relative, self.root, self.index, self.settings, tables, recent)

    def note_change(self, snapshot: Snapshot) -> None:
        """Bring overlay and copy table up to the snapshot, off the keystroke path."""
        uri = snapshot.document.uri
        first = uri not in self._wanted
        self._wanted[uri] = snapshot.document
        if snapshot.path in self._recent:
            self._recent.remove(snapshot.path)
        self._recent.insert(0, snapshot.path)
        del self._recent[MAX_RECENT:]
        if first:
            self.later(lambda: self._follow(uri, snapshot.path))

    def forget(self, uri: str, path: Path) -> None:
        """A document was closed: the disk counts again."""
        self._tables.pop(uri, None)
        index, relative = self.index, self.relative(path)
        if index is not None:
            self.later(lambda: index.drop_overlay(relative))

    def files_changed(self, paths: list[Path]) -> None:
        """Files changed on disk."""
        index = self.index
        if index is not None:
            for path in paths:
                self.later(partial(index.update, self.relative(path)))

    def reindex(self) -> None:
        """Scan the workspace again."""
        root = self.root
        if root is not None:
            self.later(lambda: self._index(root, watch=False))

    def restart_engine(self) -> None:
        """Load the model again, with the present settings."""
        self._status("Busy", "loading the model", "loading")
        self.engine_thread.submit("load", Priority.COMPLETION, self._load, self._loaded)

    def _background(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception as error:  # the thread's boundary: one log line, and on
                logger.error("background work failed: %s: %s", type(error).__name__, error)
                logger.debug("background work failed", exc_info=True)

    def _follow(self, uri: str, path: str) -> None:
        document = self._wanted.pop(uri, None)
        if document is None:
            return
        if self.index is not None:
            self.index.overlay(path, document)
        if self.engine is not None and len(document.text) <= MAX_TABLE_CHARACTERS:
            self._tables[uri] = file_table(document.text, self.engine.tokenizer)

    def _load(self, _: CancelToken) -> Engine:
        script = os.environ.get(ENGINE_VARIABLE, "")
        if script.startswith("fake:"):
            from qcoder.model.fake import FakeEngine

            return cast(Engine, FakeEngine([script.removeprefix("fake:")]))
        wanted = self.settings.model
        engine = Engine.load(
            wanted.name,
            wanted.device,
            max_context=wanted.max_context or None,
            threads=wanted.threads,
        )
        # The first generation pays for lazy set-up inside torch: better now than at a keystroke.
        ids = tuple(engine.tokenizer.encode("def warm_up():\n    return"))
        list(engine.generate(GenerationRequest(Prompt(ids), max_tokens=4)))
        return engine

    def _loaded(self, engine: Engine | None, error: BaseException | None) -> None:
        if engine is None:
            self._failure = str(error) if error else "cancelled"
            self._status("Error", f"model not loaded: {self._failure}", "model")
            return
        self.engine, self._failure = engine, ""
        logger.info("model name=%s loaded", engine.info.name)
        self.later(self._build_table)
        self.later(self._idle)

    def _idle(self) -> None:
        if self.engine is not None:
            self._status("Normal", "ready", "")

    def _build_table(self) -> None:
        if self.index is not None and self.engine is not None:
            self._workspace_table = workspace_table(self.index, self.engine.tokenizer)

    def _index(self, root: Path, watch: bool) -> None:
        index = Index.open(root, exclude=self.settings.privacy.exclude)

        last = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if done == total or now - last >= PROGRESS_SECONDS:
                last = now
                self._status("Busy", f"indexing {done}/{total}", "indexing")
                self._on_progress(done, total)

        report = index.refresh(progress=progress)
        self._on_progress(1, 1)
        index.save()
        self.index = index
        logger.info("index root=%s files=%d", root, report.files)
        self._build_table()
        if watch and self._watcher is None:
            self._watcher = Watcher(root, self._disk_changed)
            self._watcher.start()
        self._idle()

    def _disk_changed(self, paths: frozenset[str] | None) -> None:
        index = self.index
        if index is None:
            return
        if paths is None:
            self.later(index.refresh)
            return
        for path in paths:
            self.later(partial(index.update, path))

    def _status(self, kind: str, message: str, reason: str) -> None:
        self._on_status(Status(kind, message, reason))  # type: ignore[arg-type]

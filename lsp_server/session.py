"""The server's mutable state: folders with their index, engine, settings, copy tables; snapshots.

Three threads work for the session: the engine's, one for the rules of a review and other quick looks
at one document (both `jobs.EngineThread`), and one for indexing and tables, which may take long.
Handlers only take snapshots and queue work.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from qcoder.context.index import Index
from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.context.watch import Watcher
from qcoder.lsp_server.activity import Activity
from qcoder.lsp_server.engines import load_engine
from qcoder.lsp_server.headless import file_table, workspace_table
from qcoder.lsp_server.jobs import EngineThread
from qcoder.lsp_server.pauses import free_what_is_gone, keep_what_is_there
from qcoder.lsp_server.protocol import Status
from qcoder.lsp_server.settings import FILE_NAME, Settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.adapted import adapted_folder
from qcoder.model.engine import Engine
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import CancelToken, Priority

logger = logging.getLogger(__name__)

LOADING = "loading the model"
MAX_RECENT = 20
PROGRESS_SECONDS = 0.2
QUIET_S, BEHIND_S = 0.6, 3.0
"""A pause in typing, long enough that the completion for it has been computed; and how far the index
may fall behind somebody who makes none."""

MAX_TABLE_CHARACTERS = 1_000_000


@dataclass(slots=True)
class Pending:
    """What happened on the disk since somebody looked: some paths, or more than paths can tell."""

    paths: set[str] = field(default_factory=set)
    everything: bool = False


@dataclass(slots=True, eq=False)
class Folder:
    """One workspace folder. The index is there from the start, and full once it was scanned."""

    root: Path
    index: Index | None = None
    table: SuffixTable | None = None
    watcher: Watcher | None = None
    closed: bool = False
    pending: Pending = field(default_factory=Pending)


class Session:
    """One client's session. `on_status` and `on_progress(done, total)` may come from any thread."""

    def __init__(
        self,
        on_status: Callable[[Status], None],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.settings = Settings()
        self.folders: tuple[Folder, ...] = ()
        self.engine: Engine | None = None
        self.engine_thread = EngineThread()
        self.rules_thread = EngineThread("qcoder-rules")
        self.on_settings_file: Callable[[], None] = lambda: None
        self.on_restart: Callable[[], None] = lambda: None
        self.activity = Activity(on_status, lambda: self.settings.completion.enabled)
        self._on_progress = on_progress
        self._watch = False
        self._started = False
        self._open: dict[str, tuple[Path, Document]] = {}
        self._behind: dict[str, tuple[float, float]] = {}
        self._tables: dict[str, SuffixTable] = {}
        self._recent: list[Path] = []
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._state = threading.Lock()
        threading.Thread(target=self._background, name="qcoder-index", daemon=True).start()

    def start(self, roots: Sequence[Path], settings: Settings, watch: bool) -> None:
        """Load the model and index the folders, each in its own thread."""
        self.settings, self._watch = settings, watch
        self.activity.begin("loading", LOADING)  # before an index can say that all is ready
        self.change_folders(roots, ())
        self._started = True
        self.restart_engine()

    def stop(self) -> None:
        """End all threads soon; nothing waits for them."""
        self.engine_thread.stop()
        self.rules_thread.stop()
        for folder in self.folders:
            self._close(folder)
        self._work.put(None)

    def apply(self, settings: Settings) -> None:
        """Take new settings; the model and the indexes follow when theirs have changed."""
        old, self.settings = self.settings, settings
        if not self._started:
            return
        if (settings.model, settings.remote) != (old.model, old.remote):
            self.restart_engine()
        if settings.privacy != old.privacy:
            self.change_folders([f.root for f in self.folders], [f.root for f in self.folders])
        self.activity.tell()

    def change_folders(self, added: Sequence[Path], removed: Sequence[Path]) -> None:
        """Index the folders that came, forget those that went; the model follows.

        One that was trained on a workspace must not tell another one what it has learned.
        """
        model = self._own_model()
        for folder in self.folders:
            if folder.root in removed:
                self._close(folder)
        left = [f for f in self.folders if not f.closed]
        known = {f.root for f in left}
        fresh = [Folder(root) for root in dict.fromkeys(added) if root not in known]
        # Longest first: of nested folders the inner one owns a file.
        self.folders = tuple(sorted(left + fresh, key=lambda f: -len(f.root.parts)))
        for folder in fresh:
            self.later(partial(self._index, folder))
        if self._started and self._own_model() != model:
            self.restart_engine()

    def restart_engine(self) -> None:
        """Load the model with the present settings; one that is there goes first.

        One that was trained on a workspace counts when that is the only folder.
        """
        self.engine = None
        self.on_restart()
        self._tables.clear()  # another model may have other ids
        for folder in self.folders:
            folder.table = None
        self.activity.begin("loading", LOADING)
        settings, root = self.settings, self._only_root()

        def load(token: CancelToken) -> Engine:
            free_what_is_gone()  # never two models in memory
            return load_engine(settings, root, token)

        self.engine_thread.submit("load", Priority.COMPLETION, load, self._loaded)

    def _only_root(self) -> Path | None:
        return self.folders[0].root if len(self.folders) == 1 else None

    def _own_model(self) -> Path | None:
        """The folder of the model that was trained on the only workspace, where there is one."""
        root, wanted = self._only_root(), self.settings.model
        return adapted_folder(root, wanted.name) if root is not None and wanted.adapted else None

    def reindex(self) -> None:
        """Scan all folders again."""
        for folder in self.folders:
            self._look_again(folder, None)

    def later(self, work: Callable[[], object]) -> None:
        """Run in the background thread, in order."""
        self._work.put(work)

    def locate(self, path: Path) -> tuple[Folder | None, str]:
        """The folder that a file is in and its path there; (None, bare name) outside of all."""
        for candidate in (path, path.resolve()):
            for folder in self.folders:
                if candidate.is_relative_to(folder.root):
                    return folder, candidate.relative_to(folder.root).as_posix()
        return None, path.name

    def snapshot(
        self, uri: str, path: Path, version: int, text: str, language: str | None = None
    ) -> Snapshot:
        """Everything a task may read about one document, frozen.

        `text` has plain line ends (`documents.normalized`). `language` is what the editor says; it
        counts where the file's name says nothing.
        """
        folder, relative = self.locate(path)
        workspace = folder.table if folder else None
        tables = tuple(t for t in (self._tables.get(uri), workspace) if t is not None)
        root = folder.root if folder else None
        by_name = language_of(relative)
        language = by_name if by_name != "text" or not language else language
        recent = tuple(
            p.relative_to(root).as_posix()
            for p in self._recent
            if root is not None and p != path and p.is_relative_to(root)
        )
        return Snapshot(
            Document(uri, version, language, text),
            relative,
            root,
            folder.index if folder else None,
            self.settings,
            tables,
            recent,
        )

    def note_change(self, path: Path, document: Document) -> None:
        """Bring overlay and copy table up to a document, in the background.

        At once when it is new, else in the next pause of typing: both read the whole text, which
        would take the time of the completions.
        """
        uri, now = document.uri, time.monotonic()
        known, waiting = uri in self._open, uri in self._behind
        self._open[uri] = path, document
        self._recent = [path, *(p for p in self._recent if p != path)][:MAX_RECENT]
        if not known:
            self.later(partial(self._follow, uri))
            return
        first, _ = self._behind.get(uri, (now, now))
        self._behind[uri] = first, now
        if not waiting:
            self.later(lambda: None)  # wakes the thread, which then waits for the pause

    def forget(self, uri: str, path: Path) -> None:
        """A document was closed: the disk counts again."""
        self._open.pop(uri, None)

        def drop() -> None:
            self._tables.pop(uri, None)
            folder, relative = self.locate(path)
            if folder is not None and folder.index is not None:
                folder.index.drop_overlay(relative)

        self.later(drop)

    def files_changed(self, paths: Sequence[Path]) -> None:
        """Files changed on disk."""
        changed: dict[Folder, list[str]] = {}
        for path in paths:
            folder, relative = self.locate(path)
            if folder is not None:
                changed.setdefault(folder, []).append(relative)
        for folder, inner in changed.items():
            self._look_again(folder, inner)

    def _background(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=self._until_quiet())
            except queue.Empty:
                work = self._follow_quiet
            if work is None:
                return
            try:
                work()
            except Exception as error:  # the thread's boundary: one log line, and on
                logger.error("background work failed: %s: %s", type(error).__name__, error)
                logger.debug("background work failed", exc_info=True)

    def _until_quiet(self) -> float | None:
        """Seconds until a document is to be followed; None when none waits for that."""
        due = [
            min(last + QUIET_S, first + BEHIND_S) for first, last in tuple(self._behind.values())
        ]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _follow_quiet(self) -> None:
        now = time.monotonic()
        for uri, (first, last) in tuple(self._behind.items()):
            if now >= min(last + QUIET_S, first + BEHIND_S):
                self._follow(uri)

    def _follow(self, uri: str) -> None:
        self._behind.pop(uri, None)
        path, document = self._open.get(uri, (None, None))
        if path is None or document is None:
            return
        folder, relative = self.locate(path)
        if folder is not None and folder.index is not None:
            folder.index.overlay(relative, document)
        engine = self.engine  # a remote one copies nothing
        if engine and not engine.info.is_remote and len(document.text) <= MAX_TABLE_CHARACTERS:
            table = file_table(document.text, engine.tokenizer)
            if engine is self.engine:  # still
                self._tables[uri] = table

    def _loaded(self, engine: Engine | None, error: BaseException | None) -> None:
        if engine is None and error is None:
            return  # superseded by a newer load, or the server stops
        if engine is None:
            self.activity.fail(f"model not loaded: {error}")
        else:
            self.engine = engine
            self.activity.fail("")
            logger.info("model name=%s loaded", engine.info.name)
            for uri in tuple(self._open):
                self.later(partial(self._follow, uri))
            for folder in self.folders:
                self.later(partial(self._build_table, folder))
        # After the tables: "ready" means that nothing more will make the first answers better.
        self.later(partial(self.activity.end, "loading"))

    def _build_table(self, folder: Folder) -> None:
        engine = self.engine
        if engine and not engine.info.is_remote and folder.index and not folder.closed:
            table = workspace_table(folder.index, engine.tokenizer)
            folder.table = table if engine is self.engine else None

    def _index(self, folder: Folder) -> None:
        if folder.closed:
            return
        folder.index = Index.open(folder.root, exclude=self.settings.privacy.exclude)
        for uri in tuple(self._open):
            self._follow(uri)
        if self._watch:
            folder.watcher = Watcher(folder.root, partial(self._disk_changed, folder))
            folder.watcher.start()
            if folder.closed:  # meanwhile
                folder.watcher.stop()
        self._scan(folder)

    def _scan(self, folder: Folder) -> None:
        index, last = folder.index, 0.0
        if index is None or folder.closed:
            return

        def progress(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if done == total or now - last >= PROGRESS_SECONDS:
                last = now
                self.activity.begin("indexing", f"indexing {done}/{total}")
                self._on_progress(done, total)

        self.activity.begin("indexing", "indexing")
        try:
            index.refresh(progress=progress, stop=lambda: folder.closed)
            self._show_again(folder)
            index.save()
            index.read_history()
            keep_what_is_there()
            self._build_table(folder)
        finally:
            self._on_progress(1, 1)
            self.activity.end("indexing")

    def _show_again(self, folder: Folder) -> None:
        """Follow the open documents that a scan has hidden or that no rule ignores any more."""
        for uri, (path, _) in tuple(self._open.items()):
            owner, relative = self.locate(path)
            if owner is folder and folder.index and folder.index.record(relative) is None:
                self._follow(uri)

    def _close(self, folder: Folder) -> None:
        folder.closed = True
        if folder.watcher is not None:
            self.later(folder.watcher.stop)  # waits for the watcher's threads

    def _look_again(self, folder: Folder, paths: Iterable[str] | None) -> None:
        """Take up changes of the disk, None for all of it; what waits already is done with them."""
        with self._state:
            waits = folder.pending.everything or bool(folder.pending.paths)
            folder.pending.everything |= paths is None
            folder.pending.paths.update(paths or ())
        if not waits:
            self.later(partial(self._take_up, folder))

    def _take_up(self, folder: Folder) -> None:
        with self._state:
            pending, folder.pending = folder.pending, Pending()
        if pending.everything:
            self._scan(folder)
            return
        index = None if folder.closed else folder.index
        if index is not None and index.update_all(sorted(pending.paths)):
            self._show_again(folder)
            self._build_table(folder)  # without what is ignored since

    def _disk_changed(self, folder: Folder, paths: frozenset[str] | None) -> None:
        if paths is None or FILE_NAME in paths:
            self.on_settings_file()
        self._look_again(folder, paths)

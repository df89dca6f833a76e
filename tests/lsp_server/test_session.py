"""Which model a session loads, and how it keeps up with documents and the disk."""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from qcoder.context.segments import Document
from qcoder.lsp_server import session as session_module
from qcoder.lsp_server.session import Session
from qcoder.lsp_server.settings import ModelSettings, Settings
from qcoder.model import adapted
from qcoder.model.fake import FakeEngine
from qcoder.model.registry import DEFAULT_FOLDER


def trained_on(root: Path) -> str:
    """Install something that counts as the model of a workspace."""
    staged = adapted.stage(root)
    facts = {
        "workspace": str(root),
        "base": "default",
        "base_sha256": adapted.base_checksum(DEFAULT_FOLDER),
    }
    (staged / "MANIFEST.json").write_text(json.dumps({adapted.SECTION: facts, "files": {}}))
    return str(adapted.install(staged, root))


@pytest.mark.parametrize(
    ("folders", "wanted", "uses_adapted"),
    [
        (["mine"], ModelSettings(), True),
        (["mine"], ModelSettings(adapted=False), False),
        (["mine"], ModelSettings(name="other"), False),
        (["other"], ModelSettings(), False),
        (["mine", "other"], ModelSettings(), False),
        ([], ModelSettings(), False),
    ],
)
def test_the_only_folder_of_a_session_brings_its_model(
    folders: list[str],
    wanted: ModelSettings,
    uses_adapted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    place = trained_on(tmp_path / "mine")
    loaded: queue.Queue[str] = queue.Queue()

    def load(name: str, *arguments: Any, **options: Any) -> FakeEngine:
        loaded.put(name)
        return FakeEngine(["text"])

    monkeypatch.setattr(session_module.Engine, "load", staticmethod(load))
    session = Session(lambda status: None)
    try:
        session.start([tmp_path / f for f in folders], Settings(model=wanted), watch=False)
        assert loaded.get(timeout=30) == (place if uses_adapted else wanted.name)
    finally:
        session.stop()


def test_another_workspace_gets_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other, third = (tmp_path / name for name in ("mine", "other", "third"))
    for root in (mine, other, third):
        root.mkdir()
    place = trained_on(mine)
    loaded: queue.Queue[str] = queue.Queue()

    def load(name: str, *arguments: Any, **options: Any) -> FakeEngine:
        loaded.put(name)
        return FakeEngine(["text"])

    monkeypatch.setattr(session_module.Engine, "load", staticmethod(load))
    restarts: list[bool] = []
    session = Session(lambda status: None)
    session.on_restart = lambda: restarts.append(True)
    try:
        session.start([mine], Settings(), watch=False)
        assert loaded.get(timeout=30) == place
        for added, removed, model in (
            ([other], [mine], "default"),
            ([third], [other], None),
            ([mine], [third], place),
            ([mine], [mine], None),
            ([other], [], "default"),
            ([], [other], place),
        ):
            before = len(restarts)
            session.change_folders(added, removed)
            assert len(restarts) - before == (model is not None)
            if model is not None:
                assert session.engine is None
                assert loaded.get(timeout=30) == model
    finally:
        session.stop()


def test_what_is_copied_from_is_made_anew_for_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    go_on.set()

    def load(*_: Any) -> FakeEngine:
        assert go_on.wait(30)
        return FakeEngine(["text"])

    (tmp_path / "b.py").write_text("y = 2\n")
    ready = threading.Event()
    monkeypatch.setattr(session_module, "load_engine", load)
    session = Session(lambda status: ready.set() if status.kind == "Normal" else None)
    document = Document("file:///a.py", 1, "python", "x = 1\n")

    def tables() -> int:
        snapshot = session.snapshot(document.uri, tmp_path / "a.py", 1, document.text)
        return len(snapshot.copy_tables)

    try:
        session.note_change(tmp_path / "a.py", document)
        session.start([tmp_path], Settings(), watch=False)
        assert ready.wait(30)
        assert tables() == 2
        go_on.clear()
        ready.clear()
        session.restart_engine()
        assert tables() == 0
        go_on.set()
        assert ready.wait(30)
        assert tables() == 2
    finally:
        session.stop()


@pytest.mark.parametrize(
    ("quiet_s", "behind_s", "seen"),
    [(1e6, 1e6, "x = 1\n"), (0.0, 1e6, "x = 2\n"), (1e6, 0.0, "x = 2\n")],
)
def test_the_index_follows_a_new_document_at_once_and_typing_in_a_pause(
    quiet_s: float, behind_s: float, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "QUIET_S", quiet_s)
    monkeypatch.setattr(session_module, "BEHIND_S", behind_s)
    monkeypatch.setenv("QCODER_ENGINE", "fake:text")
    texts: queue.Queue[str] = queue.Queue()
    session = Session(lambda status: None)
    monkeypatch.setattr(
        session_module.Index, "overlay", lambda self, path, document: texts.put(document.text)
    )
    session.start([tmp_path], Settings(), watch=False)
    opened = threading.Event()
    session.note_change(tmp_path / "a.py", Document("file:///a.py", 1, "python", "x = 1\n"))
    session.later(opened.set)
    assert opened.wait(30)
    first = texts.get(timeout=30)
    session.note_change(tmp_path / "a.py", Document("file:///a.py", 2, "python", "x = 2\n"))
    if seen != first:
        while texts.get(timeout=30) != seen:
            pass
    else:
        looked = threading.Event()
        session.later(looked.set)
        assert looked.wait(30)
        while not texts.empty():
            assert texts.get() == seen
    session.stop()


@pytest.mark.parametrize("everything", [False, True])
def test_changes_that_come_together_are_taken_up_once(
    everything: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCODER_ENGINE", "fake:text")
    looks: list[object] = []
    monkeypatch.setattr(session_module.Index, "update_all", lambda self, paths: looks.append(paths))
    session = Session(lambda status: None)
    session.start([tmp_path], Settings(), watch=False)
    busy, go_on, done = threading.Event(), threading.Event(), threading.Event()
    session.later(lambda: (busy.set(), go_on.wait(30)))
    assert busy.wait(30)
    monkeypatch.setattr(
        session_module.Index, "refresh", lambda self, **options: looks.append("everything")
    )
    (folder,) = session.folders
    for i in range(20):
        session._disk_changed(folder, frozenset({f"f{i}.py"}))
        session.files_changed([tmp_path / "open.py"])
        if everything:
            session.reindex()
    session.later(done.set)
    go_on.set()
    assert done.wait(30)
    if everything:
        assert looks == ["everything"]
    else:
        assert looks == [sorted(["open.py", *(f"f{i}.py" for i in range(20))])]
    session._disk_changed(folder, frozenset({"late.py"}))
    done.clear()
    session.later(done.set)
    assert done.wait(30)
    assert looks[1:] == [["late.py"]]
    session.stop()


def test_an_open_document_is_back_when_no_rule_ignores_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCODER_ENGINE", "fake:text")
    rules = tmp_path / ".qcoderignore"
    rules.write_text("a.py\n")
    (tmp_path / "a.py").write_text("x = 1\n")
    session = Session(lambda status: None)
    session.start([tmp_path], Settings(), watch=False)
    session.note_change(tmp_path / "a.py", Document("file:///a.py", 1, "python", "y = 2\n"))
    seen: list[str | None] = []

    def look() -> None:
        folder, path = session.locate(tmp_path / "a.py")
        assert folder is not None
        assert folder.index is not None
        seen.append(folder.index.text(path))

    session.later(look)
    session.later(rules.unlink)
    done = threading.Event()
    session.later(lambda: session.files_changed([rules]))
    session.later(lambda: (session.later(look), session.later(done.set)))
    assert done.wait(30)
    assert seen == [None, "y = 2\n"]
    session.stop()

"""The watcher reports changes in batches, and asks for a rescan when it cannot tell."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
from pathlib import Path

import pytest

from qcoder.context.watch import EVENTS, MAX_BATCH, Watcher

TIMEOUT_S = 10.0


class Batches:
    """Collects batches until everything that a test waits for has come."""

    def __init__(self) -> None:
        self.queue: queue.Queue[frozenset[str] | None] = queue.Queue()

    def until(self, *paths: str) -> set[str]:
        seen: set[str] = set()
        while not seen.issuperset(paths):
            batch = self.queue.get(timeout=TIMEOUT_S)
            assert batch is not None
            seen |= batch
        return seen

    def until_rescan(self) -> None:
        while self.queue.get(timeout=TIMEOUT_S) is not None:
            pass


@pytest.fixture
def batches() -> Batches:
    return Batches()


def test_created_modified_moved_and_deleted_files_are_reported(
    tmp_path: Path, batches: Batches
) -> None:
    (tmp_path / "old.py").write_text("a")
    watcher = Watcher(tmp_path, batches.queue.put, debounce_s=0.02)
    assert watcher.start()
    try:
        (tmp_path / "new.py").write_text("a")
        batches.until("new.py")
        (tmp_path / "old.py").write_text("b")
        batches.until("old.py")
        os.replace(tmp_path / "old.py", tmp_path / "moved.py")
        batches.until("old.py", "moved.py")
        (tmp_path / "new.py").unlink()
        batches.until("new.py")
        (tmp_path / "sub" / "deep").mkdir(parents=True)
        (tmp_path / "sub" / "deep" / "x.py").write_text("a")
        batches.until("sub/deep/x.py")
    finally:
        watcher.stop()


def test_git_folder_is_not_reported(tmp_path: Path, batches: Batches) -> None:
    (tmp_path / ".git").mkdir()
    watcher = Watcher(tmp_path, batches.queue.put, debounce_s=0.02)
    assert watcher.start()
    try:
        (tmp_path / ".git" / "index").write_text("x")
        (tmp_path / "a.py").write_text("x")
        seen = batches.until("a.py")
        assert not any(path.startswith(".git/") for path in seen)
    finally:
        watcher.stop()


def test_ignore_file_is_reported_like_any_other(tmp_path: Path, batches: Batches) -> None:
    watcher = Watcher(tmp_path, batches.queue.put, debounce_s=0.02)
    assert watcher.start()
    try:
        (tmp_path / ".gitignore").write_text("x\n")
        batches.until(".gitignore")
    finally:
        watcher.stop()


def test_burst_becomes_one_rescan(tmp_path: Path, batches: Batches) -> None:
    watcher = Watcher(tmp_path, batches.queue.put, debounce_s=0.05)
    assert watcher.start()
    try:
        watcher.changed(*(str(tmp_path / f"f{i}.py") for i in range(MAX_BATCH + 1)))
        batches.until_rescan()
    finally:
        watcher.stop()


def test_lost_events_ask_for_a_rescan(tmp_path: Path, batches: Batches) -> None:
    watcher = Watcher(tmp_path, batches.queue.put, debounce_s=0.02)
    assert watcher.start()
    try:
        logger = logging.getLogger("watchdog.observers.inotify")
        logger.warning("Inotify queue overflowed; reconciling")
        batches.until_rescan()
    finally:
        watcher.stop()


def test_reading_raises_no_event(tmp_path: Path, batches: Batches) -> None:
    (tmp_path / "a.py").write_text("x")
    watcher = Watcher(tmp_path, batches.queue.put, debounce_s=0.02)
    assert watcher.start()
    try:
        (tmp_path / "a.py").read_text()
        subprocess.run(["ls", str(tmp_path)], check=True, capture_output=True)
        (tmp_path / "b.py").write_text("x")
        assert batches.until("b.py") == {"b.py"}
        assert not any("Open" in event.__name__ or "Close" in event.__name__ for event in EVENTS)
    finally:
        watcher.stop()


def test_failed_callback_does_not_end_the_watching(tmp_path: Path, batches: Batches) -> None:
    def explode_once(batch: frozenset[str] | None) -> None:
        batches.queue.put(batch)
        if batch and "bad.py" in batch:
            raise RuntimeError("a reader's bug")

    watcher = Watcher(tmp_path, explode_once, debounce_s=0.02)
    assert watcher.start()
    try:
        (tmp_path / "bad.py").write_text("x")
        batches.until("bad.py")
        (tmp_path / "good.py").write_text("x")
        batches.until("good.py")
    finally:
        watcher.stop()


def test_missing_root_costs_one_log_line(
    tmp_path: Path, batches: Batches, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(tmp_path / "nowhere", batches.queue.put)
    assert not watcher.start()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    watcher.stop()
    watcher.stop()

"""Branch switches and bursts of changes: nothing is lost between the disk and the index."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from qcoder.context.index import Index
from qcoder.context.watch import Watcher

WAIT_S = 300.0


class Following:
    """An index that follows its folder as the server does."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.index = Index.open(root, cache)
        self.index.refresh()
        self._changed = threading.Condition()
        self.watcher = Watcher(root, self._update)

    def _update(self, paths: frozenset[str] | None) -> None:
        if paths is None:
            self.index.refresh()
        else:
            self.index.update_all(tuple(paths))
        with self._changed:
            self._changed.notify_all()

    def until(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(reached, WAIT_S)


def git(root: Path, *args: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *args]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def test_branch_switch_leaves_the_index_of_that_branch(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "pkg").mkdir(parents=True)
    git(root, "init", "-q", "-b", "one")
    for i in range(63):
        (root / "pkg" / f"m{i}.py").write_text(f"def one_{i}(): pass\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    git(root, "checkout", "-qb", "two")
    for i in range(0, 63, 2):
        (root / "pkg" / f"m{i}.py").unlink()
        (root / f"n{i}.py").write_text(f"def two_{i}(): pass\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "two")
    following = Following(root, tmp_path / "cache")
    assert following.watcher.start()
    try:
        index = following.index
        git(root, "checkout", "-q", "one")
        following.until(lambda: index.is_defined("one_62") and not index.is_defined("two_62"))
        git(root, "checkout", "-q", "two")
        following.until(lambda: index.is_defined("two_62") and not index.is_defined("one_62"))
        rebuilt = Index.open(root, tmp_path / "other")
        rebuilt.refresh()
        following.until(lambda: index.maps() == rebuilt.maps())
    finally:
        following.watcher.stop()


@pytest.mark.slow
def test_burst_of_twenty_thousand_changes_in_twelve_thousand_folders_loses_none(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    folders = [root / f"d{i % 110}" / f"e{i}" for i in range(12_000)]
    for folder in folders:
        folder.mkdir(parents=True)
    following = Following(root, tmp_path / "cache")
    assert following.watcher.start()
    try:
        for i in range(20_000):
            (folders[i % len(folders)] / f"m{i}.py").write_text(f"def name_{i}(): pass\n")
        following.until(lambda: following.index.num_files() == 20_000)
        for i in range(0, 20_000, 2):
            (folders[i % len(folders)] / f"m{i}.py").unlink()
        (folders[7] / "last.py").write_text("def last(): pass\n")
        following.until(lambda: following.index.num_files() == 10_001)
        assert following.index.is_defined("last")
        assert following.index.is_defined("name_19999")
        assert not following.index.is_defined("name_19998")
    finally:
        following.watcher.stop()

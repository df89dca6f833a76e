"""Which files change together."""

from __future__ import annotations

import subprocess
from pathlib import Path

from qcoder.context.history import history_of, parse_log, read_history


def test_log_is_cut_into_commits() -> None:
    log = "\x01\0\na.py\0b with space.py\0\x01\0\nc.py\0"
    assert parse_log(log) == [["a.py", "b with space.py"], ["c.py"]]
    assert parse_log("") == []


def test_small_and_late_commits_weigh_more() -> None:
    large = ["a", *(f"x{i}" for i in range(20))]
    history = history_of([["a", "b"], large, ["a", "b"]])
    best, *others = history.together("a")
    assert best[0] == "b"
    assert 0 < others[0][1] < best[1] < 1
    assert history.together("nobody") == ()


def test_commit_that_touches_everything_says_nothing() -> None:
    assert history_of([[f"f{i}" for i in range(500)]]).partners == {}


def test_real_repository_is_read(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    git("init", "-q")
    for text in ("1", "2"):
        for name in ("a.py", "é.py"):
            (tmp_path / name).write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", "x")
    assert [path for path, _ in read_history(tmp_path).together("a.py")] == ["é.py"]


def test_folder_without_git_has_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "missing").partners == {}

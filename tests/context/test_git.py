"""What a repository configures is not run, whatever is asked of git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from qcoder.context.git import GitError, git_output, no_filters
from qcoder.context.history import read_history


def git(root: Path, *arguments: str, text: bytes = b"") -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    done = subprocess.run(
        command, cwd=root, env=environment, check=True, capture_output=True, input=text
    )
    return done.stdout.decode().strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    git(root, "init", "-q")
    for name in ("a.py", "b.py"):
        (root / name).write_text("x = 1\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that leaves a mark beside itself when it runs."""
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    program.chmod(0o755)
    return program


def ran(program: Path) -> bool:
    return (program.parent / "ran").exists()


def test_signatures_in_the_history_are_not_checked(root: Path, program: Path) -> None:
    tree = git(root, "write-tree")
    commit = f"""tree {tree}
author a <a> 1700000000 +0000
committer a <a> 1700000000 +0000
gpgsig -----BEGIN PGP SIGNATURE-----
 iQ=
 -----END PGP SIGNATURE-----

message
"""
    made = git(root, "hash-object", "-t", "commit", "-w", "--stdin", text=commit.encode())
    git(root, "update-ref", "HEAD", made)
    git(root, "config", "log.showSignature", "true")
    git(root, "config", "gpg.program", str(program))
    assert [path for path, _ in read_history(root).together("a.py")] == ["b.py"]
    assert not ran(program)


def without_content(root: Path, program: Path) -> None:
    """A partial clone that would fetch the missing content by a program."""
    for entry in git(root, "ls-tree", "HEAD").splitlines():
        blob = entry.split()[2]
        (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink(missing_ok=True)
    for name, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(root),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": str(program),
    }.items():
        git(root, "config", name, value)


def test_missing_content_is_not_fetched(root: Path, program: Path) -> None:
    without_content(root, program)
    with pytest.raises(GitError):
        git_output(root, "cat-file", "blob", "HEAD:b.py")
    assert not ran(program)


def test_history_needs_no_content(root: Path, program: Path) -> None:
    git(root, "mv", "a.py", "c.py")
    (root / "c.py").write_text("x = 1\ny = 2\n")
    git(root, "rm", "-q", "--cached", "b.py")
    git(root, "commit", "-qam", "rename")
    without_content(root, program)
    assert {path for path, _ in read_history(root).together("c.py")} == {"a.py", "b.py"}
    assert not ran(program)


def test_content_filters_are_switched_off(root: Path, program: Path) -> None:
    (root / ".gitattributes").write_text("*.py filter=x\n")
    git(root, "config", "filter.x.clean", str(program))
    git(root, "config", "filter.x.required", "true")
    (root / "a.py").write_text("x = 2\n")
    settings = no_filters(root)
    assert settings == ["filter.x.clean=", "filter.x.required=false"]
    assert b"+x = 2" in git_output(root, "diff", "HEAD", settings=settings)
    assert not ran(program)


def test_filter_that_cannot_be_switched_off_is_an_error(root: Path, program: Path) -> None:
    git(root, "config", "filter.x=y.clean", str(program))
    with pytest.raises(GitError, match="x=y"):
        no_filters(root)


def test_environment_names_no_other_repository(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert git_output(root, "ls-files") == b"a.py\nb.py\n"


def test_failure_says_what_git_said(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not a git repository"):
        git_output(tmp_path, "log")
    with pytest.raises(GitError, match="could not be run"):
        git_output(tmp_path / "missing", "log")

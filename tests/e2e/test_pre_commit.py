"""The hook that `.pre-commit-hooks.yaml` offers, in a repository of a user, run by pre-commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
LEAK = "def load(path):\n    handle = open(path)\n    return handle.read()\n"
CLEAN = "def load(path):\n    with open(path) as handle:\n        return handle.read()\n"
PROGRAM = Path(sys.executable).with_name("pre-commit")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not PROGRAM.exists() or shutil.which("git") is None:
        pytest.skip("pre-commit or git is not installed")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    # Installing this checkout into an environment of its own would need a network.
    local = {**hook, "language": "system"}
    local.pop("minimum_pre_commit_version")
    folder = tmp_path / "repository"
    folder.mkdir()
    config = {"repos": [{"repo": "local", "hooks": [local]}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (folder / "clean.py").write_text(CLEAN)
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(folder)
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first")
    return folder


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([PROGRAM, "run", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_hook_passes_clean_files_and_stops_a_leak(repository: Path) -> None:
    code, out = run("--all-files")
    assert code == 0, out
    (repository / "leak.py").write_text(LEAK)
    git("add", "leak.py")
    for arguments in ((), ("--all-files",)):
        code, out = run(*arguments)
        assert code == 1
        assert "leak.py:2:14: warning:" in out
        assert "clean.py" not in out


def test_a_leak_that_is_committed_already_is_found_by_all_files(repository: Path) -> None:
    (repository / "leak.py").write_text(LEAK)
    git("add", "leak.py")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qnm", "second")
    code, out = run("--all-files")
    assert code == 1
    assert "resource-leak" in out

"""The benchmark of the default model scores any folder of repositories with one command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "default_model.py"
LINES = """
    def add_{n}(self, value: int) -> None:
        self.total_{n} = self.total_{n} + value
        self.history.append(("add_{n}", value))
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(SCRIPT), *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_listed_files_of_other_repositories_are_scored(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        methods = "".join(LINES.format(n=n) for n in range(6))
        (tmp_path / "repo").mkdir(exist_ok=True)
        (tmp_path / "repo" / name).write_text(f"class Sum:{methods}")
    names = tmp_path / "files.txt"
    names.write_text("repo/a.py\nrepo/missing.go\n")
    arguments = ("--root", ".", "--files", "files.txt", "--holes", "4", "--format", "json")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    figures = result["figures"]
    assert figures["python_files"] == 1
    assert figures["python_holes_count"] == 4
    # The other file has every line of this one.
    assert figures["python_copy_token_accuracy"] > 0.9
    assert figures["python_nested_token_accuracy"] > 0.9
    assert {"commit", "machine", "seed", "targets", "notes"} <= set(result)
    assert any("missing.go" in note for note in result["notes"])
    wanted = {target["figure"] for target in result["targets"]}
    assert "python_mixture_minus_best_peer_token_accuracy" in wanted
    assert not any(name.startswith(("go_", "rust_")) for name in wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--root", "."), "--root and --files belong together"),
        (("--root", ".", "--files", "missing.txt"), "missing.txt: cannot be read"),
    ],
)
def test_wrong_usage_is_said(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr

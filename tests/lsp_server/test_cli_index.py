import json
import subprocess
import sys
from pathlib import Path

import pytest

from qcoder.lsp_server.cli import main

KEYS = {
    "files", "skipped", "lines", "symbols", "languages", "seconds", "cpu_seconds", "peak_rss_mb",
    "cache_bytes",
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    return tmp_path


def test_index_reports_what_it_found(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / ".env").write_text("KEY=1\n")
    assert main(["index", ".", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= KEYS
    assert (found["languages"]["python"], found["symbols"]) == (1, 1)
    assert found["skipped"] == {"secret by name": 1}


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.py", None, None),
        ("missing.py", None, "no such file"),
        ("id_rsa", b"x", "secret by name"),
        ("b.py", b"k = '-----BEGIN PRIVATE KEY-----'\n", "secret in content"),
        ("c.py", b"\0\1", "binary"),
        ("private/d.py", b"x = 1\n", "excluded by settings"),
        ("node_modules/e.js", b"x = 1\n", "ignored by"),
        ("skip.py", b"x = 1\n", "ignored by"),
    ],
)
def test_doctor_says_why_a_file_is_not_read(
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    path: str,
    content: bytes | None,
    reason: str | None,
) -> None:
    (workspace / "qcoder.toml").write_text('[privacy]\nexclude = ["private/"]\n')
    (workspace / ".qcoderignore").write_text("skip.py\n")
    if content is not None:
        (workspace / path).parent.mkdir(exist_ok=True)
        (workspace / path).write_bytes(content)
    assert main(["doctor", "--why", path, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == path
    assert found["read"] == (reason is None)
    assert (reason or "None") in str(found["reason"])


def test_doctor_checks_every_part(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--format", "json"])
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) >= {"version", "torch", "model", "grammars", "cache", "git", "settings"}
    assert code == (0 if all(row["ok"] for row in rows.values()) else 1)
    assert rows["grammars"]["ok"]


def test_doctor_names_wrong_settings(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "qcoder.toml").write_text("[completion]\nmin_charz = 3\n")
    assert main(["doctor"]) == 1
    assert "min_charz" in capsys.readouterr().out


def test_indexing_loads_no_engine(workspace: Path) -> None:
    program = (
        "import sys; from qcoder.lsp_server.cli import main\n"
        "assert main(['index', '.']) == 0\n"
        "assert not {'torch', 'pygls'} & set(sys.modules), 'too much imported'"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=workspace, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_doctor_says_that_a_tracked_file_is_read_though_a_rule_ignores_it(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / ".gitignore").write_text("*.gen.py\n")
    (workspace / "a.gen.py").write_text("x = 1\n")
    for words in (["init", "-q"], ["add", "-f", "a.gen.py"]):
        subprocess.run(["git", *words], cwd=workspace, check=True)
    assert main(["doctor", "--why", "a.gen.py", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["read"]

from pathlib import Path

import pytest

from qcoder.lsp_server.cli import main


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_docstring_write_changes_only_that_and_keeps_line_ends(repository: Path) -> None:
    path = repository / "c.py"
    path.write_bytes(b"def load(path):\r\n    return path\r\n")
    assert main(["docstring", "c.py", "--check"]) == 1
    assert main(["docstring", "c.py", "--write", "--model", "none"]) == 0
    data = path.read_bytes()
    assert b'"""Provide `load`."""\r\n\r\ndef load(path):\r\n    """Load.\r\n' in data
    assert data.count(b"\n") == data.count(b"\r\n")
    assert main(["docstring", "c.py", "--check"]) == 0


def test_docstring_write_refuses_what_it_cannot_keep(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "c.py").write_bytes(b"# \xff\ndef load(path):\n    return path\n")
    assert main(["docstring", "c.py", "--write", "--model", "none"]) == 2
    assert "UTF-8" in capsys.readouterr().err
    assert (repository / "c.py").read_bytes().startswith(b"# \xff\n")

import json
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


DRIFTED = '''"""A module."""


def add(first, third):
    """Add.

    Args:
        first: A.
        second: B.
    """
'''


def test_check_names_drift_and_update_mends_it(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "a.py").write_text(DRIFTED)
    assert main(["docstring", "a.py", "--check"]) == 1
    line = "a.py:9: renamed-parameter: `add`: `second` is called `third` in the code\n"
    assert capsys.readouterr().out == line
    assert main(["docstring", "a.py", "--write", "--model", "none"]) == 0
    assert (repository / "a.py").read_text() == DRIFTED
    assert main(["docstring", "a.py", "--update", "--diff", "--model", "none"]) == 0
    assert "-        second: B.\n+        third: B.\n" in capsys.readouterr().out
    assert main(["docstring", "a.py", "--update", "--write", "--model", "none"]) == 0
    assert (repository / "a.py").read_text() == DRIFTED.replace("second", "third")
    assert main(["docstring", "a.py", "--check"]) == 0


def test_check_as_json_has_what_is_missing_and_what_has_drifted(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "a.py").write_text(DRIFTED + "\n\nclass Store:\n    size = 1\n")
    assert main(["docstring", "a.py", "--check", "--format", "json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [e["symbol"] for e in result["edits"]] == ["Store"]
    assert [(d["rule"], d["symbol"], d["line"]) for d in result["drift"]] == [
        ("renamed-parameter", "add", 9)
    ]
    assert result["stats"] == {"symbols": 1, "drift": 1, "files": 1, "written": False}


def test_folders_are_walked_and_files_without_docstrings_of_their_own_left_out(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "package").mkdir()
    (repository / "package" / "a.py").write_text("def load(path):\n    return path\n")
    (repository / "package" / "b.go").write_text("package b\n\nfunc Load() {}\n")
    (repository / "package" / "c.json").write_text("{}\n")
    (repository / "other.py").write_text("def load(path):\n    return path\n")
    assert main(["docstring", "package", "--check", "--format", "json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert {e["path"].split("/")[-1] for e in result["edits"]} == {"a.py", "b.go"}
    assert main(["docstring", "package", "--write", "--model", "none"]) == 0
    assert "// Load loads.\nfunc Load() {}" in (repository / "package" / "b.go").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.py", "b.py", "--symbol", "add"], "exactly one file"),
        (["missing.py"], "no such file or folder"),
        (["a.py", "--symbol", "nobody"], "is not there"),
        (["a.py", "--style", "javadoc"], "google, numpy, sphinx"),
        (["secrets.py"], "privacy"),
    ],
)
def test_wrong_use_says_what_and_what_to_do(
    repository: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (repository / "a.py").write_text(DRIFTED)
    (repository / "b.py").write_text(DRIFTED)
    (repository / "secrets.py").write_text(DRIFTED)
    assert main(["docstring", *arguments, "--model", "none"]) == 2
    assert message in capsys.readouterr().err


def test_style_follows_the_project_where_the_file_has_none(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "pyproject.toml").write_text(
        '[tool.ruff.lint.pydocstyle]\nconvention = "numpy"\n'
        "[tool.pydoclint]\narg-type-hints-in-docstring = false\n"
    )
    (repository / "a.py").write_text("def load_users(path: str) -> list[str]:\n    return []\n")
    main(["docstring", "a.py", "--model", "none", "--format", "json", "--symbol", "load_users"])
    (edit,) = json.loads(capsys.readouterr().out)["edits"]
    assert edit["style"] == "numpy"
    assert edit["docstring"].split("\n")[2:6] == [
        "Parameters", "----------", "path", "    The path.",
    ]  # fmt: skip


def test_update_keeps_the_line_ends_of_windows(repository: Path) -> None:
    (repository / "a.py").write_bytes(DRIFTED.replace("\n", "\r\n").encode())
    assert main(["docstring", "a.py", "--update", "--write", "--model", "none"]) == 0
    expected = DRIFTED.replace("second", "third").replace("\n", "\r\n").encode()
    assert (repository / "a.py").read_bytes() == expected


def test_a_bad_file_below_a_folder_costs_that_file(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "package").mkdir()
    (repository / "package" / "a.py").write_bytes(b"# \xff\ndef load(path):\n    return path\n")
    (repository / "package" / "b.py").write_text("def load(path):\n    return path\n")
    (repository / "package" / "c.go").write_text("package c\n\nfunc Load() {}\n")
    arguments = ["docstring", "package", "--write", "--model", "none", "--style", "numpy"]
    assert main(arguments) == 0
    assert "a.py: is not UTF-8" in capsys.readouterr().err
    assert "Parameters\n" in (repository / "package" / "b.py").read_text()
    assert "// Load loads." in (repository / "package" / "c.go").read_text()

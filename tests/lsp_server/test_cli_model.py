"""`qcoder model`: what is printed, and one line with exit code 2 for what cannot be used."""

import json
import os
import shutil
from pathlib import Path

import pytest

from qcoder.lsp_server.cli import main
from qcoder.model.registry import DEFAULT_FOLDER, models_folder


@pytest.fixture
def models() -> Path:
    """The user's folder of models, which is this test's own and empty."""
    return models_folder()


def test_an_imported_model_is_listed_described_and_checked(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--name", "small", "--quantize", "int4", "--format", "json"]
    assert main(["model", "import", str(DEFAULT_FOLDER), *arguments]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["name"], made["quantization"]) == ("small", "qcoder-int4")
    assert main(["model", "list", "--format", "json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["default", "small"]
    assert main(["model", "info", "small"]) == 0
    assert " GB, " in capsys.readouterr().out
    assert main(["model", "check", "small"]) == 0
    capsys.readouterr()
    with (models / "small" / "tokenizer.json").open("r+b") as file:
        file.write(b"[")
    assert main(["model", "check", "small"]) == 2
    assert "checksum differs: tokenizer.json" in capsys.readouterr().err


def test_the_shipped_model_needs_no_import(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "check", "--format", "json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["is_default"]
    assert 0 < info["weight_bytes"] < info["needs_bytes"]


def test_a_truncated_source_is_one_line_and_leaves_nothing(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(DEFAULT_FOLDER, source)
    (source / "MANIFEST.json").unlink()
    os.truncate(source / "model.safetensors", 100_000)
    assert main(["model", "import", str(source), "--name", "cut"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "model.safetensors: damaged or cut short" in output.err
    assert "download the checkpoint again" in output.err
    assert not models.exists() or not list(models.iterdir())


@pytest.mark.parametrize("name", ["default", "../up", "", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_name_is_refused(
    name: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "import", str(DEFAULT_FOLDER), "--name", name]) == 2
    assert "use letters, digits" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["plain", "small.gguf"])
def test_an_export_can_be_imported_again(
    target: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "export", "default", str(tmp_path / target)]) == 0
    assert main(["model", "import", str(tmp_path / target), "--name", "again"]) == 0
    assert main(["model", "check", "again"]) == 0
    capsys.readouterr()
    assert main(["model", "export", "default", str(tmp_path / target)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_unknown_model_names_the_known_ones(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "info", "nothing"]) == 2
    assert "known names: default" in capsys.readouterr().err

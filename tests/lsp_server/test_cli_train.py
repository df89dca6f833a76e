"""`qcoder train`: what it refuses, what it passes on, what it removes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qcoder.lsp_server import cli_train
from qcoder.lsp_server.cli import main
from qcoder.lsp_server.cli_engine import workspace_model
from qcoder.lsp_server.settings import ModelSettings, Settings
from qcoder.model import adapted
from qcoder.model.registry import DEFAULT_FOLDER


def installed(root: Path) -> Path:
    """An adapted model of a workspace, as far as finding it goes."""
    staged = adapted.stage(root)
    (staged / "config.json").write_text("{}")
    facts = {
        "workspace": str(root),
        "base": "default",
        "base_sha256": adapted.base_checksum(DEFAULT_FOLDER),
    }
    (staged / "MANIFEST.json").write_text(json.dumps({adapted.SECTION: facts, "files": {}}))
    return adapted.install(staged, root)


def test_a_small_workspace_is_refused_with_what_it_lacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("value = 1\n" * 50)
    (tmp_path / "id_rsa").write_text("x\n")
    assert main(["train", "--workspace", str(tmp_path), "--minutes", "1"]) == 2
    message = capfd.readouterr().err
    assert "1 source files with 50 lines are too few" in message
    assert "20 files and 2000 lines" in message
    assert "1 secret by name" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workspace", "/no/such/folder"], "no such folder"),
        (["--workspace", "/", "--minutes", "0"], "must be more than 0"),
        (["--workspace", "/", "--minutes", "nan"], "must be more than 0"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_users_exclusions_reach_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(cli_train, "run", lambda command: commands.append(command) or 0)
    (tmp_path / "qcoder.toml").write_text('[privacy]\nexclude = ["customers/**", "-x"]\n')
    assert main(["train", "--workspace", str(tmp_path)]) == 0
    assert commands[0][-2:] == ["--exclude=customers/**", "--exclude=-x"]


def test_a_signal_ends_the_child_and_says_that_nothing_was_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    assert cli_train.run([sys.executable, "-c", code]) == 130
    assert "nothing was installed" in capsys.readouterr().err


def test_the_childs_exit_code_is_the_commands() -> None:
    assert cli_train.run([sys.executable, "-c", "raise SystemExit(2)"]) == 2


def test_remove_deletes_the_model_of_the_workspace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = installed(tmp_path)
    for known in (True, False):
        assert main(["train", "--workspace", str(tmp_path), "--remove", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["removed"] == known
    assert not folder.exists()


def test_model_list_shows_what_was_trained_on_which_workspace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = installed(tmp_path)
    assert main(["model", "list", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1:] == [
        {
            "name": folder.name,
            "path": str(folder),
            "workspace": str(tmp_path),
            "current": True,
        }
    ]
    assert main(["model", "list"]) == 0
    assert f"trained on {tmp_path}" in capsys.readouterr().out


def test_commands_use_the_adapted_model_unless_told_otherwise(tmp_path: Path) -> None:
    folder = installed(tmp_path)
    off = Settings(model=ModelSettings(adapted=False))
    assert workspace_model(None, tmp_path, Settings()) == str(folder)
    assert workspace_model("default", tmp_path, Settings()) == "default"
    assert workspace_model(None, tmp_path, off) == "default"
    assert workspace_model(None, tmp_path / "other", Settings()) == "default"

"""Models trained on a workspace: found for it alone, replaced whole, gone when removed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from qcoder.model import adapted, registry
from qcoder.model.config import load_config
from qcoder.model.errors import CheckpointError
from qcoder.model.local import describe
from qcoder.model.manifest import sha256


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fresh user folders, and a default model of three files."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    base = tmp_path / "base"
    base.mkdir()
    fill(base, "base weights", {"name": "qcoder-nano", "fim_order": "spm"})
    monkeypatch.setattr(registry, "DEFAULT_FOLDER", base)
    return tmp_path


def fill(folder: Path, weights: str, manifest: dict[str, object]) -> None:
    """A model's folder, as far as finding it goes."""
    (folder / "config.json").write_text("{}")
    (folder / adapted.WEIGHTS).write_text(weights)
    files = {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in ("config.json", adapted.WEIGHTS)
    }
    (folder / "MANIFEST.json").write_text(json.dumps({**manifest, "files": files}))


def facts(root: Path) -> dict[str, object]:
    """What ties a model to its workspace and base."""
    checksum = adapted.base_checksum(registry.DEFAULT_FOLDER)
    return {"workspace": str(root), "base": "default", "base_sha256": checksum}


def installed(root: Path, weights: str = "new weights") -> Path:
    """Stage and install a model of a workspace."""
    staged = adapted.stage(root)
    fill(staged, weights, {"name": "x", adapted.SECTION: facts(root)})
    return adapted.install(staged, root)


def test_an_adapted_model_is_used_for_its_workspace_and_no_other(data: Path) -> None:
    mine, other = data / "mine", data / "other" / "mine"
    assert adapted.model_for(mine) == "default"
    folder = installed(mine)
    assert adapted.model_for(mine) == str(folder)
    assert adapted.model_for(other) == "default"
    assert adapted.model_for(None) == "default"
    assert adapted.model_for(mine, "some/checkpoint") == "some/checkpoint"


def test_a_workspace_is_known_by_its_real_path(data: Path) -> None:
    (data / "mine").mkdir()
    (data / "link").symlink_to("mine")
    assert adapted.adapted_name(data / "link") == adapted.adapted_name(data / "mine")


def test_another_base_model_hides_what_was_trained_from_the_old_one(data: Path) -> None:
    folder = installed(data / "mine")
    fill(registry.DEFAULT_FOLDER, "weights of the next release", {"name": "qcoder-nano"})
    assert adapted.model_for(data / "mine") == "default"
    assert [(row.name, row.current) for row in adapted.adapted_models()] == [(folder.name, False)]


def test_weights_that_changed_on_disk_are_passed_over(data: Path) -> None:
    folder = installed(data / "mine", "right")
    (folder / adapted.WEIGHTS).write_text("wrong")
    assert adapted.model_for(data / "mine") == "default"


@pytest.mark.parametrize("damage", ["weights", "manifest", "section"])
def test_a_damaged_model_is_passed_over(data: Path, damage: str) -> None:
    folder = installed(data / "mine")
    if damage == "weights":
        (folder / adapted.WEIGHTS).write_text("half")
    elif damage == "manifest":
        (folder / "MANIFEST.json").write_text("{")
    else:
        fill(folder, "new weights", {adapted.SECTION: {"workspace": "x"}})
    assert adapted.model_for(data / "mine") == "default"
    assert adapted.adapted_models() == []


def test_installing_again_replaces_the_model_and_leaves_nothing_behind(data: Path) -> None:
    installed(data / "mine", "first")
    folder = installed(data / "mine", "second")
    assert (folder / adapted.WEIGHTS).read_text() == "second"
    assert registry.model_names() == ("default", folder.name)
    assert list((registry.models_folder().parent / "staging").iterdir()) == []


def test_weights_of_private_code_are_readable_by_their_owner_alone(data: Path) -> None:
    assert installed(data / "mine").stat().st_mode & 0o077 == 0


def test_removing_deletes_the_model_and_what_a_killed_run_left(data: Path) -> None:
    root = data / "mine"
    folder = installed(root)
    staging = registry.models_folder().parent / "staging"
    ended = staging / f"{folder.name}.{2**22 + 1}.abc"  # above the largest process id
    running = staging / f"{folder.name}.{os.getpid()}.abc"
    for path in (ended, running):
        path.mkdir()
    assert adapted.remove(root)
    assert (folder.exists(), ended.exists(), running.exists()) == (False, False, True)
    assert not adapted.remove(root)


def test_an_adapted_default_is_prompted_like_the_default(data: Path, tiny_int8: Any) -> None:
    folder = tiny_int8.folder
    config = load_config(folder)
    manifest = {"name": "x", adapted.SECTION: facts(data / "mine")}
    assert describe(folder, config, manifest, 64).is_default
    assert not describe(folder, config, {"name": "x"}, 64).is_default


def test_a_base_without_checksums_is_refused(data: Path) -> None:
    (data / "plain").mkdir()
    with pytest.raises(CheckpointError, match=r"has no MANIFEST\.json"):
        adapted.base_checksum(data / "plain")


def test_an_adapted_model_is_no_base_for_another_workspace(data: Path) -> None:
    folder = installed(data / "mine")
    with pytest.raises(CheckpointError, match="itself trained on a workspace"):
        adapted.base_checksum(folder)

"""Models that were trained further on one workspace: where they live and when they count.

`qcoder train` makes them, a folder each among the user's models, named after the base model and the
workspace. One counts only for its workspace, and only as long as the base that it came from is the
one that would run without it: a newer default model is not hidden by weights of an older one.
Nothing here writes into a workspace, and no workspace can name a model.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcoder.model.errors import CheckpointError
from qcoder.model.manifest import read_manifest, verify
from qcoder.model.processes import is_running
from qcoder.model.registry import DEFAULT_NAME, find_model, model_names, models_folder

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
SECTION = "adapted"
"""Key of MANIFEST.json that an adapted model has; see `training/candidate.py` for what is in it."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """An installed model of a workspace. `current`: its base is the one that is installed now."""

    name: str
    folder: Path
    workspace: Path
    current: bool
    facts: dict[str, Any]


def adapted_name(root: Path, base: str = DEFAULT_NAME) -> str:
    """Name of the model of a workspace: `default@project-1a2b3c4d5e6f`."""
    root = root.resolve()
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    return f"{_slug(Path(base).name)}@{_slug(root.name)}-{digest}"


def base_checksum(folder: Path) -> str:
    """What identifies a base model: the checksum of its weights, as its manifest says.

    Raises `CheckpointError` for a folder without one, and for a model that is itself adapted: what was
    learned from one workspace must not reach another.
    """
    manifest = read_manifest(folder)
    if SECTION in manifest:
        raise CheckpointError(
            f"{folder}: was itself trained on a workspace; start from the model that it came from"
        )
    facts = manifest.get("files", {}).get(WEIGHTS)
    if facts is None:
        raise CheckpointError(
            f"{folder}: has no MANIFEST.json with a checksum of {WEIGHTS}, so models trained from it "
            "cannot be told apart; use the default model or one exported by qcoder.training.export"
        )
    return str(facts["sha256"])


def adapted_folder(root: Path, name: str = DEFAULT_NAME) -> Path | None:
    """Where the model of a workspace is, None when there is none; `model_for` says whether it counts."""
    folder = models_folder() / adapted_name(root, name)
    return folder if folder.is_dir() else None


def model_for(root: Path | None, name: str = DEFAULT_NAME) -> str:
    """What to load for a workspace when `name` is asked for: its adapted model's folder, or `name`.

    Never raises: a damaged or outdated adapted model costs one log line and is passed over.
    """
    folder = adapted_folder(root, name) if root is not None else None
    if folder is None:
        return name
    try:
        verify(folder)
        found = _describe(folder)
    except CheckpointError as error:
        logger.warning("adapted model is passed over: %s", error)
        return name
    if found is None or not found.current:
        logger.warning("adapted model %s is passed over: it comes from another base", folder.name)
        return name
    return str(folder)


def is_adapted_default(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is that of a model trained further from the default one."""
    facts = manifest.get(SECTION)
    return isinstance(facts, dict) and facts.get("base") == DEFAULT_NAME


def adapted_models() -> list[Adapted]:
    """All installed ones, by name; damaged ones are left out with a log line."""
    found = []
    for path in sorted(models_folder().glob("*@*/config.json")):
        try:
            adapted = _describe(path.parent)
        except CheckpointError as error:
            logger.warning("adapted model is left out: %s", error)
            continue
        found += [adapted] if adapted is not None else []
    return found


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that `model.name` takes; `place` is its folder, or `shipped`."""

    name: str
    place: str
    adapted: Adapted | None

    @property
    def description(self) -> str:
        """Where it is; of one that was trained on a workspace also on which, and whether it counts."""
        if self.adapted is None:
            return self.place
        note = f"{self.place}  trained on {self.adapted.workspace}"
        return note + ("" if self.adapted.current else ", from another base: train it again")


def listed_models() -> list[Listed]:
    """Every installed model, the default first."""
    adapted = {row.name: row for row in adapted_models()}
    shipped, *others = model_names()
    return [
        Listed(shipped, "shipped", None),
        *(Listed(name, str(models_folder() / name), adapted.get(name)) for name in others),
    ]


def stage(root: Path, base: str = DEFAULT_NAME) -> Path:
    """An empty folder, readable by the user alone, on the file system of the installed models."""
    name = adapted_name(root, base)
    staging = models_folder().parent / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    for left in _abandoned(staging, name):
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.{os.getpid()}.", dir=staging))


def install(staged: Path, root: Path, base: str = DEFAULT_NAME) -> Path:
    """Rename a finished folder of `stage` into place; replaces what was there. Returns the place.

    Between two renames there is no adapted model for an instant, never half of one.
    """
    for path in staged.iterdir():
        _sync(path)
    folder = models_folder() / adapted_name(root, base)
    folder.parent.mkdir(parents=True, exist_ok=True)
    replaced = staged.with_name(staged.name + ".old")
    if folder.exists():
        folder.rename(replaced)
    staged.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return folder


def remove(root: Path, base: str = DEFAULT_NAME) -> bool:
    """Delete the model of a workspace and what broken runs left; whether there was one."""
    name = adapted_name(root, base)
    folder = models_folder() / name
    known = folder.is_dir()
    for path in [*_abandoned(models_folder().parent / "staging", name), folder]:
        if path.is_dir():
            shutil.rmtree(path)
    return known


def _describe(folder: Path) -> Adapted | None:
    """What an installed folder is; None when it is no adapted model."""
    manifest = read_manifest(folder)
    facts = manifest.get(SECTION)
    if not isinstance(facts, dict):
        return None
    try:
        workspace, base, checksum = (
            str(facts[key]) for key in ("workspace", "base", "base_sha256")
        )
    except KeyError as error:
        raise CheckpointError(f"{folder}: its manifest lacks {error}; train it again") from None
    try:
        current = base_checksum(find_model(base)) == checksum
    except CheckpointError:
        current = False  # the base is gone
    return Adapted(folder.name, folder, Path(workspace), current, facts)


def _abandoned(staging: Path, name: str) -> Iterator[Path]:
    """Staged folders of a model whose process has ended."""
    for path in staging.glob(f"{name}.*"):
        process = path.name.removeprefix(name + ".").partition(".")[0]
        if not (process.isdigit() and is_running(int(process))):
            yield path


def _slug(name: str) -> str:
    """A file name of a folder's name: short, of harmless characters, without `@`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:40].strip(".-") or "workspace"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

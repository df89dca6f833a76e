"""Engine and index for commands: loading with clear errors, progress on a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from qcoder.context.index import Index
from qcoder.lsp_server.headless import InputError
from qcoder.lsp_server.settings import Settings, resolve_settings
from qcoder.model.adapted import model_for
from qcoder.model.engine import Engine
from qcoder.model.errors import ModelError
from qcoder.model.registry import DEFAULT_NAME


def load_engine(name: str | None) -> Engine:
    """The engine of a checkpoint, or of the shipped model for None; raises `InputError`."""
    try:
        return Engine.load(name or DEFAULT_NAME)
    except ModelError as error:
        raise InputError(str(error)) from None


def workspace_model(name: str | None, root: Path | None, settings: Settings) -> str:
    """What `load_engine` gets for a file of a workspace: `name` as given on the command line, else
    the model of the settings, adapted to the workspace where that was trained and is wanted.
    """
    if name is not None:
        return name
    wanted = settings.model
    return model_for(root, wanted.name) if wanted.adapted else wanted.name


def settings_of(root: Path) -> Settings:
    """The user's settings, tightened by the workspace's file; problems go to stderr."""
    settings, problems = resolve_settings(roots=[root])
    for problem in problems:
        print(problem, file=sys.stderr)
    return settings


def workspace_index(root: Path, settings: Settings) -> Index:
    """The up-to-date index of a workspace, from its cache where that is still true."""
    index = Index.open(root, exclude=settings.privacy.exclude)
    index.refresh(progress=show_progress if sys.stderr.isatty() else None)
    index.save()
    return index


def show_progress(done: int, total: int) -> None:
    """A progress line on a terminal."""
    end = "\n" if done >= total else ""
    print(f"\rindexing {done}/{total}", end=end, file=sys.stderr, flush=True)

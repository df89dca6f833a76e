"""The engine for commands: which model, and clear errors when it does not load."""

from __future__ import annotations

from pathlib import Path

from qcoder.lsp_server.engines import shared_engine, spec_of
from qcoder.lsp_server.remote_model import remote_engine
from qcoder.lsp_server.settings import Settings, resolve_settings
from qcoder.model.adapted import model_for
from qcoder.model.engine import Engine
from qcoder.model.registry import DEFAULT_NAME


def load_engine(name: str | None) -> Engine:
    """The engine of a checkpoint, or of the shipped model for None; raises `ModelError`.

    Shared with the editors where the user's own settings say so.
    """
    wanted = resolve_settings()[0].model
    name = name or DEFAULT_NAME
    return shared_engine(spec_of(wanted, name)) if wanted.shared else Engine.load(name)


def remote_or_none(name: str | None, settings: Settings) -> Engine | None:
    """The remote engine of the settings, unless `name` chooses a local model; raises `RemoteError`."""
    return remote_engine(settings) if name is None else None


def workspace_model(name: str | None, root: Path | None, settings: Settings) -> str:
    """What `load_engine` gets for a file of a workspace: `name` as given on the command line, else
    the model of the settings, adapted to the workspace where that was trained and is wanted.
    """
    if name is not None:
        return name
    wanted = settings.model
    return model_for(root, wanted.name) if wanted.adapted else wanted.name

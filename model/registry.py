"""Which architectures run, and where models are found by name.

Values are "module:attribute", imported when a model of that kind is loaded.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from qcoder.model.errors import CheckpointError

ARCHITECTURES: dict[str, str] = {
    "qwen2": "qcoder.model.qwen2:Qwen2",
    "qwen3": "qcoder.model.qwen3:Qwen3",
    "qwen3_moe": "qcoder.model.qwen3_moe:Qwen3Moe",
    "qwen3_next": "qcoder.model.qwen3_next:Qwen3Next",
}
"""By `model_type` of config.json."""

DEFAULT_NAME = "default"
DEFAULT_FOLDER = Path(__file__).parent / "weights" / "qcoder_nano"
"""The model that the wheel ships."""


def network_class(model_type: str) -> Any:
    """The class that computes a `model_type` of `ARCHITECTURES`."""
    module, _, attribute = ARCHITECTURES[model_type].partition(":")
    return getattr(import_module(module), attribute)


def models_folder() -> Path:
    """Where imported models live, a folder each."""
    return Path(user_data_dir("qcoder", appauthor=False)) / "models"


def model_names() -> tuple[str, ...]:
    """Names that `find_model` knows: the default first, then what was imported."""
    folder = models_folder()
    found = sorted(p.parent.name for p in folder.glob("*/config.json")) if folder.is_dir() else []
    return (DEFAULT_NAME, *found)


def find_model(path_or_name: str) -> Path:
    """Folder of "default", of a checkpoint, or of an imported model's name."""
    if path_or_name == DEFAULT_NAME:
        if not (DEFAULT_FOLDER / "config.json").is_file():
            raise CheckpointError(
                f"{DEFAULT_FOLDER}: the default model is not in this installation; reinstall qcoder"
            )
        return DEFAULT_FOLDER
    path = Path(path_or_name).expanduser()
    # A bare name never means the current folder, which may be somebody else's workspace.
    is_name = path.name == path_or_name
    folder = models_folder() / path_or_name if is_name else path
    if (folder / "config.json").is_file():
        return folder
    if path.suffix == ".gguf" and path.is_file():
        raise CheckpointError(
            f"{path}: a GGUF file is imported first: `qcoder model import {path} --name {path.stem}`"
        )
    here = f"; the folder here is ./{path_or_name}" if is_name and path.is_dir() else ""
    raise CheckpointError(
        f"model {path_or_name!r}: neither a checkpoint folder (with config.json) nor an imported "
        f"model; known names: {', '.join(model_names())}{here}"
    )

"""Reads safetensors checkpoints, one file or shards, lazily and with clear messages.

`Checkpoint.tensor(name)` gives a float tensor; int8 rows with a `_scale` beside them are
dequantized here, so nothing above knows how weights lie on disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qcoder.model.errors import CheckpointError
from qcoder.model.quant import dequantize_int8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where every tensor of a checkpoint folder lies; nothing is read until asked for."""

    folder: Path
    files: dict[str, Path]

    @staticmethod
    def open(folder: Path) -> Checkpoint:
        """Find the shards of `folder` and the tensors in them; raises `CheckpointError`."""
        index = folder / "model.safetensors.index.json"
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            shards = [folder / name for name in names]
        else:
            shards = [folder / "model.safetensors"]
        files: dict[str, Path] = {}
        for shard in shards:
            if not shard.exists():
                raise CheckpointError(f"{shard}: file is missing; download the checkpoint again")
            try:
                with safe_open(shard, framework="pt") as reader:
                    files.update(dict.fromkeys(reader.keys(), shard))
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{shard}: damaged or cut short ({error}); download it again"
                ) from None
        return Checkpoint(folder, files)

    def _raw(self, name: str) -> Tensor:
        path = self.files.get(name)
        if path is None:
            raise CheckpointError(
                f"{self.folder}: tensor {name!r} is missing; download the checkpoint again"
            )
        try:
            with safe_open(path, framework="pt") as reader:
                tensor: Tensor = reader.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: tensor {name!r} cannot be read ({error})") from None
        return tensor

    def tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """One tensor of exactly `shape`, as `dtype`."""
        tensor = self._raw(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self.files[name].name}: tensor {name!r} is {list(tensor.shape)}, config.json "
                f"says {list(shape)}; config and weights do not belong together"
            )
        if tensor.dtype == torch.int8:
            tensor = dequantize_int8(tensor, self._raw(name + "_scale"))
        elif not tensor.dtype.is_floating_point:
            raise CheckpointError(f"{self.files[name].name}: tensor {name!r} is {tensor.dtype}")
        return tensor.to(dtype)


def verify_manifest(folder: Path) -> dict[str, object]:
    """MANIFEST.json of a shipped model, after checking the size of every file it names.

    Returns an empty dict when there is none. `checksum=True` work is `verify_checksums`.
    """
    path = folder / "MANIFEST.json"
    if not path.exists():
        return {}
    try:
        manifest: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        files: dict[str, dict[str, object]] = manifest["files"]  # type: ignore[assignment]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); reinstall qcoder") from None
    for name, facts in files.items():
        file = folder / name
        if not file.exists() or file.stat().st_size != facts["bytes"]:
            raise CheckpointError(f"{file}: missing or of the wrong size; reinstall qcoder")
    return manifest


def verify_checksums(folder: Path) -> list[str]:
    """Names of the files whose sha256 differs from MANIFEST.json (empty: all is well)."""
    manifest = verify_manifest(folder)
    files: dict[str, dict[str, str]] = manifest.get("files", {})  # type: ignore[assignment]
    return [
        name
        for name, facts in files.items()
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != facts["sha256"]
    ]

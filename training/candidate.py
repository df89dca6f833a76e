"""The folder of an adapted model: new weights, the base's other files, a manifest, a note.

Tokenizer, gate of the mixture and calibration are the base's own and stay true. The manifest is
written last and holds counts, figures and checksums, never text or names of the files trained on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from qcoder.model.adapted import SECTION, WEIGHTS
from qcoder.model.manifest import MANIFEST
from qcoder.training.export import checksums, hub_tensors, quantized
from qcoder.training.network import NetworkConfig
from qcoder.training.tuning import Weights

NOTE = "PRIVATE.md"
NOTE_TEXT = """# Trained on private code

These weights were trained further on the source code of one workspace on this machine, and can repeat
pieces of it. Keep them on this machine: do not share, publish or commit them.

`qcoder train --workspace DIR --remove` deletes this folder.
"""


def write_weights(folder: Path, base: Path, config: NetworkConfig, weights: Weights) -> None:
    """Write everything but the manifest: enough for the engine to load and judge the model."""
    for path in base.iterdir():
        if path.is_file() and path.name not in (WEIGHTS, MANIFEST):
            shutil.copyfile(path, folder / path.name)
    tensors = quantized(hub_tensors(weights, asdict(config)))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / NOTE).write_text(NOTE_TEXT, encoding="utf-8")


def write_manifest(folder: Path, base: Path, name: str, facts: dict[str, Any]) -> None:
    """Write the base's manifest with another name, `facts` as its section, and new checksums."""
    manifest = json.loads((base / MANIFEST).read_text(encoding="utf-8"))
    manifest |= {"name": name, SECTION: facts, "files": checksums(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

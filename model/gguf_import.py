"""Imports a GGUF file: its metadata becomes config.json and tokenizer.json, its tensors an index.

The file is parsed once, by the `gguf` package; afterwards `gguf_file.py` needs the index alone. What
happens then is any import (`importer.py`): a copy of the file as it is, or other quantization.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qcoder.model.errors import CheckpointError
from qcoder.model.formats import GGUF_INDEX, GGUF_WEIGHTS
from qcoder.model.gguf_blocks import KINDS
from qcoder.model.gguf_config import hub_config, hub_tokenizer
from qcoder.model.gguf_names import TOGETHER, UNUSED, change_of, hub_name
from qcoder.model.import_plan import Options
from qcoder.model.importer import Imported, Progress, import_model
from qcoder.model.tensor_file import FLOATS

AGAIN = "download it again"


def import_gguf(source: Path, target: Path, options: Options, progress: Progress) -> Imported:
    """Write the model of a GGUF file to the new folder `target`; raises `CheckpointError`."""
    view = target.with_name(f".{target.name}.gguf")
    shutil.rmtree(view, ignore_errors=True)
    try:
        write_view(source, view)
        return import_model(view, target, options, progress)
    except OSError as error:
        raise CheckpointError(f"{error.filename or source}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(view, ignore_errors=True)


def write_view(source: Path, view: Path) -> None:
    """A checkpoint folder around a GGUF file, which is linked to; raises `CheckpointError`."""
    metadata, tensors = parse(source)
    if int(metadata.get("split.count", 0)) > 1:
        raise CheckpointError(
            f"{source}: is one of {metadata['split.count']} parts; join them first, with "
            "`llama-gguf-split --merge`"
        )
    try:
        index = tensor_index(metadata, tensors)
        embedding = index["model.embed_tokens.weight"]
        config = hub_config(metadata, embedding["shape"][0], "lm_head.weight" not in index)
        beside = source.with_name("tokenizer.json")
        tokenizer = (
            beside.read_text(encoding="utf-8") if beside.is_file() else hub_tokenizer(metadata)
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: {error} is missing; {AGAIN}") from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from None
    view.mkdir(parents=True)
    (view / GGUF_WEIGHTS).symlink_to(source.resolve())
    (view / GGUF_INDEX).write_text(json.dumps({"tensors": index}), encoding="utf-8")
    (view / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (view / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    if isinstance(template := metadata.get("tokenizer.chat_template"), str):
        (view / "chat_template.jinja").write_text(template, encoding="utf-8")


def parse(source: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metadata by key, and name, kind, shape and offset of each tensor; raises `CheckpointError`."""
    try:
        import gguf  # an extra: only whoever imports such a file needs it
    except ImportError:
        raise CheckpointError(
            f"{source}: reading GGUF needs the gguf package; pip install 'qcoder[gguf]'"
        ) from None
    try:
        reader = gguf.GGUFReader(source)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        tensors = [
            {
                "name": tensor.name,
                "kind": tensor.tensor_type.name,
                # GGUF counts dimensions from the innermost on.
                "shape": [int(size) for size in reversed(tensor.shape)],
                "offset": int(tensor.data_offset),
            }
            for tensor in reader.tensors
        ]
    except (ArithmeticError, LookupError, MemoryError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: damaged or cut short ({error}); {AGAIN}") from None
    return metadata, tensors


def tensor_index(
    metadata: dict[str, Any], tensors: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The index of `gguf_file.py`; raises ValueError for tensors that cannot be read."""
    architecture = str(metadata["general.architecture"])
    index: dict[str, dict[str, Any]] = {}
    parts: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        name, kind = tensor["name"], tensor["kind"]
        if name in UNUSED:
            continue
        if kind not in KINDS and kind not in FLOATS:
            raise ValueError(
                f"tensor {name!r} is {kind}, which is not read; use a file with "
                f"{', '.join((*KINDS, *FLOATS))}"
            )
        entry = {key: tensor[key] for key in ("kind", "shape", "offset")}
        if architecture == "qwen3next" and name.endswith(TOGETHER):
            parts[name] = entry
            continue
        hub = hub_name(name)
        if hub is None:
            raise ValueError(f"tensor {name!r} is not known in {architecture}; use another file")
        index[hub] = _changed(entry, hub, architecture)
    for name, first in parts.items():
        if name.endswith(TOGETHER[0]):
            stem = name.removesuffix(TOGETHER[0])
            hub = f"model.layers.{stem.split('.')[1]}.linear_attn.in_proj_qkvz.weight"
            index[hub] = _joined([first, parts[stem + TOGETHER[1]]], metadata)
    return index


def _changed(entry: dict[str, Any], hub: str, architecture: str) -> dict[str, Any]:
    """An entry with what has to be undone; what is computed becomes float32."""
    change = change_of(hub, architecture)
    if change == "reshaped":
        first, *rest = entry["shape"]
        shape = [first, 1, *rest] if hub.endswith("conv1d.weight") else [1, first]
        if len(entry["shape"]) != len(shape) - 1 or entry["kind"] in KINDS:
            return entry
        return entry | {"change": change, "shape": shape, "stored": entry["shape"]}
    return (
        entry | {"change": change, "kind": "F32", "stored_kind": entry["kind"]} if change else entry
    )


def _joined(sources: list[dict[str, Any]], metadata: dict[str, Any]) -> dict[str, Any]:
    rows = sum(source["shape"][0] for source in sources)
    kinds = {source["kind"] for source in sources}
    return {
        "kind": kinds.pop() if len(kinds) == 1 else "F32",
        "shape": [rows, sources[0]["shape"][1]],
        "sources": sources,
        "heads": int(metadata["qwen3next.ssm.group_count"]),
        "key_dim": int(metadata["qwen3next.ssm.state_size"]),
    }

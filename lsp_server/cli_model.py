"""`qcoder model`: list, describe, check, import and export models. None of them loads one."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from qcoder.lsp_server.headless import InputError
from qcoder.model.adapted import Listed, listed_models
from qcoder.model.registry import DEFAULT_NAME, find_model, models_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qcoder.model.engine import ModelInfo
    from qcoder.model.memory import Need

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def model(args: argparse.Namespace) -> int:
    """Run one action; raises `InputError` or `ModelError`: what is wrong, where, what to do."""
    return ACTIONS[args.action](args)


def listed(args: argparse.Namespace) -> int:
    """Every model by name; one that was trained on a workspace says which, and whether it counts."""
    models = listed_models()
    if args.format == "json":
        print(json.dumps([described_row(model) for model in models]))
        return 0
    for model in models:
        print(f"{model.name:20} {model.description}")
    return 0


def described_row(model: Listed) -> dict[str, object]:
    """A model as `--format json` prints it."""
    row: dict[str, object] = {"name": model.name, "path": model.place}
    if model.adapted is not None:
        row |= {"workspace": str(model.adapted.workspace), "current": model.adapted.current}
    return row


def described(args: argparse.Namespace) -> int:
    """What a model is and how much memory it needs."""
    info, need = _examine(args.name)
    _print_info(info, need, args.format)
    return 0


def checked(args: argparse.Namespace) -> int:
    """`described`, after every tensor was found and every file compared with its checksum."""
    from qcoder.model.manifest import verify_checksums

    info, need = _examine(args.name)
    if wrong := verify_checksums(Path(info.path)):
        raise InputError(
            f"{info.path}: checksum differs: {', '.join(wrong)}; import or install it again"
        )
    _print_info(info, need, args.format)
    return 0


def imported(args: argparse.Namespace) -> int:
    """Write a checkpoint or a GGUF file, quantized, into the folder of models."""
    # Imports torch: only when a model is wanted.
    from qcoder.model.gguf_import import import_gguf
    from qcoder.model.import_plan import Options
    from qcoder.model.importer import import_model

    source, name = Path(args.source).expanduser(), str(args.name)
    if not NAME.fullmatch(name) or name == DEFAULT_NAME:
        raise InputError(
            f"--name {name!r}: use letters, digits, '.', '_' and '-', and not {DEFAULT_NAME!r}"
        )
    options = Options(args.quantize or default_quantization(source), args.group, args.head)
    target = models_folder() / name
    try:
        with _progress() as progress:
            take = import_gguf if source.is_file() else import_model
            done = take(source, target, options, progress)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise
    if done.resumed_files:
        print(f"{done.resumed_files} files were there from an earlier import", file=sys.stderr)
    info, need = _examine(name)
    _print_info(info, need, args.format)
    return 0


def exported(args: argparse.Namespace) -> int:
    """Write a model as a plain folder of the hub's kind or as a GGUF file."""
    from qcoder.model.exporter import export_gguf, export_hub  # imports torch

    target = Path(args.target).expanduser()
    write = export_gguf if target.suffix == ".gguf" else export_hub
    with _progress() as progress:
        write(find_model(args.name), target, progress)
    print(target)
    return 0


def default_quantization(source: Path) -> Literal["int4", "none"]:
    """int4, except for what has so few bits already that rounding it again would only lose."""
    from qcoder.model.config import load_config

    if source.is_file():
        return "none"
    return "int4" if load_config(source).quantization in ("none", "fp8") else "none"


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": listed,
    "info": described,
    "check": checked,
    "import": imported,
    "export": exported,
}


def _examine(name: str) -> tuple[ModelInfo, Need]:
    """A model from its headers and its manifest."""
    # Imports torch: not for `list`.
    from qcoder.model.config import load_config
    from qcoder.model.local import DEFAULT_MAX_CONTEXT, default_dtype, describe
    from qcoder.model.manifest import read_manifest
    from qcoder.model.memory import estimate

    folder = find_model(name)
    config, manifest = load_config(folder), read_manifest(folder)
    limit = min(DEFAULT_MAX_CONTEXT, config.max_context)
    need = estimate(folder, config, default_dtype(config.parameters), limit)
    return describe(folder, config, manifest, limit), need


def _print_info(info: ModelInfo, need: Need, form: str) -> None:
    from qcoder.model.memory import available_bytes, gigabytes

    free = available_bytes()
    data: dict[str, Any] = asdict(info)
    data |= {"weight_bytes": need.weights_bytes, "needs_bytes": need.total_bytes}
    data["available_bytes"] = free
    if form == "json":
        print(json.dumps(data))
        return
    data = {key: value for key, value in data.items() if not key.endswith("_bytes")}
    data["memory"] = f"needs {gigabytes(need.total_bytes)} GB, {gigabytes(free)} free"
    for key, value in data.items():
        if key != "manifest":
            print(f"{key:18} {value}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, one for each thing that is done."""
    bars: dict[str, tqdm[Any]] = {}

    def advance(what: str, size_bytes: int, total_bytes: int) -> None:
        if what not in bars:
            bars[what] = tqdm(total=total_bytes, desc=what, unit="B", unit_scale=True, disable=None)
        bars[what].update(size_bytes)

    try:
        yield advance
    finally:
        for bar in bars.values():
            bar.close()

"""MANIFEST.json of a shipped model: its facts, and whether its files are what was shipped.

    {"name", "version", "fim_order", "files": {name: {"sha256", "bytes"}}, ...}

Checksums are computed once a (size, time of modification) and remembered in the user's cache
folder, so that a start costs a few `stat` calls. A folder without a manifest is a plain checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from qcoder.model.errors import CheckpointError
from qcoder.model.json_file import read_json

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
AGAIN = "reinstall qcoder or import the model again"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, {} when there is none; every named file has its size.

    Raises `CheckpointError` for a damaged manifest, a missing file or one of the wrong size.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    manifest = read_json(path, "")
    for name, facts in _files(path, manifest).items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            raise CheckpointError(f"{folder / name}: file is missing; {AGAIN}") from None
        if size != facts["bytes"]:
            raise CheckpointError(
                f"{folder / name}: has {size} bytes, {MANIFEST} says {facts['bytes']}; {AGAIN}"
            )
    return manifest


def verify(folder: Path, cache_dir: Path | None = None) -> dict[str, Any]:
    """`read_manifest`, and the checksum of every file that changed since it was last verified."""
    manifest = read_manifest(folder)
    if not manifest:
        return manifest
    files = _files(folder / MANIFEST, manifest)
    record, stamps = _record(folder, cache_dir), _stamps(folder, files)
    known = _remembered(record)
    for name, facts in files.items():
        if known.get(name) == stamps[name]:
            continue
        digest = sha256(folder / name)
        if digest != facts["sha256"]:
            raise CheckpointError(
                f"{folder / name}: sha256 is {digest[:16]}..., {MANIFEST} says "
                f"{facts['sha256'][:16]}...; the file is damaged, {AGAIN}"
            )
    if known != stamps:
        _remember(record, stamps)
    return manifest


def mark_verified(folder: Path, cache_dir: Path | None = None) -> None:
    """Remember all files as verified: for whoever wrote them and took the checksums on the way."""
    files = _files(folder / MANIFEST, read_manifest(folder))
    _remember(_record(folder, cache_dir), _stamps(folder, files))


def verify_checksums(folder: Path) -> list[str]:
    """Names of the files whose content differs from the manifest, nothing remembered.

    Empty when all is well or when there is no manifest; raises as `read_manifest`.
    """
    files = _files(folder / MANIFEST, manifest) if (manifest := read_manifest(folder)) else {}
    return [name for name, facts in files.items() if sha256(folder / name) != facts["sha256"]]


def sha256(path: Path) -> str:
    """Checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _files(path: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    files = manifest.get("files")
    good = isinstance(files, dict) and all(
        isinstance(f, dict) and {"sha256", "bytes"} <= f.keys() and Path(n).name == n
        for n, f in files.items()
    )
    if not good:
        raise CheckpointError(f"{path}: its list of files is damaged; {AGAIN}")
    return dict(files or {})


def _record(folder: Path, cache_dir: Path | None) -> Path:
    """Where it is remembered what was verified in `folder`."""
    cache = (cache_dir or Path(user_cache_dir("qcoder", appauthor=False))) / "verified"
    return cache / (hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32] + ".json")


def _stamps(folder: Path, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: _stamp(folder / name, facts) for name, facts in files.items()}


def _stamp(path: Path, facts: dict[str, Any]) -> list[Any]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, facts["sha256"]]


def _remembered(record: Path) -> dict[str, Any]:
    """What was verified before; anything unreadable counts as nothing."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _remember(record: Path, stamps: dict[str, Any]) -> None:
    temporary = record.with_suffix(f".{os.getpid()}.tmp")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(stamps), encoding="utf-8")
        temporary.replace(record)
    except OSError as error:  # a read-only home costs a second at every start, nothing else
        logger.info("checksums not remembered: %s", error)

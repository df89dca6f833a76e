"""Checksums that came with a downloaded checkpoint, wherever its downloader left them.

- `MANIFEST.json` of ours, which `manifest.py` reads;
- `SHA256SUMS` or `NAME.sha256` beside the files, lines of `digest  name`;
- the hub's own: a link into `blobs/` is named by the digest of its file, and `.cache/huggingface/download`
  has it as the second line of `NAME.metadata`. Only those of 64 hexadecimal digits are SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from qcoder.model.errors import CheckpointError
from qcoder.model.manifest import read_manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(\S.*)")


def verify_source(
    folder: Path, files: Sequence[Path], progress: Callable[[str, int, int], None]
) -> None:
    """Compare `files` with every checksum that is known; raises `CheckpointError` for another."""
    known = known_checksums(folder, files)
    total = sum(path.stat().st_size for path in files if path.name in known)
    for path in files:
        if (expected := known.get(path.name)) is None:
            continue
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
                progress("verifying", len(block), total)
        if digest.hexdigest() != expected:
            raise CheckpointError(
                f"{path}: sha256 is {digest.hexdigest()[:16]}..., it was published as "
                f"{expected[:16]}...; the file is damaged, download it again"
            )


def known_checksums(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 by file name, of those files that have one."""
    found: dict[str, str] = {}
    for path in files:
        blob = path.resolve().name
        if path.is_symlink() and _DIGEST.fullmatch(blob):
            found[path.name] = blob
        metadata = folder / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
        lines = _lines(metadata)
        if len(lines) > 1 and _DIGEST.fullmatch(lines[1].strip()):
            found[path.name] = lines[1].strip()
        for line in (*_lines(folder / "SHA256SUMS"), *_lines(folder / f"{path.name}.sha256")):
            match = _LINE.fullmatch(line.strip())
            if match and match[2] == path.name:
                found[path.name] = match[1].lower()
    manifest = read_manifest(folder).get("files", {})
    names = {path.name for path in files}
    return found | {name: facts["sha256"] for name, facts in manifest.items() if name in names}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []

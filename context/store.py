"""The index on disk: one file a workspace, replaced as a whole, thrown away when in doubt.

Layout: magic (8 bytes), format version (4), fingerprint of the parsers (8), checksum (8), payload.
A writer never touches the file that readers see: it writes a temporary file of its own beside it,
syncs and renames, so a killed process or two processes on one workspace leave a whole file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import tempfile
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import platformdirs
import xxhash

from qcoder.context import languages
from qcoder.context.privacy import rules_text

logger = logging.getLogger(__name__)

MAGIC = b"QCODERIX"
FORMAT_VERSION = 5
MAX_STORE_BYTES = 512_000_000
_HEADER = struct.Struct("<8sI8s8s")
_FILE_NAME = "index.bin"
_TEMPORARY_PREFIX = ".writing-"
_STALE_S = 3600.0


class StoreError(Exception):
    """A saved index that cannot be used, and why."""


def store_path(root: Path, cache_dir: Path | None = None) -> Path:
    """Where the index of a workspace lies: `<cache>/index/<hash of the root>/index.bin`."""
    base = cache_dir or platformdirs.user_cache_path("qcoder", appauthor=False)
    key = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(root)))
    return base / "index" / key / _FILE_NAME


def load(path: Path) -> Any | None:
    """The saved payload, or None: silently when there is none, with one warning when it is bad."""
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except (OSError, StoreError) as error:
        logger.warning("index file=%s ignored: %s; the workspace is indexed anew", path, error)
        return None


def saved_bytes(path: Path) -> int:
    """Size of the saved index; 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def save(path: Path, payload: Any) -> int:
    """Replace the saved index; bytes written, or 0 with one warning when that is not possible."""
    body = msgpack.packb(payload, unicode_errors="surrogatepass")
    if _HEADER.size + len(body) > MAX_STORE_BYTES:
        logger.warning("index file=%s not saved: %d bytes are over the cap", path, len(body))
        return 0
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, _parser_fingerprint(), xxhash.xxh3_64_digest(body))
    temporary: str | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        logger.warning("index file=%s not saved (%s): the next start indexes anew", path, error)
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return 0
    return len(header) + len(body)


def _read(path: Path) -> Any:
    if path.stat().st_size > MAX_STORE_BYTES:
        raise StoreError("it is larger than the cap")
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        raise StoreError("it is cut off")
    magic, version, fingerprint, checksum = _HEADER.unpack_from(data)
    payload = memoryview(data)[_HEADER.size :]
    if magic != MAGIC:
        raise StoreError("it is not an index")
    if version != FORMAT_VERSION or fingerprint != _parser_fingerprint():
        raise StoreError("another version wrote it")
    if checksum != xxhash.xxh3_64_digest(payload):
        raise StoreError("its checksum does not match")
    try:
        return msgpack.unpackb(payload, unicode_errors="surrogatepass", strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise StoreError(f"it cannot be decoded ({type(error).__name__})") from error


def _remove_stale(folder: Path) -> None:
    """Delete what killed writers left; a fresh temporary file may belong to a live one."""
    oldest = time.time() - _STALE_S
    for leftover in folder.glob(_TEMPORARY_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if leftover.stat().st_mtime < oldest:
                leftover.unlink()


@cache
def _parser_fingerprint() -> bytes:
    """Changes with grammars, queries and the privacy gate: then old records say the wrong things."""
    digest = xxhash.xxh3_64()
    packages = {spec.grammar.partition(":")[0] for spec in languages.LANGUAGES.values()}
    for package in sorted(packages | {"tree_sitter"}):
        try:
            version = metadata.version(package.replace("_", "-"))
        except metadata.PackageNotFoundError:
            version = "missing"
        digest.update(f"{package}={version};".encode())
    for language in languages.LANGUAGES:
        digest.update(languages.query_source(language).encode())
    digest.update(rules_text().encode())
    return digest.digest()

"""Reading one file of a workspace safely: inside it, of a sensible size, text, and no secret."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pathspec
import xxhash

from qcoder.context.privacy import refused

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1_000_000
_SNIFF_BYTES = 8192
_MAX_LINE_BYTES = 10_000
_MAX_MEAN_LINE_BYTES = 300
_MIN_MINIFIED_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """One file as read: decoded text, and what identifies this version of it on disk."""

    text: str
    size: int
    mtime_ns: int
    hash: bytes


def read_source(
    root: Path,
    path: str,
    exclude: pathspec.GitIgnoreSpec | None = None,
    accepted_hash: bytes | None = None,
) -> Source | str:
    """Read one file, or say in a few words why it does not count. Never raises on a bad file.

    Content whose hash is `accepted_hash` was looked through when its record was made: only where
    the file is and how it is named is asked again.
    """
    try:
        info, reason = _stat_inside(root, path, exclude)
        if reason is not None:
            return reason
        with open(root / path, "rb") as file:
            data = file.read(_SNIFF_BYTES)
            if b"\0" in data:
                return "binary"
            data += file.read(MAX_FILE_BYTES + 1 - len(data))
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError) as error:
        logger.warning("read path=%r failed (%s): the file is left out", path, error)
        return "unreadable"
    content_hash = xxhash.xxh3_128_digest(data)
    if content_hash == accepted_hash:
        reason = refused(path, None, exclude)
    else:
        reason = content_reason(data) or refused(path, data, exclude)
    if reason is not None:
        return reason
    text = data.decode("utf-8", "replace")
    return Source(text, info.st_size, info.st_mtime_ns, content_hash)


def _stat_inside(
    root: Path, path: str, exclude: pathspec.GitIgnoreSpec | None
) -> tuple[os.stat_result, str | None]:
    full = root / path
    info = os.lstat(full)
    if stat.S_ISLNK(info.st_mode) or _has_linked_folder(root, path):
        real_root = Path(os.path.realpath(root))
        target = Path(os.path.realpath(full))
        if not target.is_relative_to(real_root):
            return info, "symlink out of the workspace"
        reason = refused(target.relative_to(real_root).as_posix(), None, exclude)
        if reason is not None:
            return info, reason
        info = os.stat(full)
    if not stat.S_ISREG(info.st_mode):
        return info, "not a file"
    return info, "too large" if info.st_size > MAX_FILE_BYTES else None


def _has_linked_folder(root: Path, path: str) -> bool:
    folder, above = path.rpartition("/")[0], os.path.join(root, "")
    while folder:
        if os.path.islink(above + folder):
            return True
        folder = folder.rpartition("/")[0]
    return False


def content_reason(data: bytes) -> str | None:
    """Why a text is no source that anybody reads: its size, or the length of its lines."""
    if len(data) > MAX_FILE_BYTES:
        return "too large"
    if len(data) < _MIN_MINIFIED_BYTES:
        return None
    if len(data) / (data.count(b"\n") + 1) > _MAX_MEAN_LINE_BYTES or _has_endless_line(data):
        return "minified"
    return None


def _has_endless_line(data: bytes) -> bool:
    # Such a line covers one of these blocks from end to end, and nearly every block has a break early.
    half = _MAX_LINE_BYTES // 2
    blocks = range(0, len(data) - half + 1, half)
    if all(data.find(b"\n", start, start + half) >= 0 for start in blocks):
        return False
    return max(map(len, data.split(b"\n"))) > _MAX_LINE_BYTES


def version_on_disk(path: Path | str) -> tuple[int, int] | None:
    """Size and mtime of a plain file; None for anything else, which is then judged anew."""
    try:
        info = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None

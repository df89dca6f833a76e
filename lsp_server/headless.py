"""What a command needs instead of an editor: a snapshot of a file, an index, a workspace table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from qcoder.context.index import Index
from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.ngram import SuffixTable

TABLE_TOKENS = 400_000
"""Workspace tokens that the copy model remembers: about a second of encoding and sorting."""


class InputError(Exception):
    """Wrong usage or input; the message says what, where and what to do. Exit code 2."""


class Encodes(Protocol):
    """The part of a tokenizer that a table needs."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        ...


def read_text(path: Path) -> str:
    """Text of a source file; raises `InputError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if b"\0" in data[:8192]:
        raise InputError(f"{path}: is a binary file; give a text file")
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def snapshot_of_file(
    path: Path,
    root: Path | None,
    settings: Settings,
    index: Index | None,
    text: str | None = None,
    copy_tables: tuple[SuffixTable, ...] = (),
    recent: Sequence[str] = (),
) -> Snapshot:
    """Snapshot of a file on disk (or of `text` in its place); raises `InputError`."""
    path = path.resolve()
    inside = root is not None and path.is_relative_to(root)
    relative = path.relative_to(root).as_posix() if inside and root else path.name
    text = read_text(path) if text is None else text
    document = Document(path.as_uri(), 0, language_of(relative), text)
    return Snapshot(document, relative, root, index, settings, copy_tables, tuple(recent))


def file_table(text: str, tokenizer: Encodes) -> SuffixTable:
    """What the copy model remembers of the open file."""
    return SuffixTable.build(tokenizer.encode(text))


def workspace_table(
    index: Index, tokenizer: Encodes, near: str = "", max_tokens: int = TABLE_TOKENS
) -> SuffixTable | None:
    """What the copy model remembers of the workspace, files nearest to `near` first."""
    folder = near.split("/")[:-1]
    language = language_of(near)

    def distance(path: str) -> tuple[int, int, str]:
        parts = path.split("/")[:-1]
        shared = 0
        while shared < min(len(parts), len(folder)) and parts[shared] == folder[shared]:
            shared += 1
        other = int(bool(near) and language_of(path) != language)
        return other, len(parts) + len(folder) - 2 * shared, path

    chunks: list[np.ndarray] = []
    left = max_tokens
    for path in sorted(index.paths(), key=distance):
        if left <= 0:
            break
        text = index.text(path) if path != near else None
        if text:
            ids = np.asarray(tokenizer.encode(text[: 4 * left]), dtype=np.int32)
            chunks.append(ids)
            left -= len(ids)
    return SuffixTable.build(np.concatenate(chunks)) if chunks else None

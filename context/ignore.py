"""Layered ignore files: nested `.gitignore` and `.qcoderignore`, read as they are met.

As in git, the rules of a deeper folder win over those above it, the last matching line of a file
wins within it, and nothing below an ignored folder can be brought back.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pathspec

logger = logging.getLogger(__name__)

GITIGNORE = ".gitignore"
QCODERIGNORE = ".qcoderignore"
IGNORE_FILES = frozenset({GITIGNORE, QCODERIGNORE})

INVALID = (ValueError, re.error)
"""What compiling a pattern raises: of its syntax, and of a range of characters like `[z-a]`."""


class IgnoreRules:
    """The ignore files of one workspace for the length of one listing; answers are cached."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root = root
        self._names = tuple(names)
        self._specs: dict[str, pathspec.GitIgnoreSpec | None] = {}
        self._folders: dict[str, bool] = {"": False}

    def ignored(self, path: str) -> bool:
        """Whether a file (relative, with slashes) is ignored, by itself or by a folder above."""
        folder, _, _ = path.rpartition("/")
        return self.folder_ignored(folder) or self._matches(path, folder)

    def folder_ignored(self, folder: str) -> bool:
        """Whether a folder (relative, no slash at the end) is ignored, or one above it."""
        known = self._folders.get(folder)
        if known is None:
            above, _, _ = folder.rpartition("/")
            known = self.folder_ignored(above) or self._matches(folder + "/", above)
            self._folders[folder] = known
        return known

    def _matches(self, path: str, folder: str) -> bool:
        while True:
            spec = self._spec(folder)
            if spec is not None:
                verdict = spec.check_file(path[len(folder) + 1 :] if folder else path).include
                if verdict is not None:
                    return verdict
            if not folder:
                return False
            folder = folder.rpartition("/")[0]

    def _spec(self, folder: str) -> pathspec.GitIgnoreSpec | None:
        if folder not in self._specs:
            lines: list[str] = []
            for name in self._names:
                lines += _read_lines(self._root / folder / name)
            self._specs[folder] = _compile(lines, folder) if lines else None
        return self._specs[folder]


def kept_out(root: Path, path: str) -> bool:
    """Whether a `.qcoderignore` names a path, which then reaches no task, open or not."""
    return IgnoreRules(root, [QCODERIGNORE]).ignored(path)


def _read_lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError:
        return []
    # PowerShell writes UTF-16 by `>`, and other tools of Windows a byte order mark before UTF-8.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if wide else "utf-8-sig", "replace")
    # Only a line feed ends a pattern, as in git: `splitlines` knows a dozen more line ends.
    return [line.removesuffix("\r") for line in text.split("\n")]


def _compile(lines: list[str], folder: str) -> pathspec.GitIgnoreSpec:
    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except INVALID:
        return pathspec.GitIgnoreSpec.from_lines(_valid_lines(lines, folder))


def _valid_lines(lines: list[str], folder: str) -> list[str]:
    """Lines that compile; git, too, goes on after a line that it cannot read."""
    kept = []
    for line in lines:
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except INVALID:
            logger.warning("ignore folder=%r: one pattern is not valid and was skipped", folder)
        else:
            kept.append(line)
    return kept

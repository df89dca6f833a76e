"""What git says has changed: paths, changed lines and the text to review.

No program that a repository configures is run: see `qcoder.context.git`. Lines are compared without
content filters.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcoder.context.git import GitError, git_output, no_filters
from qcoder.context.source import read_source
from qcoder.context.workspace import ruled_out
from qcoder.lsp_server.headless import InputError

DIFF = (
    "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--ignore-submodules=all",
    "--src-prefix=a/", "--dst-prefix=b/", "-U0", "-M", "--diff-filter=ACMR",
)  # fmt: skip
"""Every option that a user's git configuration could change is given. A submodule has no text here."""

NEW = ("ls-files", "-z", "--others", "--exclude-standard", "--full-name")

HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
GIT_TIMEOUT_S = 30
MOST_COMPARED = 4000
"""Lines that differ at both ends of a change, beyond which all between them count as changed."""


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file with its changed 0-based lines; `text` is what is reviewed."""

    path: str
    lines: frozenset[int]
    text: str


def git(root: Path, *arguments: str, settings: Sequence[str] = ()) -> str:
    """Output of a git command in `root`; raises `InputError`."""
    try:
        # A commit of some files only hands its hook an index of its own.
        keep = ("GIT_INDEX_FILE",)
        found = git_output(root, *arguments, settings=settings, timeout_s=GIT_TIMEOUT_S, keep=keep)
    except GitError as error:
        raise InputError(f"git {arguments[0]} failed in {root}: {error}") from None
    return found.decode("utf-8", "replace")


def top_level(folder: Path) -> Path:
    """Root of the checkout that `folder` is in; raises `InputError` outside of one."""
    return Path(git(folder, "rev-parse", "--show-toplevel").strip())


def staged(root: Path) -> list[ChangedFile]:
    """Files staged for commit, with the text of the index (not of the working tree)."""
    found = parse_diff(git(root, *DIFF, "--cached"))
    return [
        ChangedFile(p, lines, git(root, "cat-file", "blob", f":{p}").replace("\r\n", "\n"))
        for p, lines in found.items()
    ]


def since(root: Path, revision: str, wanted: Callable[[str], bool]) -> list[ChangedFile]:
    """Files that differ from `revision` and whose path is `wanted`, with the text of the working tree.

    Since HEAD also those that nobody has added yet. `root` is that of the checkout; paths are
    relative to it.
    """
    if revision.startswith("-"):
        raise InputError(f"{revision!r} is not a revision")
    try:
        settings = no_filters(root)
    except GitError as error:
        raise InputError(f"git diff is not asked in {root}: {error}") from None
    found = parse_diff(git(root, *DIFF, _base(root, revision), "--", settings=settings))
    files = []
    for path, lines in found.items():
        full = root / path
        if wanted(path) and full.is_file() and not full.is_symlink():
            text = full.read_text(encoding="utf-8", errors="replace")
            files.append(ChangedFile(path, lines, text.replace("\r\n", "\n")))
    return files + new_files(root, wanted) if revision == "HEAD" else files


def _base(root: Path, revision: str) -> str:
    """The revision; for HEAD of a repository without commits the empty tree."""
    if revision == "HEAD":
        try:
            git(root, "rev-parse", "--verify", "--quiet", "HEAD")
        except InputError:
            return git(root, "hash-object", "-t", "tree", os.devnull).strip()
    return revision


def new_files(root: Path, wanted: Callable[[str], bool]) -> list[ChangedFile]:
    """Files that are neither tracked nor ignored, all lines changed; only what an index would read."""
    files = []
    paths = [path for path in git(root, *NEW).split("\0") if path and wanted(path)]
    out = ruled_out(root, paths)
    for path in paths:
        if path in out or (root / path).is_symlink():
            continue
        source = read_source(root, path)
        if not isinstance(source, str):
            text = source.text.replace("\r\n", "\n")
            files.append(ChangedFile(path, frozenset(range(text.count("\n") + 1)), text))
    return files


def lines_since_head(root: Path, path: str, text: str) -> frozenset[int] | None:
    """0-based lines of `text`, the file's content now, that the last commit has not; None: all are new."""
    try:
        committed = git(root, "cat-file", "blob", f"HEAD:./{path}").replace("\r\n", "\n")
    except InputError:
        return None
    old, new = committed.split("\n"), text.split("\n")
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    first = min(first, len(new))
    pairs = zip(reversed(old[first:]), reversed(new[first:]), strict=False)
    shorter = min(len(old), len(new)) - first
    same_end = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    old, last = old[first : len(old) - same_end], len(new) - same_end
    if len(old) + last - first > MOST_COMPARED:
        return frozenset(range(first, last))
    matcher = difflib.SequenceMatcher(None, old, new[first:last], autojunk=False)
    return frozenset(
        first + line
        for kind, _, _, start, end in matcher.get_opcodes()
        if kind != "equal"
        for line in range(start, end)
    )


def parse_diff(diff: str) -> dict[str, frozenset[int]]:
    """Changed 0-based lines of the new side, by path."""
    found: dict[str, set[int]] = {}
    path = None
    content = 0
    for line in diff.split("\n"):
        if content > 0 and line[:1] in ("+", "-"):
            # Counted, so that an added line `++ b/other` is not taken for a header.
            content -= 1
        elif line.startswith("+++ "):
            name = unquoted(line[4:].rstrip("\t"))
            path = name[2:] if name.startswith("b/") else None
            if path is not None:
                found.setdefault(path, set())
        elif path is not None and (hunk := HUNK.match(line)):
            removed, start, added = (
                int(hunk.group(1) or 1),
                int(hunk.group(2)),
                int(hunk.group(3) or 1),
            )
            content = removed + added
            found[path].update(range(start - 1, start - 1 + added))
    return {path: frozenset(lines) for path, lines in found.items()}


def unquoted(name: str) -> str:
    """A path as git quotes it when it holds quotes, backslashes or control characters."""
    if not name.startswith('"'):
        return name
    return re.sub(r"\\(.)", lambda m: ESCAPES.get(m.group(1), m.group(1)), name.strip('"'))

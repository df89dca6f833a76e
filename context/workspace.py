"""Which files of a folder count as its source, and reading one of them safely.

Inside a git work tree the answer is git's own: tracked files and untracked ones that are not
ignored. Elsewhere the folder is walked with nested `.gitignore` rules. `.qcoderignore` and the
privacy gate apply in both cases. Whatever is left out is counted by reason.
"""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec
import xxhash

from qcoder.context.ignore import GITIGNORE, IGNORE_FILES, QCODERIGNORE, IgnoreRules
from qcoder.context.privacy import exclude_spec, refused

__all__ = [
    "IGNORE_FILES",
    "Listing",
    "Source",
    "content_reason",
    "find_root",
    "ignored_by_rules",
    "is_listed",
    "list_files",
    "listed_among",
    "read_source",
    "refused",
]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1_000_000
MAX_FILES = 200_000
_SNIFF_BYTES = 8192
_MAX_LINE_BYTES = 10_000
_MAX_MEAN_LINE_BYTES = 300
_MIN_MINIFIED_BYTES = 4096
_GIT_TIMEOUT_S = 60.0
_MAX_NESTED_REPOSITORIES = 3

_ROOT_MARKERS = (".git", "pyproject.toml", "package.json", "go.mod", "Cargo.toml")
_SKIPPED_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".jj",
        ".venv",
        ".tox",
        ".nox",
        ".eggs",
        ".gradle",
        ".terraform",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        "__pycache__",
        "node_modules",
        "bower_components",
    }
)
# A folder that holds one of these says itself that it can be made again.
_DERIVED_MARKERS = ("pyvenv.cfg", "CACHEDIR.TAG")


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths that may be read, sorted, relative with slashes; what was left out, by reason."""

    paths: tuple[str, ...]
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Source:
    """One file as read: decoded text, and what identifies this version of it on disk."""

    text: str
    size: int
    mtime_ns: int
    hash: bytes


def find_root(path: Path) -> Path:
    """The nearest folder above a file that looks like a project, else the file's own folder."""
    start = path if path.is_dir() else path.parent
    start = start.absolute()
    for folder in (start, *start.parents):
        if any((folder / marker).exists() for marker in _ROOT_MARKERS):
            return folder
    return start


def list_files(root: Path, exclude: Sequence[str] = ()) -> Listing:
    """List the files of a workspace by name and rule; contents are judged by `read_source`."""
    skipped: Counter[str] = Counter()
    spec = exclude_spec(exclude)
    kept: list[str] = []
    for path in sorted(set(_candidates(root, skipped))):
        reason = refused(path, None, spec)
        if reason is None and len(kept) >= MAX_FILES:
            reason = f"more than {MAX_FILES} files"
        if reason is None:
            kept.append(path)
        else:
            skipped[reason] += 1
    return Listing(tuple(kept), dict(skipped))


def is_listed(root: Path, path: str, exclude: Sequence[str] = ()) -> bool:
    """Whether one path would be in `list_files`, without listing the rest."""
    return path in listed_among(root, [path], exclude)


def listed_among(root: Path, paths: Sequence[str], exclude: Sequence[str] = ()) -> frozenset[str]:
    """Those of some paths that would be in `list_files`; asks git once, not once a path."""
    spec = exclude_spec(exclude)
    in_git = _in_git(root)
    rules = IgnoreRules(root, [QCODERIGNORE] if in_git else [GITIGNORE, QCODERIGNORE])
    wanted = [
        path
        for path in paths
        if not path.startswith(("/", "../"))
        and _SKIPPED_FOLDERS.isdisjoint(path.split("/")[:-1])
        and refused(path, None, spec) is None
        and os.path.lexists(root / path)
        and not rules.ignored(path)
    ]
    if not in_git:
        return frozenset(path for path in wanted if not _in_derived(root, path))
    listed: set[str] = set()
    for folder, inner in _by_repository(root, wanted).items():
        listed.update(posixpath.join(folder, path) for path in _listed_by_git(root / folder, inner))
    return frozenset(listed)


def _listed_by_git(root: Path, paths: Sequence[str]) -> Sequence[str]:
    listed = _git_paths(root, paths)
    if listed or (listed is not None and _git_paths(root)):
        return listed
    # Git knows nothing of this folder, and `list_files` walks it.
    rules = IgnoreRules(root, [GITIGNORE])
    return [path for path in paths if not rules.ignored(path) and not _in_derived(root, path)]


def _by_repository(root: Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """Paths by the innermost repository around them, relative to it; "" is the workspace's own."""
    rules = IgnoreRules(root, [GITIGNORE, QCODERIGNORE])
    found: dict[str, list[str]] = {}
    for path in paths:
        folder = posixpath.dirname(path)
        while folder and not os.path.lexists(root / folder / ".git"):
            folder = posixpath.dirname(folder)
        if not folder or not rules.folder_ignored(folder):
            found.setdefault(folder, []).append(path[len(folder) + 1 :] if folder else path)
    return found


def _in_derived(root: Path, path: str) -> bool:
    folder = posixpath.dirname(path)
    while folder:
        if _is_derived(root / folder):
            return True
        folder = posixpath.dirname(folder)
    return False


def ignored_by_rules(root: Path, path: str) -> bool:
    """Whether ignore files or a folder of derived files rule a path out; asks no other program."""
    if path.startswith(("/", "../")) or not _SKIPPED_FOLDERS.isdisjoint(path.split("/")[:-1]):
        return True
    return IgnoreRules(root, [GITIGNORE, QCODERIGNORE]).ignored(path)


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


def _candidates(root: Path, skipped: Counter[str], depth: int = 0) -> Iterator[str]:
    listed = _git_paths(root) if _in_git(root) else None
    if not listed:
        # No git, git refuses (an owner it does not trust), or the folder itself is ignored.
        yield from _walk(root, skipped)
        return
    rules = IgnoreRules(root, [QCODERIGNORE])
    for path in listed:
        folder = path.rstrip("/")
        if rules.ignored(folder):
            skipped["ignored"] += 1
        elif path.endswith("/") or _is_folder(root / path):
            # A repository inside this one (a submodule, a clone): git lists its folder only.
            if depth < _MAX_NESTED_REPOSITORIES:
                nested = _candidates(root / folder, skipped, depth + 1)
                yield from (f"{folder}/{inner}" for inner in nested)
        else:
            yield path


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _in_git(root: Path) -> bool:
    start = root.absolute()
    return any((folder / ".git").exists() for folder in (start, *start.parents))


def _git_paths(root: Path, only: Sequence[str] = ()) -> list[str] | None:
    """Git's list of tracked and untracked-but-not-ignored files; None when git gives none."""
    command = ["git", "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null"]
    command += ["--literal-pathspecs", "ls-files", "-z", "-co", "--exclude-standard"]
    command += ["--", *only]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("git ls-files failed (%s): the folder is walked instead", type(error).__name__)
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(root: Path, skipped: Counter[str]) -> Iterator[str]:
    rules = IgnoreRules(root, [GITIGNORE, QCODERIGNORE])
    folders = [""]
    found = 0
    while folders and found <= MAX_FILES:
        folder = folders.pop()
        for entry in _scan(root / folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if rules.folder_ignored(path) or _is_derived(Path(entry.path)):
                    skipped["ignored"] += 1
                else:
                    folders.append(path)
            elif rules.ignored(path):
                skipped["ignored"] += 1
            else:
                found += 1
                yield path


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        logger.warning("folder %r cannot be listed (%s): it is left out", str(folder), error)
        return []


def _is_derived(folder: Path) -> bool:
    return folder.name in _SKIPPED_FOLDERS or any(
        (folder / marker).exists() for marker in _DERIVED_MARKERS
    )


def version_on_disk(path: Path | str) -> tuple[int, int] | None:
    """Size and mtime of a plain file; None for anything else, which is then judged anew."""
    try:
        info = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None

"""Which files of a folder count as its source.

Inside a git work tree the answer is git's own: tracked files and untracked ones that are not
ignored. Elsewhere the folder is walked with nested `.gitignore` rules. `.qcoderignore` and the
privacy gate apply in both cases. Whatever is left out is counted by reason.
"""

from __future__ import annotations

import functools
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcoder.context.git import GitError, git_output
from qcoder.context.ignore import GITIGNORE, QCODERIGNORE, IgnoreRules
from qcoder.context.privacy import exclude_spec, refused

logger = logging.getLogger(__name__)

MAX_FILES = 200_000
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
    """Paths that may be read, sorted, relative with slashes; what was left out, by reason.

    `by_git` are the repositories ("" is the workspace's own) of which git listed something.
    """

    paths: tuple[str, ...]
    skipped: Mapping[str, int]
    by_git: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Search:
    """One listing on its way: the rules of the whole workspace, and what they left out so far."""

    root: Path
    rules: IgnoreRules
    skipped: Counter[str]
    by_git: set[str]


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
    search = _Search(root, IgnoreRules(root, [QCODERIGNORE]), skipped, set())
    spec = exclude_spec(exclude)
    kept: list[str] = []
    for path in sorted(set(_candidates(search, "", 0))):
        reason = refused(path, None, spec)
        if reason is None and len(kept) >= MAX_FILES:
            reason = f"more than {MAX_FILES} files"
        if reason is None:
            kept.append(path)
        else:
            skipped[reason] += 1
    return Listing(tuple(kept), dict(skipped), frozenset(search.by_git))


def is_listed(root: Path, path: str, exclude: Sequence[str] = ()) -> bool:
    """Whether one path would be in `list_files`, without listing the rest."""
    return path in listed_among(root, [path], exclude)


def listed_among(
    root: Path, paths: Sequence[str], exclude: Sequence[str] = (), by_git: Collection[str] = ()
) -> frozenset[str]:
    """Those of some paths that would be in `list_files`; asks git once a repository, not a path.

    Repositories in `by_git` (of an earlier `Listing`) need not be asked whether git lists them.
    """
    spec = exclude_spec(exclude)
    in_git = _in_git(root)
    rules = IgnoreRules(root, [QCODERIGNORE] if in_git else [GITIGNORE, QCODERIGNORE])
    wanted = [
        path
        for path in paths
        if _may_hold_source(posixpath.dirname(path))
        and refused(path, None, spec) is None
        and os.path.lexists(root / path)
        and not rules.ignored(path)
    ]
    if not in_git:
        return frozenset(path for path in wanted if not _in_derived(root, path))
    listed: set[str] = set()
    for folder, inner in _by_repository(root, wanted).items():
        if folder in by_git or _is_repository_listed(root, folder):
            found = _listed_by_git(root / folder, inner, folder in by_git)
            listed.update(posixpath.join(folder, path) for path in found)
    return frozenset(listed)


def _may_hold_source(folder: str) -> bool:
    return not folder.startswith(("/", "..")) and _SKIPPED_FOLDERS.isdisjoint(folder.split("/"))


def _listed_by_git(root: Path, paths: Sequence[str], by_git: bool = False) -> Sequence[str]:
    listed = _git_paths(root, paths)
    if listed or (listed is not None and (by_git or _git_paths(root))):
        return listed
    # Git knows nothing of this folder, and `list_files` walks it.
    rules = IgnoreRules(root, [GITIGNORE])
    return [path for path in paths if not rules.ignored(path) and not _in_derived(root, path)]


def _by_repository(root: Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """Paths by the innermost repository around them, relative to it; "" is the workspace's own."""

    @functools.cache
    def repository(folder: str) -> str:
        if not folder or os.path.lexists(root / folder / ".git"):
            return folder
        return repository(posixpath.dirname(folder))

    found: dict[str, list[str]] = {}
    for path in paths:
        folder = repository(posixpath.dirname(path))
        found.setdefault(folder, []).append(path[len(folder) + 1 :] if folder else path)
    return found


def _is_repository_listed(root: Path, folder: str) -> bool:
    """Whether the repository around this one lists it, and so on up to the workspace's own."""
    for _ in range(_MAX_NESTED_REPOSITORIES):
        if not folder:
            return True
        ((outer, inner),) = _by_repository(root, [folder]).items()
        if not _listed_by_git(root / outer, inner):
            return False
        folder = outer
    return not folder


def _in_derived(root: Path, path: str) -> bool:
    folder = posixpath.dirname(path)
    while folder:
        if _is_derived(root / folder):
            return True
        folder = posixpath.dirname(folder)
    return False


def ruled_out(root: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of some files and folders that ignore files or their place rule out.

    A slash at the end marks a folder that may be gone. Asks no other program, and so takes tracked
    files for ignored when a rule says so.
    """
    ours = IgnoreRules(root, [QCODERIGNORE])
    gits = IgnoreRules(root, [GITIGNORE])
    in_git = _in_git(root)
    kept: set[str] = set()
    plain = {path.rstrip("/"): path.endswith("/") for path in paths}
    found = _by_repository(root, list(plain)) if in_git else {"": list(plain)}
    for folder, inner in found.items():
        if gits.folder_ignored(folder):
            continue
        rules = IgnoreRules(root / folder, [GITIGNORE])
        for path in inner:
            full = posixpath.join(folder, path)
            is_folder = plain[full] or _is_folder(root / full)
            if not _may_hold_source(full if is_folder else posixpath.dirname(full)):
                continue
            if (is_folder and not (rules.folder_ignored(path) or ours.folder_ignored(full))) or (
                not is_folder and not (rules.ignored(path) or ours.ignored(full))
            ):
                kept.add(full)
    return frozenset(path for path in paths if path.rstrip("/") not in kept)


def ignored_by_rules(root: Path, path: str) -> bool:
    """Whether ignore files or its place rule a path out; asks no other program."""
    return path in ruled_out(root, [path])


def is_left_out(
    root: Path, path: str, exclude: Sequence[str] = (), by_git: Collection[str] = ()
) -> bool:
    """Whether a path is ignored by whatever rule; for a file that is not there yet by ours only."""
    if ignored_by_rules(root, path):
        return True
    return os.path.lexists(root / path) and path not in listed_among(root, [path], exclude, by_git)


def _candidates(search: _Search, folder: str, depth: int) -> Iterator[str]:
    """Files of one repository and of those inside it, relative to the workspace."""
    here = search.root / folder
    listed = _git_paths(here) if _in_git(here) else None
    if not listed:
        # No git, git refuses (an owner it does not trust), or the folder itself is ignored.
        for inner in _walk(here, search.skipped):
            path = posixpath.join(folder, inner)
            if folder and search.rules.ignored(path):
                search.skipped["ignored"] += 1
            else:
                yield path
        return
    search.by_git.add(folder)
    for name in listed:
        path = posixpath.join(folder, name.rstrip("/"))
        # A repository inside this one (a submodule, a clone): git lists its folder only.
        nested = name.endswith("/") or _is_folder(search.root / path)
        if search.rules.folder_ignored(path) if nested else search.rules.ignored(path):
            search.skipped["ignored"] += 1
        elif not nested:
            yield path
        elif depth < _MAX_NESTED_REPOSITORIES:
            yield from _candidates(search, path, depth + 1)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _in_git(root: Path) -> bool:
    start = root.absolute()
    return any((folder / ".git").exists() for folder in (start, *start.parents))


def _git_paths(root: Path, only: Sequence[str] = ()) -> list[str] | None:
    """Git's list of tracked and untracked-but-not-ignored files; None when git gives none."""
    try:
        names = git_output(root, "ls-files", "-z", "-co", "--exclude-standard", "--", *only)
    except GitError as error:
        logger.info("git ls-files failed (%s): the folder is walked instead", type(error).__name__)
        return None
    return [os.fsdecode(name) for name in names.split(b"\0") if name]


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

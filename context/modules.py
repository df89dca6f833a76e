"""The paths of a workspace by what imports may call them; kept in step with the index.

`ModuleMap.resolve` is the rule of thumb that holds in every language: a module path fits the end of
a file's path. What a language says more exactly is in the `resolve_*.py` beside this file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator

from qcoder.context.imports import path_distance

MAX_RESOLVED = 24
_FOLDER_FILES = frozenset({"__init__", "index", "mod", "init"})


class ModuleMap:
    """Paths, the files of each folder, and module paths by their last component."""

    def __init__(self) -> None:
        self._by_last: dict[str, dict[str, str]] = {}
        self._folders: dict[str, dict[str, None]] = {}

    def __contains__(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in self._folders.get(folder, ())

    def add(self, path: str) -> None:
        """Make a file known."""
        module = module_of(path)
        self._by_last.setdefault(module.rpartition("/")[2], {})[path] = module
        folder, _, name = path.rpartition("/")
        while name not in (names := self._folders.setdefault(folder, {})):
            names[name] = None
            if not folder:
                break
            # A slash marks a folder: it holds files somewhere below.
            folder, _, name = folder.rpartition("/")
            name += "/"

    def remove(self, path: str) -> None:
        """Forget a file."""
        last = module_of(path).rpartition("/")[2]
        paths = self._by_last.get(last, {})
        paths.pop(path, None)
        if not paths:
            self._by_last.pop(last, None)
        folder, _, name = path.rpartition("/")
        while (names := self._folders.get(folder)) is not None:
            names.pop(name, None)
            if names or not folder:
                break
            del self._folders[folder]
            folder, _, name = folder.rpartition("/")
            name += "/"

    def is_folder(self, path: str) -> bool:
        """Whether files lie somewhere below a path."""
        return path in self._folders

    def in_folder(self, folder: str) -> list[str]:
        """Files that lie directly in a folder, by name."""
        names = self._folders.get(folder, ())
        return [posixpath.join(folder, name) for name in sorted(names) if name[-1] != "/"]

    def below(self, folder: str) -> Iterator[str]:
        """Files anywhere below a folder."""
        folders = [folder]
        while folders:
            current = folders.pop()
            for name in self._folders.get(current, ()):
                full = posixpath.join(current, name)
                if name[-1] == "/":
                    folders.append(full[:-1])
                else:
                    yield full

    def first(self, candidates: Collection[str]) -> list[str]:
        """The first of some paths that is a file, in a list; empty when none is."""
        return next(([path] for path in candidates if path in self), [])

    def ending(self, module: str) -> list[str]:
        """Files whose module path is a module path or ends with it."""
        named = self._by_last.get(posixpath.basename(module), {})
        tail = "/" + module
        return [path for path, known in named.items() if known == module or known.endswith(tail)]

    def resolve(self, module: str, importer: str) -> list[str]:
        """Files that `module` may mean in the file `importer`, best first."""
        relative = module.startswith(".")
        target = normal(posixpath.dirname(importer), module) if relative else module
        target = without_suffix(target)
        ranked = []
        for path, known in self._by_last.get(posixpath.basename(target), {}).items():
            fit = _fit(known, target, relative)
            if fit and path != importer:
                ranked.append((-fit, path_distance(path, importer), path))
        ranked.sort()
        best = ranked[0][0] if ranked else 0
        return [path for fit, _, path in ranked if fit == best][:MAX_RESOLVED]


def module_of(path: str) -> str:
    """Module path of a file: without suffix; a folder's own file stands for the folder."""
    folder, _, name = path.rpartition("/")
    stem = without_suffix(name)
    if folder and (stem in _FOLDER_FILES or name.endswith(".go")):
        return folder
    return f"{folder}/{stem}" if folder else stem


def without_suffix(path: str) -> str:
    """A path without the suffix of its last component; dots at its start are none."""
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder + slash + stem if dot and stem.strip(".") else path


def normal(folder: str, path: str) -> str:
    """A path relative to a folder as one relative to the workspace; "" is the workspace itself."""
    joined = posixpath.normpath(posixpath.join(folder, path))
    return "" if joined == "." else joined


def folders_above(path: str) -> Iterator[str]:
    """Folders of a path, the nearest first, the workspace ("") last."""
    while path:
        path = posixpath.dirname(path)
        yield path


def _fit(known: str, target: str, relative: bool) -> int:
    """How well a file's module path fits a target: components in common, 0 for no fit."""
    if known == target:
        return 1000
    if relative:
        return 0
    if known.endswith("/" + target):
        return 2 * (target.count("/") + 1)
    # A target may name more than the workspace has: `host/user/project/pkg` for `pkg/sub`.
    if "/" in known and target.endswith("/" + known):
        return known.count("/") + 1
    return 0

"""The workspace's files that a Python file imports: where they lie, what they define, their trees.

Most calls are told apart by names alone, which a regular expression reads from a file; a tree is made
only for a file that has the name of a call. Both are kept for the size and time of change of their
file, so that an edited file is another one. Nothing is ever imported or run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qcoder.context.privacy import refused
from qcoder.lsp_server.python_tree import PythonFile, is_async, name_of

MAX_IMPORTED_BYTES = 400_000
KEPT = "kept"
"""Key of `PythonFile.cache` in trees that are kept: they must not remember what files they met."""

DEFINED = re.compile(r"^[ \t]*(async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)
WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Names:
    """What a file may define, and what of that may be a coroutine function."""

    defined: frozenset[str]
    coroutines: frozenset[str]


def known_names(file: PythonFile) -> frozenset[str]:
    """Names that a call of this file can resolve to."""
    known = file.cache.get("known names")
    if isinstance(known, frozenset):
        return known
    nodes = (*file.functions, *file.nodes.get("class_definition", ()))
    names = {*(name_of(node) for node in nodes), *file.imports}
    found = names.union(*(other.defined for other in names_imported(file)))
    file.cache["known names"] = frozenset(found)
    return frozenset(found)


def coroutine_names(file: PythonFile) -> frozenset[str]:
    """Names of the coroutine functions that a file or what it imports may define."""
    own = {name_of(node) for node in file.functions if is_async(node)}
    found = own.union(*(other.coroutines for other in names_imported(file)))
    aliases = {name for name, whole in file.imports.items() if whole.rpartition(".")[2] in found}
    return frozenset(found | aliases)


def names_imported(file: PythonFile) -> Iterator[Names]:
    """The names of every workspace file that a file imports or imports from."""
    targets = file.imports.values()
    for module in {*targets, *(parent_module(t) for t in targets)} - {""}:
        path = module_path(module, file)
        if path is None or file.root_path is None:
            continue
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_size <= MAX_IMPORTED_BYTES:
            yield read_names(path, file.root_path, status.st_mtime_ns, status.st_size)


def parent_module(target: str) -> str:
    """The module that a dotted name is in: `.` of `.a`, `a` of `a.b`, "" of `a`."""
    module, dot, _ = target.rpartition(".")
    return module if module.strip(".") else module + dot


@lru_cache(maxsize=2048)
def read_names(path: Path, root: Path, changed_ns: int, size_bytes: int) -> Names:
    """The names of a file; those that a package only passes on may be anything."""
    text = read_text(path, root) or ""
    rows = DEFINED.findall(text)
    defined = frozenset(name for _, name in rows)
    coroutines = frozenset(name for mark, name in rows if mark)
    if path.name == "__init__.py":
        words = frozenset(WORD.findall(text))
        return Names(defined | words, coroutines | words)
    return Names(defined, coroutines)


def read_text(path: Path, root: Path) -> str | None:
    """Text of a file of the workspace; None when it cannot or must not be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if refused(path.relative_to(root).as_posix(), data) is not None:
        return None
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def imported_file(module: str, file: PythonFile) -> PythonFile | None:
    """The workspace's file of a dotted module name as a file writes it (`.a`, `pkg.a`)."""
    key = ("module", module)
    # A tree that is kept for others must not remember what files it met: they change.
    if key not in file.cache or KEPT in file.cache:
        file.cache[key] = file_at(module_path(module, file), file.root_path)
    found = file.cache[key]
    return found if isinstance(found, PythonFile) else None


def file_at(path: Path | None, root: Path | None, size_bytes: int = -1) -> PythonFile | None:
    """The tree of a workspace file, of a certain size when one is given; None when it is not there."""
    if path is None or root is None or not path.is_relative_to(root):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    if status.st_size > MAX_IMPORTED_BYTES or size_bytes not in (-1, status.st_size):
        return None
    return read_file(path, root, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=192)
def read_file(path: Path, root: Path, changed_ns: int, size_bytes: int) -> PythonFile | None:
    """A file's tree; the time of its last change makes an edited file another one."""
    text = read_text(path, root)
    file = PythonFile.parse(text, path, root) if text is not None else None
    if file is not None:
        file.cache[KEPT] = True
    return file


def module_path(module: str, file: PythonFile) -> Path | None:
    """Path of a module below the workspace's root; None when it is not there."""
    if file.path is None or file.root_path is None or not module:
        return None
    names = module.lstrip(".")
    dots = len(module) - len(names)
    start = file.path.parent
    if dots:
        for _ in range(dots - 1):
            start = start.parent
    else:
        start = package_parent(file)
    first = names.partition(".")[0]
    # Most modules that a file imports are none of the workspace: one look at a folder tells.
    if first and not {first, f"{first}.py"} & entries(str(start), file):
        return None
    # Paths as text: `pathlib` takes longer to put them together than the system to look there.
    base = os.path.join(start, *names.split(".")) if names else str(start)
    for path in (os.path.join(base, "__init__.py"), f"{base}.py"):
        inside = path.startswith(os.path.join(file.root_path, ""))
        if inside and path != str(file.path) and os.path.isfile(path):
            return Path(path)
    return None


def entries(folder: str, file: PythonFile) -> frozenset[str]:
    """Names in a folder, read once a file that is reviewed."""
    key = ("entries", folder)
    known = file.cache.get(key)
    if isinstance(known, frozenset) and KEPT not in file.cache:
        return known
    try:
        found = frozenset(os.listdir(folder))
    except OSError:
        found = frozenset()
    file.cache[key] = found
    return found


def package_parent(file: PythonFile) -> Path:
    """The folder from which absolute imports of a file's own package start."""
    known = file.cache.get("package parent")
    if isinstance(known, Path) and KEPT not in file.cache:
        return known
    assert file.path is not None, "asked for files with a path only"
    folder = file.path.parent
    while folder != file.root_path and folder.parent != folder:
        if not os.path.isfile(os.path.join(folder, "__init__.py")):
            break
        folder = folder.parent
    file.cache["package parent"] = folder
    return folder

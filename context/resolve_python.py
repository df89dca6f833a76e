"""Python modules: packages, relative imports, source roots.

A module is looked for, in this order: where `pyproject.toml` says its package lies; in the folder
that holds the importing file's outermost package; in the folders above and their usual source
roots; last, anywhere, below a folder that is no package itself.
"""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Iterator

from qcoder.context.files import Files
from qcoder.context.imports import path_distance
from qcoder.context.modules import ModuleMap, folders_above, normal

_SOURCE_ROOTS = ("", "src", "lib", "python")
_SUFFIXES = (".py", "/__init__.py", ".pyi", "/__init__.pyi", ".pyx")


def resolve_python(module: str, importer: str, files: Files) -> list[str]:
    """The file of a module or package; the stub where there is nothing else."""
    modules = files.modules
    if module.startswith("."):
        target = normal(posixpath.dirname(importer), module)
        # `from . import x` in the workspace's own folder: there is no `.py` without a name.
        return _file(target, modules) if target else []
    for target in _targets(module, importer, files):
        if found := _file(target, modules):
            return found
    if module.partition("/")[0] in sys.stdlib_module_names:
        return []
    anywhere = [
        path for path in modules.ending(module) if not _is_package(_root(path, module), modules)
    ]
    return sorted(anywhere, key=lambda path: (path_distance(path, importer), path))


def _targets(module: str, importer: str, files: Files) -> Iterator[str]:
    """Paths without suffix that a module may have, the likeliest first."""
    modules = files.modules
    for folder in folders_above(importer):
        project = files.project(posixpath.join(folder, "pyproject.toml"))
        for package, where in _package_folders(project.get("package_dir", {})):
            if module == package or module.startswith(package + "/"):
                yield normal(folder, where + module[len(package) :])
        for where in project.get("where", ()):
            yield normal(folder, posixpath.join(where, module))
    for folder in folders_above(importer):
        if not _is_package(folder, modules):
            for root in _SOURCE_ROOTS:
                yield posixpath.join(folder, root, module)


def _package_folders(package_dir: dict[str, str]) -> list[tuple[str, str]]:
    """Packages with slashes and their folders, the longest first; "" holds all others."""
    folders = [
        (package.replace(".", "/"), where)
        for package, where in package_dir.items()
        if isinstance(where, str) and package
    ]
    return sorted(folders, key=lambda pair: -len(pair[0]))


def _file(target: str, modules: ModuleMap) -> list[str]:
    return modules.first([target + suffix for suffix in _SUFFIXES])


def _is_package(folder: str, modules: ModuleMap) -> bool:
    return bool(folder) and posixpath.join(folder, "__init__.py") in modules


def _root(path: str, module: str) -> str:
    """The folder from which a path reads like the module."""
    steps = path.split("/")
    inner = module.count("/") + (2 if steps[-1].startswith("__init__.") else 1)
    return "/".join(steps[:-inner])

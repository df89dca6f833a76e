"""Rust paths: modules of a crate, `self` and `super`, crates of the workspace by `Cargo.toml`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from qcoder.context.files import Files
from qcoder.context.imports import path_distance
from qcoder.context.modules import ModuleMap, folders_above, normal
from qcoder.context.projects import crate

_ROOT_FILES = ("lib.rs", "main.rs")
_FOLDER_FILE = "mod.rs"


def resolve_rust(module: str, importer: str, files: Files) -> list[str]:
    """The file of the innermost module that a path names; what follows is an item in it."""
    modules = files.modules
    own = _module_folder(importer)
    if module.startswith("./"):
        return _module_file(own, module[2:].split("/"), modules)[:1]
    steps = module.split("/")
    if steps[0] == "crate":
        return _in_crate(_crate_folder(importer, modules), steps[1:], files)
    if steps[0] in ("self", "super"):
        folder = own
        while steps and steps[0] in ("self", "super"):
            if steps.pop(0) == "super":
                folder = posixpath.dirname(folder)
        return _module_file(folder, steps, modules) or _file_of(folder, modules)
    # A module declared here hides a crate of the same name.
    if found := _module_file(own, steps[:1], modules):
        return _module_file(own, steps, modules) or found
    declared = files.definers(crate(steps[0]))
    nearest = sorted(declared, key=lambda path: (path_distance(path, importer), path))
    for project in nearest[:1]:
        return _in_crate(posixpath.dirname(project), steps[1:], files)
    return []


def _in_crate(folder: str, steps: Sequence[str], files: Files) -> list[str]:
    modules = files.modules
    lib = files.project(posixpath.join(folder, "Cargo.toml")).get("lib_path", "src/lib.rs")
    root = normal(folder, lib)
    source = posixpath.dirname(root)
    roots = [root, *(posixpath.join(source, name) for name in _ROOT_FILES)]
    return _module_file(source, steps, modules) or modules.first(roots)


def _crate_folder(path: str, modules: ModuleMap) -> str:
    above = list(folders_above(path))
    return next((f for f in above if posixpath.join(f, "Cargo.toml") in modules), above[-1])


def _module_folder(path: str) -> str:
    """The folder in which the modules lie that a file declares."""
    folder, name = posixpath.split(path)
    if name in (*_ROOT_FILES, _FOLDER_FILE) or folder.endswith(("src/bin", "tests", "examples")):
        return folder
    return posixpath.join(folder, name.removesuffix(".rs"))


def _module_file(folder: str, steps: Sequence[str], modules: ModuleMap) -> list[str]:
    """The file of the longest beginning of a path that is a module."""
    for end in range(len(steps), 0, -1):
        target = posixpath.join(folder, *steps[:end])
        if found := modules.first([target + ".rs", posixpath.join(target, _FOLDER_FILE)]):
            return found
    return []


def _file_of(folder: str, modules: ModuleMap) -> list[str]:
    """The file of the module whose own modules lie in a folder."""
    inside = [posixpath.join(folder, name) for name in (_FOLDER_FILE, *_ROOT_FILES)]
    return modules.first([folder + ".rs", *inside])

"""Includes of C and C++: beside the file, in the usual folders, else by the end of the path.

Where the build keeps its include paths is not known, and hardly matters: a path with a folder in it
is nearly always unique. The sources of the same name come after a header: they hold the bodies.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from qcoder.context.files import Files
from qcoder.context.imports import path_distance
from qcoder.context.modules import ModuleMap, folders_above, module_of, normal, without_suffix

_INCLUDE_FOLDERS = ("", "include", "src", "inc")
_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".c++", ".cu", ".m", ".mm")


def resolve_include(module: str, importer: str, files: Files) -> list[str]:
    """The included file, then the sources that implement it."""
    modules = files.modules
    name = module.strip("<>").strip()
    header = next(iter(_headers(name, importer, modules, beside=not module.startswith("<"))), None)
    return [] if header is None else [header, *_sources(header, importer, modules)]


def _headers(name: str, importer: str, modules: ModuleMap, beside: bool) -> Iterator[str]:
    for i, folder in enumerate(folders_above(importer)):
        for inner in _INCLUDE_FOLDERS if i or beside else _INCLUDE_FOLDERS[1:]:
            target = normal(folder, posixpath.join(inner, name))
            if target in modules:
                yield target
    tail = "/" + posixpath.normpath(name).lstrip("./")
    ending = [
        path for path in modules.ending(without_suffix(tail[1:])) if ("/" + path).endswith(tail)
    ]
    yield from sorted(ending, key=lambda path: (path_distance(path, importer), path))


def _sources(header: str, importer: str, modules: ModuleMap) -> list[str]:
    stem = posixpath.basename(module_of(header))
    found = [
        path
        for path in modules.ending(stem)
        if path.endswith(_SOURCES) and path != header and path != importer
    ]
    nearest = sorted(found, key=lambda path: (path_distance(path, header), path))
    return [path for path in nearest[:1] if _belongs(path, header)]


def _belongs(source: str, header: str) -> bool:
    """Whether more than the name is in common: a folder, or that both are close together."""
    if path_distance(source, header) <= 4:
        return True
    own = posixpath.basename(posixpath.dirname(header))
    return bool(own) and posixpath.basename(posixpath.dirname(source)) == own

"""Languages whose files name the package they belong to: Java, Kotlin, Scala, C#, PHP, Go, Swift.

A package is declared by its files (`projects.package`), in any folder; an import means those of its
files that define the imported name. Go's packages are folders below what `go.mod` names.
"""

from __future__ import annotations

import posixpath

from qcoder.context.files import Files
from qcoder.context.imports import path_distance
from qcoder.context.modules import folders_above
from qcoder.context.projects import go_module, package

_GO_TEST = "_test.go"


def resolve_package(module: str, importer: str, files: Files) -> list[str]:
    """Files of `a/b/C`: those of package `a.b` that define `C`, or all of package `a.b.C`."""
    steps = module.strip("/").split("/")
    # An inner type's file is that of the outermost one: `a/b/C/D` is `a/b/C`.
    for end in range(len(steps), 0, -1):
        whole = files.definers(package(".".join(steps[:end])))
        if not whole:
            continue
        if end == len(steps):
            return _nearest(whole, importer)
        defining = frozenset(files.definers(steps[end])).intersection(whole)
        named = [path for path in whole if _stem(path) == steps[end]]
        return _nearest(defining or named, importer)
    return files.modules.resolve(module, importer)


def resolve_go(module: str, importer: str, files: Files) -> list[str]:
    """Files of a Go package; its tests only for a test."""
    steps = module.split("/")
    folder: str | None = None
    for end in range(len(steps), 0, -1):
        if declared := files.definers(go_module("/".join(steps[:end]))):
            inner = "/".join(steps[end:])
            root = posixpath.dirname(_nearest(declared, importer)[0])
            folder = posixpath.join(root, inner) if inner else root
            break
    if folder is None:
        vendored = [posixpath.join(above, "vendor", module) for above in folders_above(importer)]
        folder = next((path for path in vendored if files.modules.is_folder(path)), None)
    if folder is not None:
        found = files.modules.in_folder(folder)
    elif "/" in module and not _in_go_module(importer, files):
        # Without a `go.mod` the end of the import path names the folder.
        found = files.modules.resolve(module, importer)
    else:
        return []
    with_tests = importer.endswith(_GO_TEST)
    return [p for p in found if p.endswith(".go") and (with_tests or not p.endswith(_GO_TEST))]


def _in_go_module(path: str, files: Files) -> bool:
    return any(posixpath.join(above, "go.mod") in files.modules for above in folders_above(path))


def resolve_swift(module: str, importer: str, files: Files) -> list[str]:
    """Files of a module by the package manager's layout: `Sources/<module>`."""
    for above in folders_above(importer):
        folder = posixpath.join(above, "Sources", module)
        if files.modules.is_folder(folder):
            return sorted(path for path in files.modules.below(folder) if path.endswith(".swift"))
    return []


def _stem(path: str) -> str:
    return posixpath.basename(path).partition(".")[0]


def _nearest(paths: frozenset[str] | tuple[str, ...] | list[str], importer: str) -> list[str]:
    return sorted(paths, key=lambda path: (path_distance(path, importer), path))

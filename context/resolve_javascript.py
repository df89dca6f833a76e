"""Modules of JavaScript and TypeScript: relative files, `tsconfig` paths, packages of the workspace.

As the bundlers do it: a file as written, with each suffix, a folder's `package.json` or `index`.
`exports` of a package name built files; those are mapped back to the sources that they come from.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from qcoder.context.files import Files
from qcoder.context.imports import path_distance
from qcoder.context.modules import folders_above, normal
from qcoder.context.projects import Project, npm

_SUFFIXES = (
    ".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".d.ts", ".vue", ".svelte",
    ".json",
)  # fmt: skip
_WRITTEN_FOR = {
    ".js": (".ts", ".tsx", ".d.ts"),
    ".jsx": (".tsx",),
    ".mjs": (".mts", ".d.mts"),
    ".cjs": (".cts", ".d.cts"),
}
_CONFIGS = ("tsconfig.json", "jsconfig.json")
_ENTRY_KEYS = ("source", "types", "typings", "module", "main")
_CONDITIONS = ("source", "types", "import", "module", "default", "require", "node", "browser")
_BUILT = re.compile(r"^(?:\./)?(?:dist|lib|build|out|esm|cjs|types)/(?:(?:esm|cjs|src|types)/)?")
_MAX_EXTENDS = 5
_MAX_CONDITIONS = 8


def resolve_javascript(module: str, importer: str, files: Files) -> list[str]:
    """The one file of a module specifier, in a list; empty when it is not in the workspace."""
    module = module.partition("?")[0]  # what a bundler shall do with it
    if module.startswith("."):
        return _file(normal(posixpath.dirname(importer), module), files)
    for target in _alias_targets(module, importer, files):
        if found := _file(target, files):
            return found
    if found := _package(module, importer, files):
        return found
    if module.startswith(("@/", "~/")):
        return files.modules.resolve(module[2:], importer)
    return []


def _file(target: str, files: Files, depth: int = 0) -> list[str]:
    modules = files.modules
    stem, suffix = posixpath.splitext(target)
    candidates = [target, *(stem + written for written in _WRITTEN_FOR.get(suffix, ()))]
    candidates += [target + suffix for suffix in _SUFFIXES]
    if found := modules.first(candidates):
        return found
    project = files.project(posixpath.join(target, "package.json"))
    if project and depth == 0:
        for entry in _entries(project, "."):
            if found := _built_file(target, entry, files):
                return found
    return modules.first([posixpath.join(target, "index" + suffix) for suffix in _SUFFIXES])


def _alias_targets(module: str, importer: str, files: Files) -> Iterator[str]:
    """Where the compiler's settings above a file send a module, the nearest settings first."""
    for folder in folders_above(importer):
        for name in _CONFIGS:
            config = posixpath.join(folder, name)
            if config in files.modules:
                yield from _mapped(module, _options(config, files))


def _options(config: str, files: Files) -> Mapping[str, Any]:
    """`paths` and `baseUrl` of a configuration with those it extends, relative to the workspace."""
    options: dict[str, Any] = {}
    pending = [config]
    for _ in range(_MAX_EXTENDS):
        if not pending:
            break
        path = pending.pop(0)
        folder, project = posixpath.dirname(path), files.project(path)
        base = project.get("baseUrl")
        if isinstance(base, str):
            options.setdefault("base", normal(folder, base))
        if isinstance(paths := project.get("paths"), dict) and "paths" not in options:
            options["paths"] = paths
            options["paths_from"] = normal(folder, base) if isinstance(base, str) else folder
        extends = project.get("extends", [])
        for parent in [extends] if isinstance(extends, str) else extends:
            if isinstance(parent, str) and parent.startswith("."):
                target = normal(folder, parent)
                pending.append(target if target in files.modules else target + ".json")
    return options


def _mapped(module: str, options: Mapping[str, Any]) -> Iterator[str]:
    paths = options.get("paths", {})
    for pattern in sorted(paths, key=lambda p: (-len(p.partition("*")[0]), p)):
        rest = _matched(pattern, module)
        for target in paths[pattern] if rest is not None else ():
            if isinstance(target, str):
                yield normal(options["paths_from"], target.replace("*", rest or "", 1))
    if "base" in options:
        yield normal(options["base"], module)


def _matched(pattern: str, module: str) -> str | None:
    """What the star of a pattern stands for; "" for a pattern without one that is the module."""
    head, star, tail = pattern.partition("*")
    if not star:
        return "" if module == pattern else None
    if len(module) < len(head) + len(tail) or not module.startswith(head):
        return None
    return module[len(head) : len(module) - len(tail)] if module.endswith(tail) else None


def _package(module: str, importer: str, files: Files) -> list[str]:
    """A file of a package of this workspace, or of the importing one by `#name`."""
    if module.startswith("#"):
        own = [posixpath.join(folder, "package.json") for folder in folders_above(importer)]
        manifests, inner = files.modules.first(own), module
    else:
        steps = module.split("/")
        size = 2 if module.startswith("@") else 1
        declared = files.definers(npm("/".join(steps[:size])))
        manifests = [p for p in declared if posixpath.basename(p) == "package.json"]
        inner = "/".join([".", *steps[size:]])
    for manifest in sorted(manifests, key=lambda path: (path_distance(path, importer), path)):
        folder = posixpath.dirname(manifest)
        for entry in _entries(files.project(manifest), inner):
            if found := _built_file(folder, entry, files):
                return found
        for place in ("src", ""):
            target = normal(folder, posixpath.join(place, inner.removeprefix("#")))
            if found := _file(target, files, depth=1):
                return found
    return []


def _entries(project: Project, inner: str) -> list[str]:
    """Paths in a package that it gives for `.`, `./inner` or `#inner`."""
    table = project.get("imports" if inner.startswith("#") else "exports")
    if isinstance(table, str) or (isinstance(table, dict) and not _has_paths(table)):
        table = {".": table}
    found: list[str] = []
    for pattern, value in table.items() if isinstance(table, dict) else ():
        if (rest := _matched(pattern, inner)) is not None:
            found += [target.replace("*", rest) for target in _targets(value)]
    if inner == ".":
        found += [project[key] for key in _ENTRY_KEYS if isinstance(project.get(key), str)]
    return found


def _has_paths(table: Mapping[str, Any]) -> bool:
    return any(key.startswith((".", "#")) for key in table)


def _targets(value: Any) -> list[str]:
    """Every path under the conditions of an export, sources first."""
    found: list[str] = []
    pending = [value]
    for _ in range(_MAX_CONDITIONS):
        if not pending:
            break
        current = pending.pop(0)
        if isinstance(current, str):
            found.append(current)
        elif isinstance(current, dict):
            known = [current[key] for key in _CONDITIONS if key in current]
            pending = known + pending
    return found


def _built_file(folder: str, entry: str, files: Files) -> list[str]:
    """A file that a package names, or the source that it is built from."""
    if found := _file(normal(folder, entry), files, depth=1):
        return found
    inner = _BUILT.sub("", entry)
    stem = re.sub(r"(?:\.d)?\.[cm]?[jt]sx?$", "", inner)
    for place in ("src", ""):
        if found := _file(normal(folder, posixpath.join(place, stem)), files, depth=1):
            return found
    return []

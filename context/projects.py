"""What the project files of a workspace say about names: packages, their folders, path aliases.

Read when the file is indexed and kept in its record, so that resolving an import reads no file.
`declared_names` are looked up like definitions; each has a space, which no identifier has.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

Project = Mapping[str, Any]
"""What a project file says; empty for every other file."""

_PACKAGE_KEYS = ("name", "main", "module", "types", "typings", "source", "exports", "imports")
_MAX_PROJECT_CHARS = 200_000
_MAX_DEPTH = 8
# A string (kept), a comment, or a comma before a closing bracket: what JSON with comments has more.
_JSONC_EXTRA = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*[}\]])', re.DOTALL)
_GO_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.MULTILINE)


def npm(name: str) -> str:
    """The declared name of a package for JavaScript."""
    return f"npm {name}"


def crate(name: str) -> str:
    """The declared name of a Rust crate, in the form that code uses."""
    return f"crate {name.replace('-', '_')}"


def go_module(path: str) -> str:
    """The declared name of a Go module."""
    return f"module {path}"


def package(name: str) -> str:
    """The declared name of a package or namespace that many files share; dots between its parts."""
    return f"package {name}"


def project_of(text: str, language: str) -> Project:
    """What a text says as a project file; empty when it is none or cannot be read."""
    reader = _READERS.get(language)
    if reader is None or len(text) > _MAX_PROJECT_CHARS:
        return {}
    try:
        return {key: _trimmed(value) for key, value in reader(text).items()}
    except (ValueError, TypeError, RecursionError):
        return {}


def declared_names(project: Project, packages: Iterable[str]) -> list[str]:
    """Names under which code elsewhere may mean this file's project or this file's package."""
    names = [package(re.sub(r"\s*(?:\\|\.)\s*", ".", name.strip())) for name in packages]
    for key, form in (("name", npm), ("crate", crate), ("module_path", go_module)):
        if isinstance(name := project.get(key), str):
            names.append(form(name))
    return [name for name in names if "\n" not in name]


def _json(text: str) -> Project:
    try:
        found = json.loads(text)
    except ValueError:
        found = json.loads(_JSONC_EXTRA.sub(lambda match: match[1] or "", text))
    if not isinstance(found, dict):
        return {}
    project = {key: found[key] for key in _PACKAGE_KEYS if isinstance(found.get(key), str | dict)}
    options = found.get("compilerOptions")
    if isinstance(options, dict):
        project |= {key: options[key] for key in ("baseUrl", "paths") if key in options}
    if isinstance(found.get("extends"), str | list):
        project["extends"] = found["extends"]
    return project


def _toml(text: str) -> Project:
    found = tomllib.loads(text)
    project: dict[str, Any] = {}
    package_table, library = _table(found, "package"), _table(found, "lib")
    if isinstance(name := library.get("name") or package_table.get("name"), str):
        project["crate"] = name
    if isinstance(path := library.get("path"), str):
        project["lib_path"] = path
    setuptools = _table(_table(found, "tool"), "setuptools")
    if folders := _table(setuptools, "package-dir"):
        project["package_dir"] = folders
    where = _table(_table(setuptools, "packages"), "find").get("where")
    if isinstance(where, list):
        project["where"] = [folder for folder in where if isinstance(folder, str)]
    return project


def _go_mod(text: str) -> Project:
    match = _GO_MODULE.search(text)
    return {"module_path": match[1]} if match else {}


def _trimmed(value: Any, depth: int = 0) -> Any:
    """Texts and what groups them; a resolver asks for nothing else, and users write anything."""
    if isinstance(value, str):
        return value
    if depth < _MAX_DEPTH and isinstance(value, dict):
        return {str(key): _trimmed(inner, depth + 1) for key, inner in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list):
        return [_trimmed(inner, depth + 1) for inner in value]
    return ""


def _table(tables: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tables.get(key)
    return found if isinstance(found, dict) else {}


_READERS = {"json": _json, "jsonc": _json, "toml": _toml, "go.mod": _go_mod}

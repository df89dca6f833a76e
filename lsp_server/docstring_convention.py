"""Which documentation style is written where: what was asked for, the file's own, the project's.

A file's docstrings decide; a file without any follows `pyproject.toml` and its like (the sections of
ruff, pydocstyle and pydoclint). Project files are only read, and a broken one says nothing.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.docstring_style import PYTHON_STYLES, Convention

COMMENT_STYLES: dict[str, tuple[str, ...]] = {
    "javascript": ("jsdoc",),
    "javascriptreact": ("jsdoc",),
    "typescript": ("tsdoc", "jsdoc"),
    "typescriptreact": ("tsdoc", "jsdoc"),
    "java": ("javadoc",),
    "php": ("phpdoc",),
    "c": ("doxygen", "plain"),
    "cpp": ("doxygen", "plain"),
    "go": ("godoc",),
    "rust": ("rustdoc",),
    "csharp": ("xmldoc",),
    "ruby": ("plain",),
    "shellscript": ("plain",),
}
"""Language -> its styles, the usual one first."""

LINE_MARKS = {"go": "//", "rust": "///", "ruby": "#", "shellscript": "#", "csharp": "///"}
"""Languages that document in line comments; the others use `/**`."""

COMMENT_WIDTH = 100
DEFAULT_WIDTH = 88
MAX_CONFIG_BYTES = 1_000_000
CONFIG_FILES = ("pyproject.toml", "ruff.toml", ".ruff.toml", "setup.cfg", "tox.ini", ".pydocstyle")

_MARKS = {
    "google": re.compile(
        r"^[ \t]*(Args|Arguments|Returns|Raises|Yields|Attributes):[ \t]*$", re.MULTILINE
    ),
    "numpy": re.compile(
        r"^[ \t]*(Parameters|Returns|Raises|Yields|Attributes)\n[ \t]*-{3,}[ \t]*$", re.MULTILINE
    ),
    "sphinx": re.compile(r"^[ \t]*:(param|returns?|raises?|rtype|ivar)\b.*:", re.MULTILINE),
}
_TYPED = {
    "google": (r"^[ \t]+\*{0,2}\w+ \([^)]+\):", r"^[ \t]+\*{0,2}\w+:[ \t]"),
    "numpy": (r"^[ \t]*\*{0,2}\w+ ?: ", r"^[ \t]*\*{0,2}\w+\n[ \t]+\S"),
    "sphinx": (r":type \w|:param [\w\[\], ]+ \w+:", r":param \*{0,2}\w+:"),
}
"""Style -> how an entry with and one without a type looks."""


def styles_of(language: str) -> tuple[str, ...]:
    """The styles that a language has."""
    return PYTHON_STYLES if language == "python" else COMMENT_STYLES.get(language, ("plain",))


def convention_for(
    language: str, text: str, shapes: Sequence[Shape], wanted: str, folder: Path | None
) -> Convention:
    """The convention to write in; raises ValueError for a style that the language does not have.

    `wanted` is "auto" or a style; `folder` is where the file lies, None when that is unknown.
    """
    possible = styles_of(language)
    if wanted != "auto" and wanted not in possible:
        raise ValueError(
            f"style {wanted!r} does not fit {language}; use auto or {', '.join(possible)}"
        )
    there = [shape.existing.text for shape in shapes if shape.existing is not None]
    if language != "python":
        return comment_convention(
            language, text, there, possible[0] if wanted == "auto" else wanted
        )
    project = project_convention(folder) if folder is not None else {}
    style = wanted if wanted != "auto" else detect_style(there) or project.get("style", "google")
    types = typed(style, there)
    if types is None:
        types = project.get("types", True)
    return Convention(style, types, project.get("width", DEFAULT_WIDTH))


def detect_style(docstrings: Sequence[str]) -> str:
    """The Python style that most docstrings use; "" when none shows one."""
    votes = {name: sum(bool(mark.search(d)) for d in docstrings) for name, mark in _MARKS.items()}
    best = max(votes, key=lambda name: votes[name])
    return best if votes[best] else ""


def typed(style: str, docstrings: Sequence[str]) -> bool | None:
    """Whether entries repeat the types of the signature; None when there are no entries."""
    counts = [0, 0]
    for text in docstrings:
        found = _MARKS[style].search(text)
        if found is None:
            continue
        for at, pattern in enumerate(_TYPED[style]):
            counts[at] += len(re.findall(pattern, text[found.start() :], re.MULTILINE))
    return counts[0] >= counts[1] if any(counts) else None


def comment_convention(language: str, text: str, there: Sequence[str], style: str) -> Convention:
    """The same for comments: their marks, their tags, whether types stand in them."""
    joined = "\n".join(there)
    types = style == "jsdoc" and language.startswith("javascript")
    if types and re.search(r"@param \w", joined) and not re.search(r"@param \{", joined):
        types = False
    mark = LINE_MARKS.get(language, "")
    if language in ("c", "cpp"):
        lines = sum(t.startswith("///") for t in there)
        mark = "///" if lines > len(there) - lines else ""
    backslashes = len(re.findall(r"\\(?:param|return|brief)\b", joined))
    at_signs = len(re.findall(r"@(?:param|return|brief)\b", joined))
    return Convention(
        style=style,
        types=types,
        width=COMMENT_WIDTH,
        mark=mark,
        tag="\\" if backslashes > at_signs else "@",
        brief=2 * len(re.findall(r"[@\\]brief\b", joined)) > len(there),
        arguments=bool(re.search(r"# Arguments", joined)),
    )


def project_convention(folder: Path) -> dict[str, Any]:
    """What the nearest configuration says: `style`, `types`, `width`, each only if it does."""
    found: dict[str, Any] = {}
    for parent in (folder, *folder.parents):
        for name in CONFIG_FILES:
            path = parent / name
            if path.is_file():
                for key, value in read_config(path).items():
                    found.setdefault(key, value)
        if found or (parent / "pyproject.toml").is_file() or (parent / ".git").exists():
            break
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The convention of one configuration file; empty for one that cannot be read."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return {}
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return from_toml(tomllib.loads(text), whole=path.name != "pyproject.toml")
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        sections = ("pydocstyle", "tool:pydocstyle", "flake8")
        named = [dict(parser[s]) for s in sections if parser.has_section(s)]
    except (OSError, ValueError, configparser.Error):
        return {}
    style = next((n["convention"] for n in named if "convention" in n), "")
    style = style or next(
        (n["docstring-convention"] for n in named if "docstring-convention" in n), ""
    )
    return {"style": style} if style in PYTHON_STYLES else {}


def from_toml(content: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """What a `pyproject.toml` (or, with `whole`, ruff's own file) says about docstrings."""
    tool = {"ruff": content} if whole else table(content, "tool")
    ruff = table(tool, "ruff")
    pydoclint = table(tool, "pydoclint")
    styles = (
        table(table(ruff, "lint"), "pydocstyle").get("convention"),
        table(ruff, "pydocstyle").get("convention"),
        table(tool, "pydocstyle").get("convention"),
        pydoclint.get("style"),
    )
    found: dict[str, Any] = {}
    if style := next((s for s in styles if s in PYTHON_STYLES), None):
        found["style"] = style
    types = pydoclint.get("arg-type-hints-in-docstring")
    if isinstance(types, bool):
        found["types"] = types
    for width in (ruff.get("line-length"), table(tool, "black").get("line-length")):
        if type(width) is int and 40 <= width <= 400:
            found.setdefault("width", width)
    return found


def table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a TOML document; empty when it is missing or something else."""
    value = content.get(name)
    return value if isinstance(value, dict) else {}

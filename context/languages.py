"""Which language a file is in, and for the parsed ones: grammar, query, comment syntax.

Adding a language is one row of `LANGUAGES`, one `queries/<name>.scm` and one case in the tests.
Grammars are imported on first use, so that a start without source files costs nothing.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

import tree_sitter

logger = logging.getLogger(__name__)

DocStyle = Literal["string", "comment"]


@dataclass(frozen=True, slots=True)
class LanguageSpec:
    """One parsed language. `grammar` is "module:function", imported lazily.

    `query` names a file of `queries/` without its suffix. `docs` says where documentation
    lives: a string at the start of the body, or a comment above the definition. Lines that
    start with one of `transparent` may stand between such a comment and its definition.
    """

    id: str
    grammar: str
    query: str
    suffixes: tuple[str, ...]
    filenames: tuple[str, ...] = ()
    line_comment: str = "//"
    block_comment: tuple[str, str] | None = ("/*", "*/")
    docs: DocStyle = "comment"
    transparent: tuple[str, ...] = ()


_ROWS = (
    LanguageSpec(
        "python",
        "tree_sitter_python:language",
        "python",
        (".py", ".pyi", ".pyw"),
        ("SConstruct", "SConscript", "wscript"),
        line_comment="#",
        block_comment=None,
        docs="string",
    ),
    LanguageSpec(
        "javascript",
        "tree_sitter_javascript:language",
        "javascript",
        (".js", ".mjs", ".cjs"),
        transparent=("@",),
    ),
    LanguageSpec(
        "javascriptreact",
        "tree_sitter_javascript:language",
        "javascript",
        (".jsx",),
        transparent=("@",),
    ),
    LanguageSpec(
        "typescript",
        "tree_sitter_typescript:language_typescript",
        "typescript",
        (".ts", ".mts", ".cts"),
        transparent=("@",),
    ),
    LanguageSpec(
        "typescriptreact",
        "tree_sitter_typescript:language_tsx",
        "typescript",
        (".tsx",),
        transparent=("@",),
    ),
    LanguageSpec("go", "tree_sitter_go:language", "go", (".go",)),
    LanguageSpec("rust", "tree_sitter_rust:language", "rust", (".rs",), transparent=("#[",)),
    LanguageSpec("java", "tree_sitter_java:language", "java", (".java",), transparent=("@",)),
    LanguageSpec("c", "tree_sitter_c:language", "c", (".c", ".h")),
    LanguageSpec(
        "cpp",
        "tree_sitter_cpp:language",
        "cpp",
        (
            ".cpp",
            ".cc",
            ".cxx",
            ".c++",
            ".hpp",
            ".hh",
            ".hxx",
            ".h++",
            ".ipp",
            ".inl",
            ".cu",
            ".cuh",
        ),
        transparent=("template",),
    ),
    LanguageSpec(
        "csharp", "tree_sitter_c_sharp:language", "csharp", (".cs", ".csx"), transparent=("[",)
    ),
    LanguageSpec(
        "ruby",
        "tree_sitter_ruby:language",
        "ruby",
        (".rb", ".rake", ".gemspec", ".ru"),
        ("Rakefile", "Gemfile", "Vagrantfile", "Guardfile", "Podfile"),
        line_comment="#",
        block_comment=("=begin", "=end"),
    ),
    LanguageSpec(
        "php", "tree_sitter_php:language_php", "php", (".php", ".phtml"), transparent=("#[",)
    ),
    LanguageSpec(
        "shellscript",
        "tree_sitter_bash:language",
        "bash",
        (".sh", ".bash", ".bats", ".ksh", ".zsh"),
        (".bashrc", ".bash_profile", ".profile", ".zshrc", "PKGBUILD"),
        line_comment="#",
        block_comment=None,
    ),
)

LANGUAGES: Mapping[str, LanguageSpec] = MappingProxyType({row.id: row for row in _ROWS})
"""Every parsed language by its LSP id."""

# Indexed as plain text: no grammar, but their names and lines are worth finding.
_PLAIN_SUFFIXES = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "restructuredtext",
    ".txt": "text",
    ".json": "json",
    ".jsonc": "jsonc",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".ini": "ini",
    ".cfg": "ini",
    ".xml": "xml",
    ".html": "html",
    ".htm": "html",
    ".vue": "vue",
    ".svelte": "svelte",
    ".css": "css",
    ".scss": "scss",
    ".less": "less",
    ".sql": "sql",
    ".proto": "proto",
    ".graphql": "graphql",
    ".kt": "kotlin",
    ".kts": "kotlin",
    ".swift": "swift",
    ".scala": "scala",
    ".lua": "lua",
    ".pl": "perl",
    ".pm": "perl",
    ".r": "r",
    ".jl": "julia",
    ".dart": "dart",
    ".ex": "elixir",
    ".exs": "elixir",
    ".erl": "erlang",
    ".hs": "haskell",
    ".ml": "ocaml",
    ".clj": "clojure",
    ".zig": "zig",
    ".nim": "nim",
    ".tf": "terraform",
    ".cmake": "cmake",
    ".mk": "makefile",
    ".ps1": "powershell",
    ".bat": "bat",
    ".m": "objective-c",
    ".mm": "objective-cpp",
    ".scm": "scheme",
    ".tex": "latex",
}
_PLAIN_FILENAMES = {
    "Makefile": "makefile",
    "GNUmakefile": "makefile",
    "Dockerfile": "dockerfile",
    "CMakeLists.txt": "cmake",
    "go.mod": "go.mod",
    "Jenkinsfile": "groovy",
}

_BY_SUFFIX = _PLAIN_SUFFIXES | {suffix: row.id for row in _ROWS for suffix in row.suffixes}
_BY_FILENAME = _PLAIN_FILENAMES | {name: row.id for row in _ROWS for name in row.filenames}


def language_of(path: str) -> str:
    """Language id of a path by file name, then by suffix; "text" when unknown."""
    name = PurePosixPath(path.replace("\\", "/")).name
    if name in _BY_FILENAME:
        return _BY_FILENAME[name]
    dot = name.rfind(".")
    return _BY_SUFFIX.get(name[dot:].lower(), "text") if dot >= 0 else "text"


@cache
def grammar(language: str) -> tree_sitter.Language | None:
    """The tree-sitter grammar of a language id; None (and one log line) when there is none."""
    spec = LANGUAGES.get(language)
    if spec is None:
        return None
    module_name, _, function = spec.grammar.partition(":")
    try:
        return tree_sitter.Language(getattr(importlib.import_module(module_name), function)())
    except (ImportError, AttributeError, ValueError) as error:
        logger.warning(
            "grammar language=%s unavailable (%s): its files are indexed as plain text; "
            "reinstall qcoder to get it back",
            language,
            error,
        )
        return None


@cache
def query_source(language: str) -> str:
    """Text of the language's query file; empty for a language without grammar."""
    spec = LANGUAGES.get(language)
    if spec is None:
        return ""
    return (
        resources.files("qcoder.context.queries").joinpath(f"{spec.query}.scm").read_text("utf-8")
    )


@cache
def query(language: str) -> tree_sitter.Query | None:
    """The compiled query of a language; None for a language without grammar."""
    compiled_for = grammar(language)
    return None if compiled_for is None else tree_sitter.Query(compiled_for, query_source(language))

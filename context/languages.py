"""Which language a file is in, and for the parsed ones: grammar, query, comment syntax.

Adding a language is one row of `LANGUAGES`, one `queries/<name>.scm` and one case in the tests.
Grammars are imported on first use, so that a start without source files costs nothing.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

import tree_sitter

logger = logging.getLogger(__name__)

DocStyle = Literal["string", "comment", "none"]


@dataclass(frozen=True, slots=True)
class LanguageSpec:
    """One parsed language. `grammar` is "module:function", imported lazily.

    `query` names a file of `queries/` without its suffix. `docs` says where documentation
    lives: a string at the start of the body, or a comment above the definition. Lines that
    start with one of `transparent` may stand between such a comment and its definition.

    `data` marks formats whose keys and headings make an outline but are no names that code calls.
    `equations` says that a function is several nodes, one below the other: its type, its cases.
    `marks` are texts of which every node that the query finds contains one; () says nothing.
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
    data: bool = False
    equations: bool = False
    marks: tuple[bytes, ...] = ()


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
        marks=(b"def", b"class", b"import", b"type ", b"type\t"),
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
    LanguageSpec(
        "rust",
        "tree_sitter_rust:language",
        "rust",
        (".rs",),
        transparent=("#[",),
        marks=(
            b"fn",
            b"struct",
            b"enum",
            b"union",
            b"trait",
            b"type",
            b"macro_rules",
            b"impl",
            b"use",
            b"mod",
        ),
    ),
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
    LanguageSpec(
        "kotlin", "tree_sitter_kotlin:language", "kotlin", (".kt", ".kts"), transparent=("@",)
    ),
    LanguageSpec("swift", "tree_sitter_swift:language", "swift", (".swift",), transparent=("@",)),
    LanguageSpec(
        "scala", "tree_sitter_scala:language", "scala", (".scala", ".sc"), transparent=("@",)
    ),
    LanguageSpec(
        "lua",
        "tree_sitter_lua:language",
        "lua",
        (".lua",),
        line_comment="--",
        block_comment=("--[[", "]]"),
    ),
    LanguageSpec(
        "haskell",
        "tree_sitter_haskell:language",
        "haskell",
        (".hs",),
        line_comment="--",
        block_comment=("{-", "-}"),
        equations=True,
    ),
    LanguageSpec("sql", "tree_sitter_sql:language", "sql", (".sql",), line_comment="--"),
    LanguageSpec(
        "html",
        "tree_sitter_html:language",
        "html",
        (".html", ".htm", ".xhtml"),
        block_comment=("<!--", "-->"),
        docs="none",
        data=True,
    ),
    LanguageSpec("css", "tree_sitter_css:language", "css", (".css",), data=True),
    LanguageSpec("json", "tree_sitter_json:language", "json", (".json",), docs="none", data=True),
    LanguageSpec("jsonc", "tree_sitter_json:language", "json", (".jsonc", ".json5"), data=True),
    LanguageSpec(
        "yaml",
        "tree_sitter_yaml:language",
        "yaml",
        (".yaml", ".yml"),
        line_comment="#",
        block_comment=None,
        data=True,
    ),
    LanguageSpec(
        "toml",
        "tree_sitter_toml:language",
        "toml",
        (".toml",),
        ("Cargo.lock", "poetry.lock", "uv.lock", "Pipfile"),
        line_comment="#",
        block_comment=None,
        data=True,
    ),
    LanguageSpec(
        "markdown",
        "tree_sitter_markdown:language",
        "markdown",
        (".md", ".markdown"),
        docs="none",
        data=True,
    ),
)

LANGUAGES: Mapping[str, LanguageSpec] = MappingProxyType({row.id: row for row in _ROWS})
"""Every parsed language by its LSP id."""

# Indexed as plain text: no grammar, but their names and lines are worth finding.
_PLAIN_SUFFIXES = {
    ".rst": "restructuredtext",
    ".txt": "text",
    ".ini": "ini",
    ".cfg": "ini",
    ".xml": "xml",
    ".vue": "vue",
    ".svelte": "svelte",
    ".scss": "scss",
    ".less": "less",
    ".proto": "proto",
    ".graphql": "graphql",
    ".pl": "perl",
    ".pm": "perl",
    ".r": "r",
    ".jl": "julia",
    ".dart": "dart",
    ".ex": "elixir",
    ".exs": "elixir",
    ".erl": "erlang",
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


# What only C++ has at the start of a line: a header by the suffix `.h` may be either language.
_CPP_LINE = re.compile(
    r"^[ \t]*(?:class\s+\w|(?:inline\s+)?namespace\b|template\s*<|(?:public|private|protected)\s*:"
    r"|using\s+\w|(?:virtual|explicit|constexpr)\s|#\s*include\s*<[a-z_]+>)",
    re.MULTILINE,
)
_SHEBANG = re.compile(r"#![^\n]*?\b(?P<name>python|node|bash|ruby|php|lua|sh|zsh|ksh)[\d.]*\s*\n")
_INTERPRETERS = {
    "python": "python",
    "node": "javascript",
    "ruby": "ruby",
    "php": "php",
    "lua": "lua",
}


def language_of(path: str, text: str | None = None) -> str:
    """Language id of a path by file name, then by suffix; "text" when unknown.

    With the text at hand a header is C or C++ by what it says, and a script without a suffix is
    what its first line names.
    """
    name = PurePosixPath(path.replace("\\", "/")).name
    if name in _BY_FILENAME:
        return _BY_FILENAME[name]
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot >= 0 else ""
    if text is not None and suffix == ".h" and _CPP_LINE.search(text):
        return "cpp"
    if text is not None and not suffix and (match := _SHEBANG.match(text)):
        return _INTERPRETERS.get(match["name"], "shellscript")
    return _BY_SUFFIX.get(suffix, "text")


def is_data(language: str) -> bool:
    """Whether a language is a parsed format of data or text: an outline, but no code."""
    spec = LANGUAGES.get(language)
    return spec is not None and spec.data


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

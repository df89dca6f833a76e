"""Call sites of one file: what is called, what stands before it, what the file has imported by then."""

from __future__ import annotations

import builtins
import io
import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tree_sitter

from qcoder.context import languages

_QUERIES = {
    "python": """
(call function: (identifier) @name)
(call function: (attribute object: (_) @receiver attribute: (identifier) @name))
[(import_statement) (import_from_statement)] @import
""",
    "typescript": """
(call_expression function: (identifier) @name)
(call_expression function: (member_expression
  object: (_) @receiver property: (property_identifier) @name))
(new_expression constructor: (identifier) @name)
(import_statement) @import
""",
    "go": """
(call_expression function: (identifier) @name)
(call_expression function: (selector_expression
  operand: (_) @receiver field: (field_identifier) @name))
(import_spec) @import
""",
}
_QUERIES["typescriptreact"] = _QUERIES["typescript"]

FAMILY = {
    "python": "python",
    "typescript": "typescript",
    "typescriptreact": "typescript",
    "go": "go",
}
"""Languages that tasks are drawn from, and which of them name each other's definitions."""

_PYTHON_TYPES = (str, bytes, list, dict, set, int, BaseException, re.Pattern, re.Match, Path)
STANDARD_METHODS: Mapping[str, frozenset[str]] = {
    "python": frozenset(name for kind in _PYTHON_TYPES for name in dir(kind))
    | frozenset(dir(logging.Logger) + dir(threading.Event) + dir(io.TextIOWrapper)),
    "typescript": frozenset(
        [
            "apply",
            "assign",
            "at",
            "bind",
            "call",
            "catch",
            "charAt",
            "charCodeAt",
            "concat",
            "copyWithin",
            "create",
            "debug",
            "defineProperty",
            "delete",
            "emit",
            "endsWith",
            "entries",
            "error",
            "every",
            "exec",
            "fill",
            "filter",
            "finally",
            "find",
            "findIndex",
            "findLast",
            "flat",
            "flatMap",
            "forEach",
            "freeze",
            "from",
            "fromEntries",
            "getTime",
            "has",
            "includes",
            "indexOf",
            "info",
            "isArray",
            "isInteger",
            "join",
            "keys",
            "lastIndexOf",
            "localeCompare",
            "match",
            "matchAll",
            "once",
            "padEnd",
            "padStart",
            "parse",
            "parseInt",
            "pipe",
            "push",
            "reduce",
            "reduceRight",
            "reject",
            "repeat",
            "replace",
            "replaceAll",
            "resolve",
            "reverse",
            "search",
            "shift",
            "slice",
            "some",
            "sort",
            "splice",
            "split",
            "startsWith",
            "stringify",
            "substring",
            "test",
            "then",
            "toFixed",
            "toISOString",
            "toLowerCase",
            "toString",
            "toUpperCase",
            "trim",
            "trimEnd",
            "trimStart",
            "unshift",
            "valueOf",
            "values",
            "warn",
            "write",
        ]
    ),
    "go": frozenset(
        {"Error", "String", "Lock", "Unlock", "RLock", "RUnlock", "Close", "Read", "Write"}
    ),
}
"""Methods that objects of the language's own library have: a call of one says nothing."""

STANDARD_NAMES = frozenset(dir(builtins)) | frozenset(
    [
        "Array",
        "Blob",
        "Boolean",
        "Buffer",
        "Date",
        "Error",
        "Event",
        "EventEmitter",
        "File",
        "FormData",
        "Headers",
        "Map",
        "Number",
        "Object",
        "Promise",
        "Proxy",
        "RangeError",
        "RegExp",
        "Request",
        "Response",
        "Set",
        "String",
        "Symbol",
        "SyntaxError",
        "TypeError",
        "URL",
        "URLSearchParams",
        "Uint8Array",
        "WeakMap",
        "WeakSet",
        "clearTimeout",
        "fetch",
        "parseInt",
        "parseFloat",
        "queueMicrotask",
        "require",
        "setImmediate",
        "setInterval",
        "setTimeout",
        "structuredClone",
        "append",
        "close",
        "copy",
        "delete",
        "make",
        "panic",
        "print",
        "println",
        "recover",
    ]
)
"""Names that mean the language's own without an import."""


@dataclass(frozen=True, slots=True)
class CallSite:
    """One call. `offset` is where the callee's name begins, in code points; `line` is 0-based.

    `receiver` is the text before the dot, empty for a bare call; `imports` are the statements
    that end before the call.
    """

    name: str
    receiver: str
    offset: int
    line: int
    imports: tuple[str, ...]

    @property
    def head(self) -> str:
        """The first word of the receiver: a module or an object."""
        return re.split(r"\W", self.receiver, maxsplit=1)[0]

    @property
    def imported_words(self) -> frozenset[str]:
        """Every word of the import statements before the call."""
        return frozenset(re.findall(r"\w+", "\n".join(self.imports)))


def call_sites(text: str, language: str) -> list[CallSite]:
    """All calls of a file, in file order; empty for a text that does not parse cleanly."""
    data = text.encode("utf-8", "surrogatepass")
    grammar = languages.grammar(language)
    assert grammar is not None
    root = tree_sitter.Parser(grammar).parse(data).root_node
    if root.has_error or not text.isascii():
        return []
    calls: list[tuple[int, int, str, str]] = []
    imports: list[tuple[int, str]] = []
    for _, captures in tree_sitter.QueryCursor(_query(language)).matches(root):
        if "import" in captures:
            node = captures["import"][0]
            imports.append((node.end_byte, data[node.start_byte : node.end_byte].decode()))
            continue
        name = captures["name"][0]
        receiver = captures["receiver"][0] if "receiver" in captures else None
        before = data[receiver.start_byte : receiver.end_byte].decode() if receiver else ""
        called = data[name.start_byte : name.end_byte].decode()
        calls.append((name.start_byte, name.start_point[0], called, before))
    imports.sort()
    return [
        CallSite(name, receiver, at, line, tuple(text for end, text in imports if end <= at))
        for at, line, name, receiver in sorted(calls)
    ]


@cache
def _query(language: str) -> tree_sitter.Query:
    grammar = languages.grammar(language)
    assert grammar is not None
    return tree_sitter.Query(grammar, _QUERIES[language])

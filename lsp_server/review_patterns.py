"""Rules that are patterns: ast-grep finds them, templates say what they mean and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from ast_grep_py import Config, SgNode, SgRoot

from qcoder.lsp_server.review_rule import Match, Rule
from qcoder.lsp_server.snapshot import TextEdit

GRAMMARS = {
    "python": "python",
    "javascript": "javascript",
    "javascriptreact": "javascript",
    "typescript": "typescript",
    "typescriptreact": "tsx",
    "go": "go",
    "java": "java",
    "c": "c",
    "cpp": "cpp",
    "rust": "rust",
}
"""Our language ids -> ast-grep's."""

VARIABLE = re.compile(r"\$\$\$([A-Z_]+)|\$([A-Z_]+)")
MAX_DEPTH = 400
MAX_BRANCHES = 1500
MAX_CHAIN = 500
"""Rules that look around cost the square of the depth: deeper texts are not for people."""

_OPEN, _CLOSE = frozenset(b"([{"), frozenset(b")]}")
_NO_BRACKETS = bytes(set(range(256)) - _OPEN - _CLOSE)


def root_of(text: str, language: str) -> SgNode | None:
    """The syntax tree for patterns; None without a grammar or for a text nested too deeply."""
    grammar = GRAMMARS.get(language)
    if grammar is None or is_deep(text):
        return None
    # Lone surrogates cannot cross to the library; a mark in their place keeps all columns.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return SgRoot(clean, grammar).root()


def is_deep(text: str) -> bool:
    """Whether a text is nested deeper than any that people write."""
    # A chain of `else if` nests, and so does `a.b().c()...`, without a bracket that stays open.
    if text.count("else") > MAX_BRANCHES or is_chained(text):
        return True
    depth = 0
    for byte in text.encode("utf-8", "replace").translate(None, _NO_BRACKETS):
        # Closing brackets in strings and comments must not hide the depth that follows.
        depth = depth + 1 if byte in _OPEN else max(0, depth - 1)
        if depth > MAX_DEPTH:
            return True
    return False


def is_chained(text: str) -> bool:
    """Whether one line strings more calls together than any that people write."""
    if text.count(").") <= MAX_CHAIN:
        return False
    return any(line.count(").") > MAX_CHAIN for line in text.split("\n"))


def pattern_matches(rule: Rule, root: SgNode) -> Iterator[Match]:
    """What a rule's pattern matches, with its sentence and its replacement."""
    for node in root.find_all(cast(Config, rule.pattern)):
        span = node.range()
        start, end = (span.start.line, span.start.column), (span.end.line, span.end.column)
        fix = None
        if rule.fix is not None:
            fix = TextEdit(*start, *end, filled(rule.fix, node))
        yield Match(
            start,
            end,
            node.text(),
            " ".join(filled(rule.message, node).split()),
            fix,
        )


def filled(template: str, node: SgNode) -> str:
    """A template with the texts of what `$NAME` and `$$$NAMES` stand for in a match."""

    def text_of(found: re.Match[str]) -> str:
        many, one = found.groups()
        if one:
            single = node.get_match(one)
            return single.text() if single is not None else ""
        parts = node.get_multiple_matches(many)
        if not parts:
            return ""
        whole = node.get_root().root().text()
        return whole[parts[0].range().start.index : parts[-1].range().end.index]

    return VARIABLE.sub(text_of, template)

"""All matches of the structural rules in one text: patterns and passes, whatever the language."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qcoder.lsp_server.edited import that_compile
from qcoder.lsp_server.python_tree import PythonFile
from qcoder.lsp_server.review_modules import file_at
from qcoder.lsp_server.review_passes import PASSES
from qcoder.lsp_server.review_patterns import is_chained, pattern_matches, root_of
from qcoder.lsp_server.review_rule import Hit, Match, Replacement, Rule
from qcoder.lsp_server.snapshot import TextEdit

logger = logging.getLogger(__name__)


def matches(
    rules: Iterable[Rule],
    text: str,
    language: str,
    path: Path | None = None,
    root: Path | None = None,
) -> Iterator[tuple[Rule, Match]]:
    """Every match, rule by rule; `path` and `root` say where imports are looked up.

    A rule that fails costs its own matches and one line of the log.
    """
    tried = [rule for rule in rules if rule.concerns(text)]
    if not tried:
        return
    followed = language == "python" and not is_chained(text)
    file = python_file(text, path, root) if followed else None
    tree = root_of(text, language) if any(r.pattern is not None for r in tried) else None
    lines = text.split("\n")
    for rule in tried:
        try:
            if rule.pattern is not None:
                found = list(pattern_matches(rule, tree)) if tree is not None else []
            else:
                hits = PASSES[rule.run](file) if file is not None else ()
                found = [match_of(hit, lines, file) for hit in hits] if file is not None else []
        except Exception as error:  # the boundary of a rule: the others go on
            reason = str(error).partition("\n\nStack backtrace")[0]
            logger.error("rule %s failed: %s: %s", rule.name, type(error).__name__, reason)
            logger.debug("rule %s failed", rule.name, exc_info=True)
            continue
        if language == "python":
            found = with_sound_fixes(found, text)
        for match in found:
            yield rule, match


def with_sound_fixes(found: Sequence[Match], text: str) -> list[Match]:
    """The matches; those whose replacement would leave no Python any more have none."""
    kept = that_compile(text, [match.fix for match in found if match.fix is not None])
    return [m if m.fix is None or m.fix in kept else replace(m, fix=None) for m in found]


def python_file(text: str, path: Path | None, root: Path | None) -> PythonFile | None:
    """The tree of a text; the one that other files' imports have left of it where it is the same."""
    known = file_at(path, root, len(text.encode("utf-8", "surrogatepass")))
    if known is not None and known.text == text:
        return PythonFile(text, known.tree, path, root)
    return PythonFile.parse(text, path, root)


def match_of(hit: Hit, lines: Sequence[str], file: PythonFile) -> Match:
    """A hit in code points, without its tree."""
    fix = hit.fix
    return Match(
        place(lines, hit.node.start_point),
        place(lines, hit.node.end_point),
        (hit.node.text or b"").decode("utf-8", "replace"),
        hit.message,
        edit_of(fix, lines) if fix is not None else None,
        file.symbol_at(hit.node.start_point[0]),
    )


def edit_of(fix: Replacement, lines: Sequence[str]) -> TextEdit:
    """A replacement in code points, without its tree."""
    start, end = place(lines, fix.first.start_point), place(lines, fix.last.end_point)
    return TextEdit(*start, *end, fix.text)


def place(lines: Sequence[str], point: tuple[int, int]) -> tuple[int, int]:
    """0-based line and code point column of a row and byte column."""
    line, column = point
    return line, characters(lines[line], column)


def characters(line: str, column_bytes: int) -> int:
    """Code points before a byte column."""
    data = line.encode("utf-8", "surrogatepass")[:column_bytes]
    return len(data.decode("utf-8", "surrogatepass"))

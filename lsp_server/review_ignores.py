"""Comments that silence findings, and those that silence nothing any more.

`# qcoder: ignore[rule]` on the line, or alone on the line above, silences a rule there;
`# qcoder: ignore` all of them; `# qcoder: ignore-file` the whole file. A named rule that finds
nothing there any more is reported, so that excuses do not outlive what they excuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from qcoder.context.parse import parse
from qcoder.context.segments import Document

IGNORE = re.compile(r"(?:#|//)\s*qcoder:\s*ignore(?!-)(?:\[([\w\-, ]*)\])?")
IGNORE_FILE = re.compile(r"^\s*(?:#|//)\s*qcoder:\s*ignore-file\b", re.MULTILINE)
MENTION = "qcoder:"
UNUSED_RULE = "unused-ignore"


@dataclass(frozen=True, slots=True)
class Ignore:
    """One comment: its 0-based line, where it stands in it, and the rules it names (none: all)."""

    line: int
    start: int
    end: int
    rules: frozenset[str] | None
    alone: bool

    def covers(self, line: int, rule: str) -> bool:
        """Whether the comment silences a rule on a line."""
        there = line == self.line or (self.alone and line == self.line + 1)
        return there and (self.rules is None or rule in self.rules)


def ignores_in(text: str) -> list[Ignore]:
    """The comments of a text, in order."""
    if MENTION not in text:
        return []
    found = []
    for number, line in enumerate(text.split("\n")):
        match = IGNORE.search(line) if MENTION in line else None
        if match is not None:
            names = match.group(1)
            rules = None if names is None else frozenset(re.split(r"[,\s]+", names.strip()))
            alone = line.lstrip().startswith(("#", "//"))
            found.append(Ignore(number, match.start(), match.end(), rules, alone))
    return found


def is_silenced(ignores: Sequence[Ignore], line: int, rule: str) -> bool:
    """Whether one of the comments covers a rule on a line."""
    return any(ignore.covers(line, rule) for ignore in ignores)


def unused(
    document: Document,
    ignores: Sequence[Ignore],
    found: Iterable[tuple[int, str]],
    known: frozenset[str],
) -> Iterator[tuple[Ignore, list[str]]]:
    """Comments with the `known` rules that they name in vain; `found` are lines and rules."""
    if not ignores:
        return
    hits = list(found)
    tree = parse(document.text, document.language)
    lines = document.text.split("\n")
    for ignore in ignores:
        vain = sorted(
            rule
            for rule in (ignore.rules or frozenset()) & known
            if not any(hit == rule and ignore.covers(line, rule) for line, hit in hits)
        )
        if not vain or tree is None:
            continue
        # The same words in a string are no comment.
        column = len(lines[ignore.line][: ignore.start].encode("utf-8", "surrogatepass"))
        place = (ignore.line, column)
        node = tree.root_node.descendant_for_point_range(place, place)
        if node is not None and "comment" in node.type:
            yield ignore, vain

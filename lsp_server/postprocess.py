"""From what the model wrote to what the user may see: an ordered chain of pure functions.

`clean` runs them all. Each of `FILTERS` takes the insertion and the text around the cursor and
returns the insertion, shortened or empty. The last word has the syntax tree: an insertion never
adds ERROR or MISSING nodes to the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from qcoder.context.parse import error_count, parse
from qcoder.lsp_server.around import Around

CLOSERS_ONLY = re.compile(r"^\s*[)>}\]\"'`]*\s*[:{;,]?\s*$")
BLOCK_OPENER = re.compile(r"[:{(\[]\s*$|\b(do|then|begin|=>)\s*$")
INDENTED = re.compile(r"^(\t+| {2,})[^\s*]", re.MULTILINE)
"""A line of code in a block; the lines of a `/*` comment stand one blank from its edge."""

PAIRS = {")": "(", "]": "[", "}": "{"}
BRACKETS = frozenset("()[]{}")
MAX_LINES = 20
MIN_REPEATS = 3
MAX_BRACKETS_CUT = 4
NEAR_DUPLICATE = 0.95
MIN_NEAR_LENGTH = 20
SPECIAL = re.compile(r"<\|[a-z_]+\|>|^\s*```", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The insertion that may be shown and how many characters behind the cursor it replaces.

    `errors` are the syntax errors of the whole document with it. `filters` are the names of those
    that changed the text, in order.
    """

    text: str
    replaced: int = 0
    errors: int = 0
    filters: tuple[str, ...] = ()


def may_complete_here(around: Around) -> bool:
    """True at a line's end, or when only closers follow on the line."""
    return CLOSERS_ONLY.match(around.line_suffix) is not None


def clean(text: str, around: Around) -> Cleaned:
    """Run the whole chain; an empty text means: show nothing."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    changed: list[str] = []
    for name, apply in FILTERS:
        before, text = text, apply(text, around)
        if text != before:
            changed.append(name)
    text, before = text.rstrip(), text
    text, replaced = fit_line_suffix(text, around)
    if text != before.rstrip() or replaced:
        changed.append("rest of the line")
    if not text.strip():
        return Cleaned("", filters=tuple(changed))
    kept = keep_syntax(text, replaced, around)
    if kept.text != text:
        changed.append("syntax")
    return replace(kept, filters=tuple(changed))


def cut_special(text: str, _: Around) -> str:
    """End before the first special token or code fence."""
    found = SPECIAL.search(text)
    return text[: found.start()] if found else text


def drop_repeated_line_prefix(text: str, around: Around) -> str:
    """Cut a leading copy of what already stands on the line.

    With the blanks before the cursor: behind `import ` a copy is `import os`, but not `importlib`.
    """
    typed = around.line_prefix.lstrip()
    if len(typed.rstrip()) >= 3 and text.lstrip().startswith(typed):
        return text.lstrip()[len(typed) :]
    return text


def match_indentation(text: str, around: Around) -> str:
    """Indent with what the file indents with, and count blanks that are typed already once."""
    step, blank = indent_step(around.prefix), not around.line_prefix.strip()
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if step and (at or blank):
            lead = line[: indent_of(line)]
            lines[at] = converted(lead, step) + line[len(lead) :]
    lead = lines[0][: indent_of(lines[0])]
    typed = around.line_prefix
    if blank and typed and lead.startswith(typed):
        wanted = next_line_indent(around.line_above, around.prefix)
        if len(lead) == len(wanted):
            lines[0] = lines[0][len(typed) :]
    return "\n".join(lines)


def converted(lead: str, step: str) -> str:
    """Leading blanks in the file's own kind."""
    if step.startswith("\t"):
        width = 4 if len(lead) % 4 == 0 else 2
        return lead.replace(" " * width, "\t")
    return lead.replace("\t", step)


def indent_step(text: str) -> str:
    """What the first indented line of a text is indented with; "" when none is."""
    found = INDENTED.search(text)
    return found.group(1) if found else ""


def next_line_indent(line: str, rows_above: str) -> str:
    """What an editor puts before the cursor on the line below `line`, as far as one can know."""
    blanks = line[: indent_of(line)]
    if BLOCK_OPENER.search(line) is None:
        return blanks
    step = indent_step(rows_above) or "    "
    return blanks + ("\t" if step.startswith("\t") else step)


def limit_indentation(text: str, around: Around) -> str:
    """End before the first line that is indented less than the cursor's block."""
    lines = text.split("\n")
    if around.line_prefix.strip():
        base = indent_of(around.line_prefix)
    else:
        # On a blank line the first line's own blanks are part of the block's indent.
        base = len(around.line_prefix) + (indent_of(lines[0]) if lines[0].strip() else 0)
    for at, line in enumerate(lines[1:], start=1):
        closes = line.strip()[:1] in PAIRS
        if line.strip() and (indent_of(line) < base or (indent_of(line) == 0 and base and closes)):
            return "\n".join(lines[:at])
    return text


def indent_of(line: str) -> int:
    """Width of the leading blanks."""
    return len(line) - len(line.lstrip())


def cut_repetition(text: str, _: Around) -> str:
    """End where the text starts to repeat itself: a line, or a piece within a line."""
    kept: list[str] = []
    for line in text.split("\n"):
        if len(line.strip()) > 3 and kept.count(line) >= MIN_REPEATS - 1:
            break
        kept.append(line)
    text = "\n".join(kept)
    found = re.search(r"(.{4,40}?)\1{2,}", text, re.DOTALL)
    if found and found.group(1).strip(" -=#*_/~\n"):
        return text[: found.start() + len(found.group(1))]
    return text


def cut_following_lines(text: str, around: Around) -> str:
    """Cut the end of the text where it repeats the lines that follow in the file.

    Indentation counts: the bracket that closes an inner block is not the one that follows.
    """
    lines = text.split("\n")
    following = [line.rstrip() for line in around.next_lines if line.strip()][:6]
    if not following:
        return text
    for at in range(1, len(lines)):
        tail = [line.rstrip() for line in lines[at:] if line.strip()]
        if tail and all(a == b for a, b in zip(tail, following, strict=False)):
            return "\n".join(lines[:at])
        # The last line may be the beginning of the file's.
        if len(tail) == 1 and len(tail[0].strip()) > 4 and following[0].startswith(tail[0]):
            return "\n".join(lines[:at])
    return text


def drop_near_duplicate(text: str, around: Around) -> str:
    """Drop a text that says again what the next lines say, or exactly the previous line."""
    lines = [x.strip() for x in (around.line_prefix + text).split("\n") if x.strip()][:3]
    if not lines or len(lines[0]) < 6:
        return text
    if lines[0] == around.line_above.strip():
        return ""
    below = [x.strip() for x in around.next_lines if x.strip()][: len(lines)]
    return "" if len(below) == len(lines) and all(map(nearly_equal, lines, below)) else text


def cut_lines(text: str, _: Around) -> str:
    """The first `MAX_LINES` lines."""
    return "\n".join(text.split("\n")[:MAX_LINES])


FILTERS: tuple[tuple[str, Callable[[str, Around], str]], ...] = (
    ("special tokens", cut_special),
    ("copy of the line", drop_repeated_line_prefix),
    ("kind of indentation", match_indentation),
    ("indentation", limit_indentation),
    ("repetition", cut_repetition),
    ("following lines", cut_following_lines),
    ("duplicate", drop_near_duplicate),
    ("too many lines", cut_lines),
)
"""What is applied before the rest of the line and the syntax are looked at, by the names that
users read."""


def nearly_equal(left: str, right: str) -> bool:
    """Whether two lines are the same; long ones up to a twentieth of their characters."""
    if left == right or min(len(left), len(right)) < MIN_NEAR_LENGTH:
        return left == right
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    return matcher.quick_ratio() >= NEAR_DUPLICATE and matcher.ratio() >= NEAR_DUPLICATE


def fit_line_suffix(text: str, around: Around) -> tuple[str, int]:
    """Reconcile the text with the rest of the line.

    Returns the text and the number of characters behind the cursor that it replaces: all of the
    rest of the line when the text brings it along, otherwise none, without closers that the rest
    of the line already has.
    """
    rest = around.line_suffix.rstrip()
    if not rest:
        return text, 0
    first, _, more = text.partition("\n")
    if more:
        # Something follows on this line: several lines would tear it apart.
        text = first
    if brings(text, rest):
        return text, len(rest)
    if brings(text, rest.strip()):
        return text[: -len(rest.strip())], 0
    return drop_unmatched_closers(text), 0


def brings(text: str, rest: str) -> bool:
    """Whether the text ends with the rest of the line, not with brackets that it opened itself."""
    at = len(text) - len(rest)
    is_own = any(char in PAIRS for char in rest) and len(drop_unmatched_closers(text)) > at
    return text.endswith(rest) and not is_own


def drop_unmatched_closers(text: str) -> str:
    """Cut the text at the first closer that it did not open."""
    stack: list[str] = []
    for at, char in enumerate(text):
        if char in PAIRS.values():
            stack.append(char)
        elif char in PAIRS and (not stack or stack.pop() != PAIRS[char]):
            return text[:at]
    return text


def keep_syntax(text: str, replaced: int, around: Around) -> Cleaned:
    """The longest version of the text that adds no syntax error; empty when none does."""
    for part, cut in shorter_versions(text, replaced):
        if not part.strip():
            continue
        errors = around.errors_with(part, cut)
        if errors is not None:
            return Cleaned(part, cut, errors)
    return Cleaned("")


def shorter_versions(text: str, replaced: int) -> Iterator[tuple[str, int]]:
    """The text, then without the brackets at its end, then without its last lines."""
    yield text, replaced
    part = text
    for _ in range(MAX_BRACKETS_CUT):
        if part[-1:] not in BRACKETS:
            break
        part = part[:-1].rstrip()
        yield part, 0
    lines = text.split("\n")
    for count in range(len(lines) - 1, 0, -1):
        yield "\n".join(lines[:count]).rstrip(), 0


def errors(text: str, language: str) -> int:
    """ERROR and MISSING nodes of a text; 0 for languages without grammar."""
    tree = parse(text, language)
    return error_count(tree) if tree is not None else 0

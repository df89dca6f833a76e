"""From what the model wrote to what the user may see: an ordered chain of pure functions.

`clean` runs them all. Each takes the insertion and the text around the cursor and returns the
insertion, shortened or empty. The last word has the syntax tree: an insertion never adds ERROR or
MISSING nodes to the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qcoder.context.parse import error_count, parse

CLOSERS_ONLY = re.compile(r"^\s*[)>}\]\"'`]*\s*[:{;,]?\s*$")
PAIRS = {")": "(", "]": "[", "}": "{"}
MAX_LINES = 20
MIN_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Around:
    """The text before and behind the cursor, and the language."""

    prefix: str
    suffix: str
    language: str

    @property
    def line_prefix(self) -> str:
        """The cursor's line up to the cursor."""
        return self.prefix[self.prefix.rfind("\n") + 1 :]

    @property
    def line_suffix(self) -> str:
        """The cursor's line from the cursor on."""
        return self.suffix.split("\n", 1)[0]

    @property
    def next_lines(self) -> list[str]:
        """Lines below the cursor's."""
        return self.suffix.split("\n")[1:]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The insertion that may be shown and how many characters behind the cursor it replaces."""

    text: str
    replaced: int = 0


def may_complete_here(around: Around) -> bool:
    """True at a line's end, or when only closers follow on the line."""
    return CLOSERS_ONLY.match(around.line_suffix) is not None


def clean(text: str, around: Around) -> Cleaned:
    """Run the whole chain; an empty text means: show nothing."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = drop_repeated_line_prefix(text, around)
    text = limit_indentation(text, around)
    text = cut_repetition(text)
    text = cut_following_lines(text, around)
    text = drop_near_duplicate(text, around)
    text = "\n".join(text.split("\n")[:MAX_LINES]).rstrip()
    text, replaced = fit_line_suffix(text, around)
    if not text.strip():
        return Cleaned("")
    return keep_syntax(text, replaced, around)


def drop_repeated_line_prefix(text: str, around: Around) -> str:
    """Cut a leading copy of what already stands on the line."""
    typed = around.line_prefix.strip()
    if len(typed) >= 3 and text.lstrip().startswith(typed):
        return text.lstrip()[len(typed) :]
    return text


def limit_indentation(text: str, around: Around) -> str:
    """End before the first line that is indented less than the cursor's block."""
    lines = text.split("\n")
    base = indent_of(around.line_prefix) if around.line_prefix.strip() else len(around.line_prefix)
    for at, line in enumerate(lines[1:], start=1):
        closes = line.strip()[:1] in PAIRS
        if line.strip() and (indent_of(line) < base or (indent_of(line) == 0 and base and closes)):
            return "\n".join(lines[:at])
    return text


def indent_of(line: str) -> int:
    """Width of the leading blanks."""
    return len(line) - len(line.lstrip())


def cut_repetition(text: str) -> str:
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
    """Cut the end of the text where it repeats the lines that follow in the file."""
    lines = text.split("\n")
    following = [line.strip() for line in around.next_lines if line.strip()][:6]
    if not following:
        return text
    for at in range(1, len(lines)):
        tail = [line.strip() for line in lines[at:] if line.strip()]
        if tail and all(a == b for a, b in zip(tail, following, strict=False)):
            return "\n".join(lines[:at])
        # The last line may be the beginning of the file's.
        if len(tail) == 1 and len(tail[0]) > 4 and following[0].startswith(tail[0]):
            return "\n".join(lines[:at])
    return text


def drop_near_duplicate(text: str, around: Around) -> str:
    """Drop a text that only says again what the next or the previous line says."""
    whole = (around.line_prefix + text.split("\n")[0]).strip()
    if len(whole) < 6:
        return text
    above = [x.strip() for x in around.prefix.split("\n")[:-1] if x.strip()][-1:]
    below = [x.strip() for x in around.next_lines if x.strip()][:1]
    return "" if whole in above + below else text


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
    at = text.rfind(rest)
    if at >= 0 and at + len(rest) == len(text):
        return text, len(rest)
    if rest.strip() and text.endswith(rest.strip()):
        return text[: -len(rest.strip())], 0
    return drop_unmatched_closers(text), 0


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
    """The longest run of leading lines that adds no syntax error; empty when none does."""
    if parse("", around.language) is None:
        return Cleaned(text, replaced)
    before = errors(around.prefix + around.suffix, around.language)
    lines = text.split("\n")
    for count in range(len(lines), 0, -1):
        part = "\n".join(lines[:count]).rstrip()
        cut = replaced if count == len(lines) else 0
        inserted = around.prefix + part + around.suffix[cut:]
        if part.strip() and errors(inserted, around.language) <= before:
            return Cleaned(part, cut)
    return Cleaned("")


def errors(text: str, language: str) -> int:
    """ERROR and MISSING nodes of a text; 0 for languages without grammar."""
    tree = parse(text, language)
    return error_count(tree) if tree is not None else 0

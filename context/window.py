"""The part of the current file that goes around the cursor, cut at line starts to a budget.

Prefix counts more than suffix, and what the one does not need goes to the other. The line of the
cursor stays whole as long as it fits at all; a line longer than the budget is cut inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcoder.context.segments import TokenCounter

_SUFFIX_SHARE = 0.25
_MAX_CHARS_PER_TOKEN = 16
_MAX_COUNTS = 8
_GOOD_FILL = 0.97
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Window:
    """Text around the cursor; lines [start_line, end_line) are the file's that it shows."""

    path: str
    prefix: str
    suffix: str
    tokens: int
    start_line: int
    end_line: int
    whole: bool


def offset_of(text: str, line: int, column: int) -> int:
    """Offset of a 0-based position in code points; a position past an end means that end."""
    start = 0
    if "\r" not in text:  # nearly always, and far quicker
        for _ in range(line):
            start = text.find("\n", start) + 1
            if start == 0:
                return len(text)
        end = text.find("\n", start)
        return min(start + max(column, 0), end if end >= 0 else len(text))
    for _ in range(line):
        match = _LINE_END.search(text, start)
        if match is None:
            return len(text)
        start = match.end()
    match = _LINE_END.search(text, start)
    end = match.start() if match else len(text)
    return min(start + max(column, 0), end)


def fit_window(
    text: str, offset: int, path: str, budget_tokens: int, count_tokens: TokenCounter
) -> Window:
    """The most text around `offset` that costs at most `budget_tokens` with its path line."""
    shown_path, header = _header(path, budget_tokens, count_tokens)
    room = budget_tokens - header
    before, after = text[:offset], text[offset:]
    suffix = _fit_head(after, int(room * _SUFFIX_SHARE), count_tokens)
    suffix_tokens = count_tokens(suffix)
    prefix = _fit_tail(before, room - suffix_tokens, count_tokens)
    prefix_tokens = count_tokens(prefix)
    if len(prefix) == len(before) and len(suffix) < len(after):
        suffix = _fit_head(after, room - prefix_tokens, count_tokens)
        suffix_tokens = count_tokens(suffix)
    start = offset - len(prefix)
    start_line = text.count("\n", 0, start)
    return Window(
        shown_path,
        prefix,
        suffix,
        header + prefix_tokens + suffix_tokens,
        start_line,
        start_line + (prefix + suffix).count("\n") + 1,
        len(prefix) == len(before) and len(suffix) == len(after),
    )


def _header(path: str, budget_tokens: int, count_tokens: TokenCounter) -> tuple[str, int]:
    """The path as shown and its cost: a small budget has no room for long folder names."""
    for shown in (path, path.rpartition("/")[2]):
        cost = count_tokens(shown + "\n")
        if cost <= budget_tokens // 4:
            return shown, cost
    cost = count_tokens("\n")
    return "", cost if cost <= budget_tokens else 0


def _fit_tail(text: str, budget: int, count_tokens: TokenCounter) -> str:
    region = text[-max(1, budget * _MAX_CHARS_PER_TOKEN) :] if budget > 0 else ""
    starts = [match.end() for match in _LINE_END.finditer(region)]
    if len(region) == len(text):
        starts.insert(0, 0)
    lengths = [len(region) - start for start in reversed(starts)]

    def take(length: int) -> str:
        return region[len(region) - length :]

    return _longest(lengths, len(region), take, budget, count_tokens)


def _fit_head(text: str, budget: int, count_tokens: TokenCounter) -> str:
    region = text[: budget * _MAX_CHARS_PER_TOKEN] if budget > 0 else ""
    lengths = [match.end() for match in _LINE_END.finditer(region)]
    if len(region) == len(text):
        lengths.append(len(region))

    def take(length: int) -> str:
        return region[:length]

    return _longest(lengths, len(region), take, budget, count_tokens)


def _longest(
    lengths: Sequence[int],
    num_chars: int,
    take: Callable[[int], str],
    budget: int,
    count_tokens: TokenCounter,
) -> str:
    """The longest cut at a line that fits, else the longest cut inside the nearest line."""
    if budget <= 0 or not num_chars:
        return ""
    best = _search(sorted({n for n in lengths if n}), take, budget, count_tokens)
    nearest = next((n for n in lengths if n), num_chars)
    if best == 0 and nearest:
        best = _search(range(1, nearest + 1), take, budget, count_tokens)
    return take(best)


def _search(
    lengths: Sequence[int], take: Callable[[int], str], budget: int, count_tokens: TokenCounter
) -> int:
    """Largest of ascending `lengths` that fits, nearly: few counts, led by characters a token."""
    low, high, best = -1, len(lengths), 0
    guess_chars = budget * 4
    for _ in range(_MAX_COUNTS):
        if high - low <= 1:
            break
        position = _last_at_most(lengths, guess_chars)
        position = min(max(position, low + 1), high - 1)
        tokens = count_tokens(take(lengths[position]))
        if tokens <= budget:
            low, best = position, lengths[position]
            if tokens >= budget * _GOOD_FILL:
                break
        else:
            high = position
        guess_chars = int(lengths[position] * budget * 0.99 / max(tokens, 1))
    if best == 0 and high > 0 and count_tokens(take(lengths[0])) <= budget:
        best = lengths[0]
    return best


def _last_at_most(lengths: Sequence[int], limit: int) -> int:
    low, high = 0, len(lengths)
    while low < high:
        middle = (low + high) // 2
        if lengths[middle] <= limit:
            low = middle + 1
        else:
            high = middle
    return low - 1

"""The same context while somebody types on in a line: only the cursor's window changes.

What helps at a place hardly changes from key to key, but a ranking that looks at the typed letters
does, and every change in the order costs the engine all that it has computed for the prompt. So the
choice is made once a line, and again when a dot says that something else is wanted.
"""

from __future__ import annotations

from dataclasses import replace

from qcoder.context.costs import SEGMENT_SLACK
from qcoder.context.segments import Document, PackedContext, TokenCounter
from qcoder.context.site import wanted_at
from qcoder.context.window import offset_of


def repack(
    last: PackedContext,
    last_prefix: str,
    document: Document,
    line: int,
    column: int,
    count_tokens: TokenCounter,
    slack: int,
) -> PackedContext | None:
    """`last`, chosen behind `last_prefix`, for a cursor in the same line; None if it has to be anew.

    That is the case in another line, behind another dot, when lines around have changed, and when
    the line no longer fits into what the budget leaves (`slack` tokens are kept free of it).
    """
    offset = offset_of(document.text, line, column)
    before, after = document.text[:offset], document.text[offset:]
    if last_prefix.count("\n") != line or not _same_wish(last_prefix, before):
        return None
    window = last.window
    above, below = window.prefix[: window.prefix.rfind("\n") + 1], _from_line_end(window.suffix)
    line_start = before.rfind("\n") + 1
    if line > 0 and not above:
        return None  # the line itself was cut
    if not before[:line_start].endswith(above) or not _from_line_end(after).startswith(below):
        return None
    prefix = above + before[line_start:]
    suffix = after[: len(after) - len(_from_line_end(after))] + below
    tokens = sum(map(count_tokens, (window.path + "\n", prefix, suffix)))
    spent = sum(segment.tokens + SEGMENT_SLACK for segment in last.segments)
    if spent + tokens > last.budget_tokens - slack:
        return None
    return replace(last, window=replace(window, prefix=prefix, suffix=suffix, tokens=tokens))


def _same_wish(one: str, other: str) -> bool:
    first, second = wanted_at(one), wanted_at(other)
    return replace(first, typed="") == replace(second, typed="")


def _from_line_end(text: str) -> str:
    at = text.find("\n")
    return text[at:] if at >= 0 else ""

"""How long a completion may be: one line or several, and where a block is over.

Decided from the syntax around the cursor before the model is asked, and while it writes.
"""

from __future__ import annotations

from collections.abc import Callable

from qcoder.lsp_server.around import Around
from qcoder.lsp_server.postprocess import BLOCK_OPENER, MAX_LINES, indent_of

Watch = Callable[[str], bool]
"""Says of the text so far whether it is enough."""


def wants_lines(around: Around, policy: str, invoked: bool, small: bool = False) -> bool:
    """Several lines only in an empty block, or on a blank line of one when asked for."""
    if policy != "auto":
        return policy == "always"
    if small or around.line_suffix.strip() or in_prose(around):
        return False
    if around.line_prefix.strip():
        return invoked and BLOCK_OPENER.search(around.line_prefix) is not None
    above = around.line_above
    if not above:
        return False
    return invoked or (BLOCK_OPENER.search(above) is not None and is_block_empty(around, above))


def is_block_empty(around: Around, opener: str) -> bool:
    """Whether nothing below the cursor is in the block that `opener` opens."""
    below = next((text for text in around.next_lines if text.strip()), "")
    return indent_of(below) <= indent_of(opener)


def in_prose(around: Around) -> bool:
    """Whether the cursor stands in a comment or a string."""
    if around.tree is None:
        return False
    at = len(around.prefix.encode("utf-8", "surrogatepass"))
    node = around.tree.root_node.descendant_for_byte_range(max(0, at - 1), at)
    while node is not None:
        if "comment" in node.type or "string" in node.type:
            # Behind the closing quote the string is over.
            return node.start_byte < at and (at < node.end_byte or "comment" in node.type)
        node = node.parent
    return False


def block_end(around: Around) -> Watch:
    """Says of the text so far whether the block is over: a line outside of it, or enough lines."""
    typed = around.line_prefix
    base = indent_of(typed) if typed.strip() else len(typed)

    def over(text: str) -> bool:
        lines = text.split("\n")
        if len(lines) > MAX_LINES:
            return True
        inner = base + (0 if typed.strip() else indent_of(lines[0]))
        # The last line is still being written: its indent counts once it has a character.
        return any(x.strip() and indent_of(x) < inner for x in lines[1:])

    return over


def either(first: Watch | None, second: Watch | None) -> Watch | None:
    """True for a text where one of those that are there is."""
    if first is None or second is None:
        return first or second
    return lambda text: first(text) or second(text)

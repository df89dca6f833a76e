"""Source text to syntax trees, and through `extraction` to what a text defines and imports.

Nothing here raises on a user's text: a parse that takes too long or a broken grammar gives no
tree, no definitions and one log line. Trees are walked with cursors, never by recursion, so
nesting depth is no limit. Offsets are bytes of the UTF-8 text.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter

from qcoder.context import languages
from qcoder.context.extraction import FUNCTION_KINDS, Definition, Syntax, extract

__all__ = [
    "FUNCTION_KINDS",
    "Definition",
    "Parsed",
    "Syntax",
    "changed_span",
    "encode",
    "error_count",
    "outline",
    "parse",
    "parse_bytes",
    "read_syntax",
    "reparse",
    "reparse_bytes",
    "syntax",
]

logger = logging.getLogger(__name__)

PARSE_TIMEOUT_S = 2.0
_READ_BYTES = 1 << 16
_MAX_ERROR_CHILDREN = 5000
# Keys and headings of a generated file are no outline that anybody reads.
_MAX_DATA_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text, its tree (None when it has none) and what it says."""

    text: str
    tree: tree_sitter.Tree | None
    syntax: Syntax


def parse(
    text: str,
    language: str,
    old: tree_sitter.Tree | None = None,
    timeout_s: float = PARSE_TIMEOUT_S,
) -> tree_sitter.Tree | None:
    """Parse a text; None for a language without grammar or when it takes longer than `timeout_s`.

    `old` is the tree of an earlier version to which `Tree.edit` was applied (see `reparse`).
    """
    return parse_bytes(encode(text), language, old, timeout_s)


def reparse(
    text: str, language: str, old: tree_sitter.Tree, old_text: str
) -> tree_sitter.Tree | None:
    """Parse `text` reusing the tree of `old_text`: costs what changed, not what is there."""
    return reparse_bytes(encode(text), language, old, encode(old_text))


def reparse_bytes(
    new_data: bytes, language: str, old: tree_sitter.Tree, old_data: bytes
) -> tree_sitter.Tree | None:
    """The same for texts in UTF-8."""
    start, old_end, new_end = changed_span(old_data, new_data)
    edited = old.copy()
    edited.edit(
        start,
        old_end,
        new_end,
        _point(old_data, start),
        _point(old_data, old_end),
        _point(new_data, new_end),
    )
    return parse_bytes(new_data, language, edited)


def changed_span(old: bytes, new: bytes) -> tuple[int, int, int]:
    """Where two texts differ: from one offset to an end in the old one and an end in the new one."""
    start = _common_prefix(old, new)
    shared = _common_suffix(old, new, min(len(old), len(new)) - start)
    return start, len(old) - shared, len(new) - shared


def error_count(tree: tree_sitter.Tree) -> int:
    """Number of ERROR and MISSING nodes; visits only subtrees that contain one."""
    return sum(
        node.is_error or node.is_missing or _hides_error(node) for node in _nodes_with_errors(tree)
    )


def _hides_error(node: tree_sitter.Node) -> bool:
    """Whether a node's error is a missing token without a node of its own, such as a newline."""
    return node.has_error and not any(child.has_error for child in node.children)


def outline(text: str, language: str) -> tuple[Definition, ...]:
    """The definitions of a text in file order, nested ones included."""
    return syntax(text, language).definitions


def syntax(text: str, language: str) -> Syntax:
    """Definitions and imports of a text; empty for a language without grammar."""
    return read_syntax(text, language).syntax


def read_syntax(text: str, language: str, before: Parsed | None = None) -> Parsed:
    """The same with the tree; `before`, an earlier version in the same language, saves work."""
    spec = languages.LANGUAGES.get(language)
    query = languages.query(language)
    if spec is None or query is None:
        return Parsed(text, None, Syntax())
    data = encode(text)
    if spec.data and len(data) > _MAX_DATA_BYTES:
        return Parsed(text, None, Syntax())
    if before is not None and before.tree is not None:
        tree = reparse(text, language, before.tree, before.text)
    else:
        tree = parse_bytes(data, language)
    if tree is None or _is_hopeless(tree):
        return Parsed(text, None, Syntax())
    return Parsed(text, tree, extract(data, tree, spec, query))


def _nodes_with_errors(tree: tree_sitter.Tree) -> Iterator[tree_sitter.Node]:
    """Nodes that are, or whose siblings or descendants are, errors, in document order."""
    cursor = tree.walk()
    while True:
        node = cursor.node
        assert node is not None
        yield node
        if node.has_error and cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _is_hopeless(tree: tree_sitter.Tree) -> bool:
    """Whether an error swallowed so much that queries turn quadratic (100k open brackets)."""
    return any(
        node.is_error and node.child_count > _MAX_ERROR_CHILDREN
        for node in _nodes_with_errors(tree)
    )


def parse_bytes(
    data: bytes,
    language: str,
    old: tree_sitter.Tree | None = None,
    timeout_s: float = PARSE_TIMEOUT_S,
) -> tree_sitter.Tree | None:
    """`parse` of a text in UTF-8."""
    grammar = languages.grammar(language)
    if grammar is None:
        return None
    parser = tree_sitter.Parser(grammar)
    deadline = time.monotonic() + timeout_s

    def read(offset: int, _: tree_sitter.Point) -> bytes:
        return data[offset : offset + _READ_BYTES]

    def late(_: int, __: bool) -> bool:
        return time.monotonic() > deadline

    try:
        if old is None:
            return parser.parse(read, encoding="utf8", progress_callback=late)
        return parser.parse(read, old, "utf8", late)
    except ValueError:
        logger.warning(
            "parse language=%s bytes=%d took over %.1f s: the text is used without its outline",
            language,
            len(data),
            timeout_s,
        )
        return None


def encode(text: str) -> bytes:
    """UTF-8; halves of surrogate pairs as three bytes each."""
    return text.encode("utf-8", "surrogatepass")


def _common_prefix(left: bytes, right: bytes) -> int:
    """Length of the common prefix, by bisection over slices (compared in C)."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(left: bytes, right: bytes, most: int) -> int:
    """Length of the common suffix, `most` bytes at most."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if (
            left[len(left) - middle : len(left) - low]
            == right[len(right) - middle : len(right) - low]
        ):
            low = middle
        else:
            high = middle - 1
    return low


def _point(data: bytes, offset: int) -> tuple[int, int]:
    return data.count(b"\n", 0, offset), offset - (data.rfind(b"\n", 0, offset) + 1)

"""What is known of a text's syntax, and what of it holds for a text that differs in a few lines.

Parsing 5,000 lines again costs 1 to 8 ms even where one character has changed. A text without errors,
however, is a row of statements that begin at the left margin, and where some of them are replaced by
statements that are right by themselves, it has none either. So those around a change are parsed alone.
Errors further away stay what they are, as long as statements without errors lie between.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import cached_property

import tree_sitter

from qcoder.context.parse import changed_span, error_count, parse_bytes, reparse_bytes

WORTH_IT = 4
"""Statements are parsed alone where the whole text has so many times their bytes."""

HEREDOCS = frozenset({"shellscript", "ruby", "php"})
"""Languages in which what ends a text may stand anywhere: an error has no end there."""

Span = tuple[int, int]


@dataclass(frozen=True)
class KnownSyntax:
    """A text in UTF-8 and its tree."""

    data: bytes
    language: str
    tree: tree_sitter.Tree
    _alone: dict[Span, bool] = field(default_factory=dict, init=False, compare=False, repr=False)

    @staticmethod
    def of(data: bytes, language: str, earlier: KnownSyntax | None = None) -> KnownSyntax | None:
        """Parse a text, from the tree of one like it if there is one; None when that fails."""
        if earlier is None:
            tree = parse_bytes(data, language)
        elif earlier.data == data:
            return earlier
        else:
            tree = reparse_bytes(data, language, earlier.tree, earlier.data)
        return KnownSyntax(data, language, tree) if tree is not None else None

    @cached_property
    def errors(self) -> int:
        """Its ERROR and MISSING nodes."""
        return error_count(self.tree)

    @cached_property
    def _statements(self) -> tuple[tuple[int, str], ...]:
        """Where the statements at the left margin begin, and of what kind they are."""
        nodes = self.tree.root_node.children
        return tuple((n.start_byte, n.type) for n in nodes if n.start_point.column == 0)

    @cached_property
    def _wrong(self) -> tuple[Span, ...]:
        """Where the parts of the text are that have errors, in file order."""
        if not self.tree.root_node.has_error:
            return ()
        nodes = self.tree.root_node.children
        return tuple((n.start_byte, n.end_byte) for n in nodes if n.has_error)

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        # A comment separates nothing: `return` must be the last statement in Lua, with or without.
        return tuple(start for start, kind in self._statements if "comment" not in kind)

    def span_around(self, *others: bytes, behind: int = 1) -> Span | None:
        """The statements in which other texts differ from this one, with neighbours on each side.

        None where they are not much less than the text, have errors, or mean something else when they
        stand alone (what is behind `<?php` does).
        """
        begin, end = len(self.data), 0
        for other in others:
            start, old_end, _ = changed_span(self.data, other)
            before = bisect_right(self._starts, start) - 2
            begin = min(begin, self._starts[before] if before >= 0 else 0)
            after = bisect_left(self._starts, old_end) + behind
            end = max(end, self._starts[after] if after < len(self._starts) else len(self.data))
        if WORTH_IT * (end - begin) >= len(self.data) or self._is_wrong((begin, end)):
            return None
        return (begin, end) if self._stands_alone((begin, end)) else None

    def errors_in(self, span: Span, other: bytes) -> int | None:
        """Errors of what another text, different only there, has in the place of a span, read alone."""
        tree = self._read_alone(span, other)
        return error_count(tree) if tree is not None else None

    def settled_errors_in(self, span: Span, other: bytes) -> int | None:
        """The same; None where they reach its last statement, so that the text behind it has a say."""
        tree = self._read_alone(span, other)
        if tree is None:
            return None
        last = self._starts[bisect_left(self._starts, span[1]) - 1]
        start = last - span[0] + len(other) - len(self.data)
        ends = [node for node in tree.root_node.children if node.start_byte >= start]
        if not ends or ends[0].start_byte != start or any(node.has_error for node in ends):
            return None
        return error_count(tree)

    def _read_alone(self, span: Span, other: bytes) -> tree_sitter.Tree | None:
        begin, end = span
        return parse_bytes(other[begin : end + len(other) - len(self.data)], self.language)

    def _is_wrong(self, span: Span) -> bool:
        begin, end = span
        if self.language in HEREDOCS:
            return bool(self._wrong)
        return any(start <= end and begin <= stop for start, stop in self._wrong)

    def _stands_alone(self, span: Span) -> bool:
        if span not in self._alone:
            begin, end = span
            alone = KnownSyntax.of(self.data[begin:end], self.language)
            here = [
                (start - begin, kind) for start, kind in self._statements if begin <= start < end
            ]
            self._alone[span] = (
                alone is not None and not alone.errors and list(alone._statements) == here
            )
        return self._alone[span]

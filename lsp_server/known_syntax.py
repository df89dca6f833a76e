"""What is known of a text's syntax, and what of it holds for a text that differs in a few lines.

Parsing 5,000 lines again costs 2 to 8 ms even where one character has changed. A text without errors,
however, is a row of statements that begin at the left margin, and where some of them are replaced by
statements that are right by themselves, it has none either. So those around a change are parsed alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import cached_property

import tree_sitter

from qcoder.context.parse import changed_span, error_count, parse_bytes, reparse_bytes

WORTH_IT = 4
"""Statements are parsed alone where the whole text has so many times their bytes."""

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
    def _starts(self) -> tuple[int, ...]:
        # A comment separates nothing: `return` must be the last statement in Lua, with or without.
        return tuple(start for start, kind in self._statements if "comment" not in kind)

    def span_around(self, *others: bytes) -> Span | None:
        """The statements in which other texts differ from this one, with a neighbour on each side.

        None where they are not much less than the text, or mean something else when they stand alone
        (what is behind `<?php` does).
        """
        begin, end = len(self.data), 0
        for other in others:
            start, old_end, _ = changed_span(self.data, other)
            before = bisect_right(self._starts, start) - 2
            begin = min(begin, self._starts[before] if before >= 0 else 0)
            behind = bisect_left(self._starts, old_end) + 1
            end = max(end, self._starts[behind] if behind < len(self._starts) else len(self.data))
        small = WORTH_IT * (end - begin) < len(self.data)
        return (begin, end) if small and self._stands_alone((begin, end)) else None

    def errors_in(self, span: Span, other: bytes) -> int | None:
        """Errors of what another text, different only there, has in the place of a span, read alone."""
        begin, end = span
        tree = parse_bytes(other[begin : end + len(other) - len(self.data)], self.language)
        return error_count(tree) if tree is not None else None

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

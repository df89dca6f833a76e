"""The text around a cursor, as rows and as syntax."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import tree_sitter

from qcoder.context.parse import encode
from qcoder.lsp_server.known_syntax import KnownSyntax

MAX_LINES_BELOW = 64

SETTLED_BEHIND = 6
"""Statements behind the cursor's by the last of which an open bracket is usually given up."""


@dataclass(frozen=True)
class Around:
    """The text before and behind the cursor, and the language.

    `earlier` is what is known of a text like it: only what has changed is parsed then. `latest` is the
    last text that was parsed whole, right or wrong: the nearer, the less of it is parsed again.
    """

    prefix: str
    suffix: str
    language: str
    earlier: KnownSyntax | None = field(default=None, compare=False, repr=False)
    latest: KnownSyntax | None = field(default=None, compare=False, repr=False)
    _counted: dict[tuple[str, int], int | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _right: list[KnownSyntax] = field(default_factory=list, init=False, compare=False, repr=False)

    @staticmethod
    def of(prefix: str, suffix: str, language: str, before: Around | None) -> Around:
        """With what was known of the text a moment ago."""
        if before is None or before.language != language:
            return Around(prefix, suffix, language)
        latest = before.__dict__.get("_whole", before.latest)
        return Around(prefix, suffix, language, before.known, latest)

    @property
    def tree(self) -> tree_sitter.Tree | None:
        """Syntax tree of the text as it is; None for languages without grammar."""
        return self._whole.tree if self._whole is not None else None

    @property
    def error_count(self) -> int:
        """Syntax errors of the text as it is."""
        return self._whole.errors if self._whole is not None else 0

    @property
    def known(self) -> KnownSyntax | None:
        """What serves as `earlier` for the next text: one without errors here, if there has been one."""
        if self._right:
            return self._right[-1]
        return self.earlier if self._is_right_here else self._whole

    def errors_with(self, text: str, replaced: int) -> int | None:
        """Syntax errors with an insertion at the cursor over `replaced` characters; None: it adds some.

        The statements around the cursor are asked first. Without errors they are right in the whole
        text, too; with more than before they are refused. What has errors and adds none, where a
        bracket is open, is decided by more of the statements behind it, or by the whole text where
        the errors reach the last of those.
        """
        if (text, replaced) not in self._counted:
            self._counted[text, replaced] = self._errors_with(text, replaced)
        return self._counted[text, replaced]

    def _errors_with(self, text: str, replaced: int) -> int | None:
        known = self.known
        if known is None:
            return 0
        new = encode(self.prefix + text + self.suffix[replaced:])
        span = known.span_around(self._data, new)
        if span is not None:
            near = known.errors_in(span, new)
            if near == 0:
                return known.errors
            before = known.errors_in(span, self._data)
            if near is None or before is None or near > before:
                return None
            wider = known.span_around(self._data, new, behind=SETTLED_BEHIND)
            if wider is not None:
                near = known.settled_errors_in(wider, new)
                before = None if near is None else known.settled_errors_in(wider, self._data)
                if near is not None and before is not None:
                    return known.errors + near if near <= before else None
        whole = KnownSyntax.of(new, self.language, self._whole)
        # A parse that took too long proves nothing, so it must not let the text through.
        if whole is None or whole.errors > self.error_count:
            return None
        if whole.errors <= known.errors:
            self._right.append(whole)
        return whole.errors

    @cached_property
    def _is_right_here(self) -> bool:
        """Whether the earlier text has no errors where this one differs from it."""
        earlier = self.earlier
        if earlier is None:
            return False
        return not earlier.errors or earlier.span_around(self._data) is not None

    @cached_property
    def _data(self) -> bytes:
        return encode(self.prefix + self.suffix)

    @cached_property
    def _whole(self) -> KnownSyntax | None:
        return KnownSyntax.of(self._data, self.language, self.latest or self.earlier)

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
        """Lines below the cursor's, as many as anybody looks at."""
        return self.suffix.split("\n", MAX_LINES_BELOW + 1)[1 : MAX_LINES_BELOW + 1]

    @property
    def line_above(self) -> str:
        """The nearest line above the cursor's that is not blank; "" when there is none."""
        above = self.prefix[: self.prefix.rfind("\n") + 1].rstrip()
        return above[above.rfind("\n") + 1 :]

"""The text around a cursor, as rows and as syntax."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import tree_sitter

from qcoder.context.parse import encode
from qcoder.lsp_server.known_syntax import KnownSyntax

MAX_LINES_BELOW = 64


@dataclass(frozen=True)
class Around:
    """The text before and behind the cursor, and the language.

    `earlier` is what is known of a text like it: only what has changed is parsed then.
    """

    prefix: str
    suffix: str
    language: str
    earlier: KnownSyntax | None = field(default=None, compare=False, repr=False)
    _counted: dict[tuple[str, int], int | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _right: list[KnownSyntax] = field(default_factory=list, init=False, compare=False, repr=False)

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
        """What serves as `earlier` for the next text: one without errors, if there has been one."""
        if self._right:
            return self._right[-1]
        return self.earlier if self.earlier and not self.earlier.errors else self._whole

    def errors_with(self, text: str, replaced: int) -> int | None:
        """Syntax errors with an insertion at the cursor over `replaced` characters; None: it adds some.

        The statements around the cursor are asked first. Without errors they are right in the whole
        text, too; with more than before they are refused. Only what has errors and adds none, where
        a bracket is open, is decided by the whole text.
        """
        if (text, replaced) not in self._counted:
            self._counted[text, replaced] = self._errors_with(text, replaced)
        return self._counted[text, replaced]

    def _errors_with(self, text: str, replaced: int) -> int | None:
        known = self.known
        if known is None:
            return 0
        new = encode(self.prefix + text + self.suffix[replaced:])
        span = known.span_around(self._data, new) if not known.errors else None
        if span is not None:
            near = known.errors_in(span, new)
            if near == 0:
                return 0
            before = known.errors_in(span, self._data)
            if near is None or before is None or near > before:
                return None
        whole = KnownSyntax.of(new, self.language, known)
        # A parse that took too long proves nothing, so it must not let the text through.
        if whole is None or whole.errors > self.error_count:
            return None
        if not whole.errors:
            self._right.append(whole)
        return whole.errors

    @cached_property
    def _data(self) -> bytes:
        return encode(self.prefix + self.suffix)

    @cached_property
    def _whole(self) -> KnownSyntax | None:
        return KnownSyntax.of(self._data, self.language, self.earlier)

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

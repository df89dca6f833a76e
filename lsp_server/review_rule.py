"""What a structural rule is, and what it finds.

A rule is one document of a file in `rules/`. It says what to look for in one of two ways: by an
ast-grep rule (`review_patterns.py`), or by the name of a pass, a Python function over the syntax
tree for what patterns cannot say (`review_passes.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcoder.lsp_server.python_tree import Node
from qcoder.lsp_server.snapshot import Severity, TextEdit


@dataclass(frozen=True, slots=True)
class Replacement:
    """`text` in place of what lies between the beginning of `first` and the end of `last`."""

    first: Node
    last: Node
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A node that a pass objects to, the sentence that the user reads, and what mends it."""

    node: Node
    message: str
    fix: Replacement | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A hit without its tree: 0-based lines and columns in code points, and the flagged text.

    `symbol` is the dotted name of the definition around it, None where that is still to be found.
    """

    start: tuple[int, int]
    end: tuple[int, int]
    text: str
    message: str
    fix: TextEdit | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `valid` and `invalid` are sources that must give no match and at least one.

    `mentions` are words of which a file must contain one for the rule to be tried at all (none: any
    file), `text` is a regular expression that it must match somewhere. Exactly one of `pattern`, an ast-grep configuration, and `run`, a pass's name, is
    given. `message` and `fix` are templates for patterns; passes make their own.

    A rule prefers silence to doubt: what it cannot see through counts as correct.
    """

    name: str
    languages: tuple[str, ...]
    severity: Severity
    summary: str
    why: str
    valid: tuple[str, ...]
    invalid: tuple[str, ...]
    mentions: tuple[str, ...] = ()
    text: str = ""
    pattern: Mapping[str, Any] | None = None
    run: str = ""
    message: str = ""
    fix: str | None = None

    def concerns(self, text: str) -> bool:
        """Whether a text can have matches at all; far cheaper than looking for them."""
        if self.mentions and not any(word in text for word in self.mentions):
            return False
        return not self.text or re.search(self.text, text) is not None

    def __post_init__(self) -> None:
        if (self.pattern is None) == (not self.run):
            raise ValueError(f"rule {self.name}: give either `match` or `pass`")
        if self.pattern is not None and not self.message:
            raise ValueError(f"rule {self.name}: a rule with `match` needs a `message`")
        if not (self.summary and self.why and self.valid and self.invalid and self.languages):
            raise ValueError(f"rule {self.name}: summary, why, valid and invalid are all needed")

"""What a structural rule is: a name, a reason and a function from a Python file to hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qcoder.lsp_server.python_tree import Node, PythonFile
from qcoder.lsp_server.snapshot import Severity


@dataclass(frozen=True, slots=True)
class Hit:
    """A place that a rule objects to, with the sentence that the user reads."""

    node: Node
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `valid` and `invalid` are sources that must give no hit and at least one.

    A rule prefers silence to doubt: what it cannot see through counts as correct.
    """

    name: str
    severity: Severity
    summary: str
    why: str
    check: Callable[[PythonFile], Iterator[Hit]]
    valid: tuple[str, ...]
    invalid: tuple[str, ...]

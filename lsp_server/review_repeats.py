"""Rules about the same thing written twice where two different ones were meant."""

from __future__ import annotations

from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    FUNCTIONS,
    SCOPES,
    Node,
    PythonFile,
    dotted,
    enclosing,
    text_of,
    walk,
)
from qcoder.lsp_server.review_rule import Hit

NAMES = frozenset({"identifier", "attribute", "subscript"})
OPERATORS = frozenset({"<", ">", "<=", ">=", "is", "is not", "in", "not in"})
"""Not `==` and `!=`: that is how one asks for NaN."""


def check_compared_with_itself(file: PythonFile) -> Iterator[Hit]:
    """`a < a` and the like."""
    for node in file.nodes.get("comparison_operator", []):
        operands = node.named_children
        if len(operands) != 2 or not {o.type for o in operands} <= NAMES:
            continue
        operator = " ".join(text_of(c) for c in node.children if not c.is_named)
        first = text_of(operands[0])
        if operator in OPERATORS and first == text_of(operands[1]) and "(" not in first:
            yield Hit(node, f"`{first}` is compared with itself")


def check_same_operands(file: PythonFile) -> Iterator[Hit]:
    """`a and a`, `a or a`."""
    for node in file.nodes.get("boolean_operator", []):
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is not None and right is not None and text_of(left) == text_of(right):
            yield Hit(node, f"both operands are `{text_of(left)}`")


def check_repeated_condition(file: PythonFile) -> Iterator[Hit]:
    """`elif` clauses whose condition an earlier branch of the same `if` has tested."""
    for node in file.nodes.get("if_statement", []):
        seen = {text_of(node.child_by_field_name("condition"))}
        for clause in node.children_by_field_name("alternative"):
            condition = clause.child_by_field_name("condition")
            if condition is None:
                continue
            text = text_of(condition)
            # What a call says may change from one to the next.
            if text in seen and not any(n.type in ("call", "await") for n in walk(condition)):
                yield Hit(condition, "this condition was tested before: its branch never runs")
            seen.add(text)


def check_assigned_to_itself(file: PythonFile) -> Iterator[Hit]:
    """`x = x` and `self.x = self.x` in functions."""
    for node in file.nodes.get("assignment", []):
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is None or right is None or left.type != right.type:
            continue
        name = dotted(left)
        plain = left.type == "identifier" or (name.startswith("self.") and name.count(".") == 1)
        if not name or not plain or name != dotted(right) or is_explained(node):
            continue
        scope = enclosing(node, SCOPES)
        if scope is not None and scope.type in FUNCTIONS:
            yield Hit(node, f"`{name} = {name}` does nothing")


def is_explained(assignment: Node) -> bool:
    """Whether a comment stands above: assigning to a property does something."""
    statement = assignment.parent
    above = statement.prev_named_sibling if statement is not None else None
    if above is None and statement is not None and statement.parent is not None:
        above = statement.parent.prev_named_sibling
    return above is not None and above.type == "comment"

"""Rules about slips of the pen that tests rarely catch: shared defaults, lost exceptions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    arguments,
    dotted,
    own_nodes,
    parents,
    statement_of,
    text_of,
    walk,
)
from qcoder.lsp_server.review_rule import Hit, Replacement

MUTABLE_TYPES = frozenset({"list", "dictionary", "set", "list_comprehension"})
MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "collections.defaultdict"})
MUTATORS = frozenset(
    {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "discard"}
    | {"clear", "popitem", "sort", "reverse"}
)
MEMORY = re.compile(r"cache|memo|^_", re.IGNORECASE)
"""Names of defaults that are shared on purpose."""

LITERALS = frozenset({"string", "integer", "float"})
LOOPS = frozenset({"for_statement", "while_statement"})


def check_mutable_default(file: PythonFile) -> Iterator[Hit]:
    """Mutable defaults that the function changes or lets out."""
    for function in file.functions:
        parameters = function.child_by_field_name("parameters")
        for parameter in parameters.named_children if parameters is not None else ():
            if parameter.type not in ("default_parameter", "typed_default_parameter"):
                continue
            value = parameter.child_by_field_name("value")
            name = text_of(parameter.child_by_field_name("name"))
            if value is None or MEMORY.search(name) or not is_mutable(value, file):
                continue
            if is_reassigned(name, function):
                continue
            if any(changes(node, name, file) for node in own_nodes(function)):
                yield Hit(
                    parameter,
                    f"all calls share this default of `{name}`, and the function changes it or "
                    "hands it out; use None and make a new one inside",
                )


def is_mutable(value: Node, file: PythonFile) -> bool:
    """Whether a default is one mutable object for all calls."""
    if value.type == "call":
        return file.callee(value) in MUTABLE_CALLS
    return value.type in MUTABLE_TYPES


def is_reassigned(name: str, function: Node) -> bool:
    """Whether the function gives the name another value (`x = list(x)`)."""
    return any(
        node.type == "assignment" and text_of(node.child_by_field_name("left")) == name
        for node in own_nodes(function)
    )


def changes(node: Node, name: str, file: PythonFile) -> bool:
    """Whether one node mutates the named object, returns it or keeps it where it is mutated."""
    if node.type == "call":
        owner, _, method = dotted(node.child_by_field_name("function")).rpartition(".")
        return owner == name and method in MUTATORS
    if node.type == "return_statement":
        return [text_of(child) for child in node.named_children] == [name]
    if node.type == "augmented_assignment":
        return text_of(node.child_by_field_name("left")) == name
    if node.type == "assignment":
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is not None and left.type == "subscript":
            return text_of(left.child_by_field_name("value")) == name
        kept = left is not None and left.type == "attribute" and text_of(right) == name
        return kept and is_mutated(dotted(left), file)
    return False


def is_mutated(attribute: str, file: PythonFile) -> bool:
    """Whether the file changes what an attribute holds."""
    calls = (dotted(c.child_by_field_name("function")) for c in file.nodes.get("call", []))
    if any(
        name.rpartition(".")[0] == attribute and name.rpartition(".")[2] in MUTATORS
        for name in calls
    ):
        return True
    targets = [n.child_by_field_name("left") for n in file.nodes.get("assignment", [])]
    items = [
        t.child_by_field_name("value") for t in targets if t is not None and t.type == "subscript"
    ]
    grown = [n.child_by_field_name("left") for n in file.nodes.get("augmented_assignment", [])]
    return any(dotted(node) == attribute for node in (*items, *grown))


def check_identity(file: PythonFile) -> Iterator[Hit]:
    """`is` between a value and a literal."""
    for node in file.nodes.get("comparison_operator", []):
        if b" is " not in (node.text or b""):
            continue
        operands = node.named_children
        if len(operands) != 2 or LITERALS.isdisjoint(operand.type for operand in operands):
            continue
        between = [child.type for child in node.children if not child.is_named]
        if between in (["is"], ["is not"]):
            yield Hit(node, "`is` compares objects, not values: use `==` or `!=`")


def check_except_or(file: PythonFile) -> Iterator[Hit]:
    """`except A or B`, which is `except A`."""
    for node in file.nodes.get("boolean_operator", []):
        clause = node.parent
        if clause is not None and clause.type == "as_pattern":
            clause = clause.parent
        if clause is None or clause.type != "except_clause":
            continue
        kinds = alternatives(node)
        if any(kind.type == "boolean_operator" for kind in kinds):
            continue  # with an `and`: nobody knows what is meant
        first, *others = (text_of(kind) for kind in kinds)
        lost = " and ".join(f"`{other}`" for other in others)
        message = f"`{text_of(node)}` is `{first}`: {lost} {'is' if len(others) == 1 else 'are'} not caught"
        yield Hit(node, message, Replacement(node, node, f"({', '.join([first, *others])})"))


def alternatives(node: Node) -> list[Node]:
    """The operands of a chain of `or`, in order."""
    found: list[Node] = []
    while node.type == "boolean_operator" and text_of(node.child_by_field_name("operator")) == "or":
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is None or right is None:
            break
        found.append(right)
        node = left
    return [node, *reversed(found)]


def check_return_in_finally(file: PythonFile) -> Iterator[Hit]:
    """`return`, `break` and `continue` that leave a `finally` and drop its exception."""
    for kind in ("return_statement", "break_statement", "continue_statement"):
        for node in file.nodes.get(kind, []):
            inside = []
            for parent in parents(node):
                inside.append(parent.type)
                if parent.type in SCOPES or parent.type == "finally_clause":
                    break
            stays = kind != "return_statement" and not LOOPS.isdisjoint(inside)
            if inside and inside[-1] == "finally_clause" and not stays:
                word = kind.removesuffix("_statement")
                yield Hit(node, f"`{word}` in `finally` swallows the exception that is under way")


def check_changed_while_iterated(file: PythonFile) -> Iterator[Hit]:
    """Containers that change size inside the loop over them."""
    for loop in file.nodes.get("for_statement", []):
        over = iterated(loop.child_by_field_name("right"))
        body = loop.child_by_field_name("body")
        # A class that walks over itself knows what its own methods do.
        if over in ("", "self") or body is None or over not in text_of(body):
            continue
        for node in walk(body, lambda n: n.type not in SCOPES):
            if resizes(node, over) and not leaves_loop(node, loop):
                yield Hit(node, f"`{over}` changes while the loop runs over it; loop over a copy")
                break


def iterated(node: Node | None) -> str:
    """Dotted name that a loop runs over, directly or through `.items()` and the like."""
    if node is None:
        return ""
    if node.type == "call" and not arguments(node):
        owner, _, method = dotted(node.child_by_field_name("function")).rpartition(".")
        return owner if method in ("items", "keys", "values") else ""
    return dotted(node)


def resizes(node: Node, over: str) -> bool:
    """Whether a node is `del over[...]`, `over.remove(...)` and the like, as a statement."""
    if node.type == "delete_statement":
        return any(
            child.type == "subscript" and dotted(child.child_by_field_name("value")) == over
            for child in node.named_children
        )
    if node.type != "call" or node.parent is None or node.parent.type != "expression_statement":
        return False
    owner, _, method = dotted(node.child_by_field_name("function")).rpartition(".")
    # A list that grows under its loop is a work list, a known idiom.
    return owner == over and method in ("remove", "pop", "discard", "clear", "popitem")


def leaves_loop(node: Node, loop: Node) -> bool:
    """Whether the loop ends right after the change, or the name is made anew in the body."""
    statement = statement_of(node)
    while statement != loop:
        sibling = statement.next_named_sibling
        while sibling is not None:
            if sibling.type in ("break_statement", "return_statement", "raise_statement"):
                return True
            sibling = sibling.next_named_sibling
        if statement.parent is None:
            return False
        statement = statement_of(statement.parent)
    return False

"""Which exceptions leave a Python function, as far as its own text says so.

Raise statements count unless a handler around them takes them; a bare `raise`, or the raise of a
handler's own name, hands on what the handler caught. What callees raise is followed only inside the
file and only to say that a list is complete: a docstring names what its own function raises.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping

from qcoder.lsp_server.docstring_shape import Raised, flat, one_each
from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    dotted,
    enclosing,
    name_of,
    own_nodes,
    parents,
    text_of,
    walk,
)

MAX_CONDITION = 60
MAX_MESSAGE = 70

OPAQUE = frozenset(
    {
        "await", "yield", "with_statement", "for_statement", "for_in_clause", "import_statement",
        "import_from_statement", "assert_statement", "delete_statement", "match_statement",
    }
)  # fmt: skip
"""Nodes that may raise what nobody can see here."""

IMPLICIT = frozenset(
    {
        "attribute", "subscript", "binary_operator", "comparison_operator", "unary_operator",
        "augmented_assignment", "pattern_list", "list_splat", "dictionary_splat", "interpolation",
    }
)  # fmt: skip
"""Nodes that may raise an exception of the language itself."""

LEAVING = frozenset({"return_statement", "break_statement", "continue_statement"})
ANYTHING = frozenset({"Exception", "BaseException"})
HARMLESS = frozenset(
    {"isinstance", "len", "super", "id", "type", "callable", "repr", "str", "bool"}
)


def raised(function: Node) -> list[Raised]:
    """Exceptions that the body itself raises and does not catch, each once, in order."""
    return one_each(
        found
        for node in own_nodes(function)
        if node.type == "raise_statement"
        for found in raised_by(node, function)
        if not is_caught(node, found.name, function)
    )


def raised_by(node: Node, function: Node) -> list[Raised]:
    """What one raise statement raises; nothing when that is a value from elsewhere."""
    value = node.named_children[0] if node.named_children else None
    if value is None:
        return handed_on(enclosing_handler(node, function))
    called = value.child_by_field_name("function") if value.type == "call" else value
    name = dotted(called)
    if is_class_name(name):
        return [Raised(name, condition_of(node), message_of(value))]
    handler = enclosing_handler(node, function)
    if value.type == "identifier" and handler is not None and name == alias_of(handler):
        return handed_on(handler)
    return [Raised(name, condition_of(node)) for name in assigned_exceptions(name, function)]


def assigned_exceptions(name: str, function: Node) -> list[str]:
    """Classes of the exceptions that a local name is set to; nothing when one is unknown."""
    found = []
    for node in own_nodes(function):
        if node.type != "assignment" or text_of(node.child_by_field_name("left")) != name:
            continue
        value = node.child_by_field_name("right")
        if value is None or value.type != "call":
            return []
        made = dotted(value.child_by_field_name("function"))
        if not made.split(".")[-1][:1].isupper():
            return []
        found.append(made)
    return list(dict.fromkeys(found))


def enclosing_handler(node: Node, function: Node) -> Node | None:
    """The innermost `except` clause around a node, inside the function."""
    for parent in parents(node):
        if parent == function:
            return None
        if parent.type == "except_clause":
            return parent
    return None


def handled(handler: Node | None) -> list[str]:
    """Classes that an `except` clause names; nothing for a bare one."""
    value = handler.child_by_field_name("value") if handler is not None else None
    if value is not None and value.type == "as_pattern":
        value = value.named_children[0]
    if value is None:
        return []
    parts = value.named_children if value.type == "tuple" else [value]
    names = [dotted(part) for part in parts]
    return [name for name in names if is_class_name(name)]


def is_class_name(name: str) -> bool:
    """Whether a name is an exception's: capitalized, or an old lower-case one of a module."""
    last = name.split(".")[-1].lstrip("_")
    return last[:1].isupper() or (
        "." in name and last in ("error", "timeout", "herror", "gaierror")
    )


def handed_on(handler: Node | None) -> list[Raised]:
    """What a handler raises again; that anything at all may come through is no news."""
    return [Raised(name, again=True) for name in handled(handler) if name not in ANYTHING]


def alias_of(handler: Node) -> str:
    """`e` of `except OSError as e`; "" without one."""
    value = handler.child_by_field_name("value")
    if value is None or value.type != "as_pattern":
        return ""
    return text_of(value.child_by_field_name("alias"))


def is_caught(node: Node, name: str, function: Node) -> bool:
    """Whether a `try` around a node, inside the function, has a handler for an exception."""
    child = node
    for parent in parents(node):
        if parent == function:
            return False
        if parent.type == "try_statement" and parent.child_by_field_name("body") == child:
            for clause in parent.named_children:
                if clause.type != "except_clause":
                    continue
                if clause.child_by_field_name("value") is None:
                    return True
                if any(covers(caught, name) for caught in handled(clause)):
                    return True
        child = parent
    return False


def covers(base: str, name: str) -> bool:
    """Whether a handler or a documented entry for `base` stands for `name` too, as far as known."""
    base, name = base.split(".")[-1], name.split(".")[-1]
    if base == name or base in ANYTHING:
        return True
    known_base, known = (getattr(builtins, n, None) for n in (base, name))
    return (
        isinstance(known_base, type) and isinstance(known, type) and issubclass(known, known_base)
    )


def is_builtin(name: str) -> bool:
    """Whether an exception is one of the language."""
    return isinstance(getattr(builtins, name, None), type)


def condition_of(node: Node) -> str:
    """Conditions of the `if`s in whose branch a raise stands, the outermost first.

    "" when there is none, or when they are not all that decides: an `else`, a loop, a handler.
    """
    conditions: list[str] = []
    child = node
    for parent in parents(node):
        if parent.type == "function_definition":
            break
        if parent.type == "block" and conditions == [] and leaves_before(parent, child):
            # Something else decides in between whether the raise is reached.
            return ""
        if parent.type in ("if_statement", "elif_clause"):
            if parent.child_by_field_name("consequence") == child:
                conditions.append(flat(text_of(parent.child_by_field_name("condition"))))
            elif parent.type != "if_statement" or child.type != "elif_clause":
                return ""
        elif parent.type not in ("block", "if_statement"):
            # Inside a loop or a `with` the innermost condition still says when.
            break
        child = parent
    texts = list(reversed(conditions))
    plain = not any(mark in text for text in texts for mark in ("`", '"""', "\\"))
    joined = "` and `".join(texts)
    if len(joined) > MAX_CONDITION and texts:
        joined = texts[-1]
    return joined if len(joined) <= MAX_CONDITION and plain else ""


def leaves_before(block: Node, statement: Node) -> bool:
    """Whether a block may be left before one of its statements, other than by an exception."""
    for earlier in block.named_children:
        if earlier == statement:
            return False
        if any(n.type in LEAVING for n in walk(earlier, lambda n: n.type not in SCOPES)):
            return True
    return False


def message_of(value: Node) -> str:
    """The plain text that an exception is made with; "" for anything computed."""
    given = value.child_by_field_name("arguments") if value.type == "call" else None
    parts = [c for c in given.named_children if c.type != "comment"] if given is not None else []
    if len(parts) != 1 or parts[0].type != "string":
        return ""
    found = re.fullmatch(r"""(["'])([^"'\\{}\n]+)\1""", text_of(parts[0]))
    text = flat(found.group(2)) if found else ""
    return text if len(text) <= MAX_MESSAGE and "%" not in text and "`" not in text else ""


def complete(function: Node, functions: Mapping[str, Node], depth: int = 3) -> bool:
    """Whether every exception that can leave a function is raised by visible statements.

    `functions` are those of the file by dotted name; a call of anything else is unknown.
    """
    for node in own_nodes(function):
        if node.type in OPAQUE:
            return False
        if node.type == "raise_statement":
            if not raised_by(node, function):
                return False
        elif node.type == "call" and not is_raise_value(node):
            callee = callee_in_file(node, functions)
            name = dotted(node.child_by_field_name("function"))
            if callee is None and name not in HARMLESS:
                return False
            if callee is not None and (depth == 0 or callee == function):
                return False
            if callee is not None and not complete(callee, functions, depth - 1):
                return False
    return True


def is_raise_value(call: Node) -> bool:
    """Whether a call makes the exception of a raise statement."""
    return call.parent is not None and call.parent.type == "raise_statement"


def callee_in_file(call: Node, functions: Mapping[str, Node]) -> Node | None:
    """The function of this file that a call means: `name(...)` or `self.name(...)`."""
    name = dotted(call.child_by_field_name("function"))
    if name.startswith("self."):
        around = enclosing(call, frozenset({"class_definition"}))
        return functions.get(f"{name_of(around)}.{name[5:]}") if around is not None else None
    return functions.get(name)


def reachable(function: Node, functions: Mapping[str, Node], depth: int = 3) -> set[str]:
    """Names of the exceptions that a function and its callees in the file raise."""
    names = {found.name for found in raised(function)}
    if depth:
        for node in own_nodes(function):
            callee = callee_in_file(node, functions) if node.type == "call" else None
            if callee is not None and callee != function:
                names |= reachable(callee, functions, depth - 1)
    return names


def may_raise_by_itself(function: Node) -> bool:
    """Whether operators and look-ups of a body may raise exceptions of the language."""
    return any(node.type in IMPLICIT for node in own_nodes(function))

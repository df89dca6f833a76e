"""What leaves a function of a braces language: thrown exceptions and returned values.

The counterpart of `docstring_raises.py` for languages that write `throw`; nothing is followed into
what a function calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcoder.lsp_server.docstring_shape import Raised, flat, one_each
from qcoder.lsp_server.python_tree import Node, parents, text_of, walk

MAX_CONDITION = 60
MAX_MESSAGE = 70
INNER = ("function", "arrow", "method", "class", "lambda", "closure", "local_function", "func_lit")
LEAVING = frozenset(
    {"return_statement", "break_statement", "continue_statement", "return_expression"}
    | {"break_expression", "continue_expression", "try_expression"}
)
CATCHES_ALL = frozenset({"Exception", "Throwable", "RuntimeException", "Error"})


def named(node: Node) -> list[Node]:
    """Named children without comments."""
    return [c for c in node.named_children if "comment" not in c.type]


def own(function: Node) -> Iterator[Node]:
    """Nodes of a function's body, nested functions and classes left out."""
    body = function.child_by_field_name("body")
    if body is not None:
        yield from walk(body, lambda n: not n.type.startswith(INNER))


def returned(function: Node) -> Iterator[str]:
    """What each return statement gives: a name or constant, `Name()` for a made object, else ""."""
    for node in own(function):
        if node.type != "return_statement":
            continue
        value = next(iter(named(node)), None)
        if value is None:
            yield "undefined"
        elif value.type in ("null", "undefined", "null_literal"):
            yield text_of(value)
        elif value.type in ("true", "false") or value.type.startswith("bool"):
            yield text_of(value).lower()
        elif value.type in ("identifier", "this"):
            yield text_of(value)
        elif value.type in ("new_expression", "object_creation_expression"):
            yield f"{made_class(value)}()"
        else:
            yield ""


def thrown(function: Node) -> list[Raised]:
    """Exceptions that a body makes and throws, and that nothing in it catches."""
    found = []
    for node in own(function):
        if node.type not in ("throw_statement", "throw_expression") or not named(node):
            continue
        name = made_class(named(node)[0])
        if name and not is_caught(node, name, function):
            found.append(Raised(name, condition_of(node), message_of(named(node)[0])))
    return one_each(found)


def made_class(value: Node) -> str:
    """Class of `new X(...)`, or of `X(...)` in C++; "" for anything else."""
    target = (
        value.child_by_field_name("constructor")
        or value.child_by_field_name("type")
        or value.child_by_field_name("function")
    )
    if target is None and value.type == "object_creation_expression":
        target = next(iter(named(value)), None)
    name = flat(text_of(target)).partition("<")[0]
    fits = re.fullmatch(r"[\w.\\:]+", name) and value.type != "await_expression"
    is_class = name.split(".")[-1][:1].isupper() or "::" in name
    return name if fits and is_class else ""


def is_caught(node: Node, name: str, function: Node) -> bool:
    """Whether a `try` around a node, inside the function, catches what it throws."""
    child = node
    for parent in parents(node):
        if parent == function:
            return False
        if parent.type.startswith("try") and parent.child_by_field_name("body") == child:
            for clause in parent.named_children:
                if clause.type != "catch_clause":
                    continue
                head = text_of(clause).partition("{")[0]
                named_types = set(re.findall(r"[A-Z]\w*", head))
                last = re.split(r"[.:\\]", name)[-1]
                if not named_types or last in named_types or CATCHES_ALL & named_types:
                    return True
        child = parent
    return False


def condition_of(node: Node) -> str:
    """Condition of the `if` whose branch a statement is the way out of; "" when it has none."""
    child = node
    for parent in parents(node):
        if parent.type in ("if_statement", "if_expression"):
            if parent.child_by_field_name("consequence") != child:
                return ""
            text = flat(text_of(parent.child_by_field_name("condition")))
            while text.startswith("(") and text.endswith(")") and balanced(text[1:-1]):
                text = text[1:-1].strip()
            fits = len(text) <= MAX_CONDITION and "`" not in text and "*/" not in text
            return text if fits else ""
        plain = "block" in parent.type or "statement" in parent.type or "expr" in parent.type
        if not plain or leaves_before(parent, child):
            return ""
        child = parent
    return ""


def leaves_before(block: Node, statement: Node) -> bool:
    """Whether a block may be left before one of its statements, other than by an exception."""
    for earlier in block.named_children:
        if earlier == statement:
            return False
        if any(n.type in LEAVING for n in walk(earlier, lambda n: not n.type.startswith(INNER))):
            return True
    return False


def balanced(text: str) -> bool:
    """Whether no bracket of a text closes one from outside."""
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            return False
    return depth == 0


def message_of(value: Node) -> str:
    """The plain text that an exception is made with; "" for anything computed."""
    given = value.child_by_field_name("arguments")
    if given is None:
        given = next((c for c in value.named_children if "arguments" in c.type), None)
    parts = named(given) if given is not None else []
    found = (
        re.fullmatch(r"""(["'])([^"'\\{}$\n]+)\1""", text_of(parts[0])) if len(parts) == 1 else None
    )
    text = flat(found.group(2)) if found else ""
    return text if len(text) <= MAX_MESSAGE and "*/" not in text and "`" not in text else ""

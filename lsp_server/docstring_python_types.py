"""What a Python function gives back: its annotated type, or what its return statements show."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcoder.lsp_server.docstring_shape import flat
from qcoder.lsp_server.python_tree import Node, dotted, own_nodes, text_of

NOTHING = frozenset({"None", "NoReturn", "Never", "typing.NoReturn", "typing.Never", "t.NoReturn"})
GENERATORS = re.compile(r"[\w.]*(?:Iterator|Iterable|Generator)\[(.*)\]")


def type_text(node: Node | None) -> str:
    """A type on one line, a quoted one without its quotes."""
    text = flat(text_of(node))
    quoted = re.fullmatch(r"""(["'])([^"']*)\1""", text)
    text = quoted.group(2) if quoted else text
    return text if '"""' not in text else ""


def result_type(function: Node) -> str:
    """Annotated result; "" without one."""
    return type_text(function.child_by_field_name("return_type"))


def yielded_type(returns: str) -> str:
    """`int` of `Iterator[int]` or `Generator[int, None, None]`; "" when it does not say."""
    found = GENERATORS.fullmatch(returns)
    if not found:
        return ""
    depth = 0
    for at, char in enumerate(found.group(1)):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            return found.group(1)[:at].strip()
    return found.group(1).strip()


def gives_value(function: Node, returns: str) -> bool:
    """Whether callers get something: the annotation decides, else the return statements."""
    if returns:
        return returns not in NOTHING
    return any(
        node.type == "return_statement"
        and any(child.type not in ("none", "comment") for child in node.named_children)
        for node in own_nodes(function)
    )


def returned_values(function: Node) -> Iterator[str]:
    """What each return statement gives: a name or constant, `Name()` for a made object, else ""."""
    for node in own_nodes(function):
        if node.type != "return_statement":
            continue
        value = next((c for c in node.named_children if c.type != "comment"), None)
        if value is None or value.type == "none":
            yield "None"
        elif value.type in ("true", "false"):
            yield text_of(value)
        elif value.type in ("identifier", "attribute"):
            yield dotted(value)
        elif value.type == "call":
            made = dotted(value.child_by_field_name("function"))
            is_class = made.split(".")[-1].lstrip("_")[:1].isupper() or made == "cls"
            yield f"{made}()" if is_class and not made.isupper() else ""
        else:
            yield ""

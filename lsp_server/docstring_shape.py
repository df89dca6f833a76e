"""What a docstring must say about a Python definition: read from the syntax tree, never guessed.

A `Shape` holds parameters, result and exceptions of one function, method, property or class, and
the place where its docstring goes. Everything here is deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qcoder.lsp_server.python_tree import (
    Node,
    PythonFile,
    decorators,
    dotted,
    enclosing,
    name_of,
    own_nodes,
    parents,
    symbol_of,
    text_of,
)

MAX_DEFAULT = 30
MAX_CONDITION = 60
DEFINITIONS = ("function_definition", "class_definition")
PROPERTIES = frozenset({"property", "cached_property", "functools.cached_property"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One documented parameter; `stars` is "", "*" or "**", texts are "" when absent."""

    name: str
    type: str = ""
    default: str = ""
    stars: str = ""


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that the body raises; `condition` is source text, "" when it has none."""

    name: str
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to insert: 0-based position, what goes before, the block's indent, what goes after."""

    line: int
    column: int
    before: str
    indent: str
    after: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One definition. `line` is the 0-based line of its name."""

    name: str
    symbol: str
    kind: str
    line: int
    span: tuple[int, int]
    place: Place
    parameters: tuple[Parameter, ...] = ()
    returns: str = ""
    gives_value: bool = False
    yields: bool = False
    raises: tuple[Raised, ...] = ()
    documented: bool = False
    public: bool = True


def python_shapes(text: str) -> list[Shape]:
    """Shapes of all functions and classes of a file, in file order."""
    file = PythonFile.parse(text)
    if file is None:
        return []
    lines = text.split("\n")
    nodes = [n for kind in DEFINITIONS for n in file.nodes.get(kind, [])]
    found = [shape_of(n, lines) for n in sorted(nodes, key=lambda n: n.start_byte)]
    return [shape for shape in found if shape is not None]


def shape_of(node: Node, lines: list[str]) -> Shape | None:
    """Shape of a definition; None where no docstring can be inserted soundly."""
    place = place_of(node, lines)
    name, marks = name_of(node), decorators(node)
    if place is None or not name:
        return None
    around = [name_of(p) for p in parents(node) if p.type in DEFINITIONS]
    nested = enclosing(node, frozenset({"function_definition"})) is not None
    stub = any(mark.split(".")[-1] in ("overload", "setter", "deleter") for mark in marks)
    private = any(part.startswith("_") for part in [name, *around])
    symbol = ".".join(part for part in (symbol_of(node), name) if part)
    first = {
        "name": name,
        "symbol": symbol,
        "line": node.child_by_field_name("name").start_point[0],  # type: ignore[union-attr]
        "span": (node.start_point[0], node.end_point[0] + 1),
        "place": place,
        "documented": has_docstring(node),
        "public": not (nested or stub or private),
    }
    if node.type == "class_definition":
        return Shape(kind="class", **first)  # type: ignore[arg-type]
    is_method = enclosing_is_class(node)
    kind = "property" if PROPERTIES & set(marks) else "method" if is_method else "function"
    yields = any(n.type == "yield" for n in own_nodes(node))
    returns = result_type(node)
    return Shape(
        kind=kind,
        parameters=tuple(parameters_of(node, is_method and "staticmethod" not in marks)),
        returns=yielded_type(returns) if yields else returns,
        gives_value=not yields and gives_value(node, returns),
        yields=yields,
        raises=tuple(raised(node)),
        **first,  # type: ignore[arg-type]
    )


def place_of(node: Node, lines: list[str]) -> Place | None:
    """Where the docstring of a definition goes, so that no byte of code changes."""
    body = node.child_by_field_name("body")
    colon = next((c for c in node.children if c.type == ":"), None)
    if body is None or colon is None or not body.named_children or colon.is_missing:
        return None
    head = lines[node.start_point[0]]
    outer = head[: len(head) - len(head.lstrip())]
    row, column = characters(lines, colon.end_point)
    if body.start_point[0] == colon.end_point[0]:
        indent = outer + ("\t" if "\t" in outer else "    ")
        code = lines[row][column:]
        blanks = len(code) - len(code.lstrip())
        if blanks > len(indent):
            return None
        # The blanks after the colon become the last of the new line's indent.
        return Place(row, column, "\n", indent, "\n" + indent[: len(indent) - blanks])
    first = lines[body.start_point[0]]
    indent = first[: len(first) - len(first.lstrip())]
    # A header may go on behind the colon (`\`) or share lines with other statements.
    if lines[row][column:].split("#")[0].strip() or len(indent) <= len(outer):
        return None
    blank = node.type == "class_definition" and lines[row + 1].strip()
    return Place(row + 1, 0, "", indent, "\n\n" if blank else "\n")


def characters(lines: list[str], point: tuple[int, int]) -> tuple[int, int]:
    """Row and code point column of a byte position."""
    row, column = point
    data = lines[row].encode("utf-8", "surrogatepass")[:column]
    return row, len(data.decode("utf-8", "surrogatepass"))


def has_docstring(node: Node) -> bool:
    """Whether the body starts with a string."""
    body = node.child_by_field_name("body")
    first = next((c for c in body.named_children if c.type != "comment"), None) if body else None
    if first is None or first.type != "expression_statement" or not first.named_children:
        return False
    return first.named_children[0].type in ("string", "concatenated_string")


def enclosing_is_class(node: Node) -> bool:
    """Whether the nearest definition around is a class."""
    around = enclosing(node, frozenset(DEFINITIONS))
    return around is not None and around.type == "class_definition"


def parameters_of(function: Node, skip_first: bool) -> Iterator[Parameter]:
    """Parameters without the receiver of a method."""
    node = function.child_by_field_name("parameters")
    children = [c for c in node.named_children if c.type != "comment"] if node is not None else []
    for at, child in enumerate(children):
        if child.type in ("positional_separator", "keyword_separator"):
            continue
        if at == 0 and skip_first and child.type in ("identifier", "typed_parameter"):
            continue
        target = child.child_by_field_name("name") or (
            child.named_children[0] if child.type == "typed_parameter" else child
        )
        name = text_of(target)
        stars = name[: len(name) - len(name.lstrip("*"))]
        default = flat(text_of(child.child_by_field_name("value")))
        yield Parameter(
            name=name.lstrip("*").strip(),
            type=type_text(child.child_by_field_name("type")),
            default=default if len(default) <= MAX_DEFAULT else "",
            stars=stars,
        )


def type_text(node: Node | None) -> str:
    """A type on one line, a quoted one without its quotes."""
    text = flat(text_of(node))
    quoted = re.fullmatch(r"""(["'])([^"']*)\1""", text)
    return quoted.group(2) if quoted else text


def flat(text: str) -> str:
    """Text on one line."""
    return re.sub(r"\s+", " ", text).strip()


def result_type(function: Node) -> str:
    """Annotated result; "" without one."""
    return type_text(function.child_by_field_name("return_type"))


def yielded_type(returns: str) -> str:
    """`int` of `Iterator[int]` or `Generator[int, None, None]`; "" when it does not say."""
    found = re.fullmatch(r"[\w.]*(?:Iterator|Iterable|Generator)\[(.*)\]", returns)
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
        return returns not in ("None", "NoReturn", "Never", "typing.NoReturn")
    return any(
        node.type == "return_statement"
        and any(child.type not in ("none", "comment") for child in node.named_children)
        for node in own_nodes(function)
    )


def raised(function: Node) -> Iterator[Raised]:
    """Exceptions that the body itself raises and does not catch, each once."""
    seen = set()
    for node in own_nodes(function):
        if node.type != "raise_statement":
            continue
        name = raised_name(node)
        if name and name not in seen and not is_caught(node, name, function):
            seen.add(name)
            yield Raised(name, condition_of(node))


def raised_name(node: Node) -> str:
    """Class that a raise statement names; "" for variables and re-raises."""
    value = node.named_children[0] if node.named_children else None
    if value is not None and value.type == "call":
        value = value.child_by_field_name("function")
    name = dotted(value)
    return name if name.split(".")[-1][:1].isupper() else ""


def is_caught(node: Node, name: str, function: Node) -> bool:
    """Whether a `try` around a raise, inside the function, has a handler for it."""
    child = node
    for parent in parents(node):
        if parent == function:
            return False
        if parent.type == "try_statement" and parent.child_by_field_name("body") == child:
            heads = [text_of(c).split(":")[0] for c in parent.named_children if "except" in c.type]
            if any(
                head.strip() in ("except", "except*")
                or re.search(rf"\b({re.escape(name)}|Base)?Exception\b|\b{re.escape(name)}\b", head)
                for head in heads
            ):
                return True
        child = parent
    return False


def condition_of(node: Node) -> str:
    """Condition of the `if` whose branch the raise is the way out of; "" when it has none."""
    block = node.parent
    branch = block.parent if block is not None else None
    if branch is None or branch.type not in ("if_statement", "elif_clause"):
        return ""
    if branch.child_by_field_name("consequence") != block:
        return ""
    text = flat(text_of(branch.child_by_field_name("condition")))
    return text if len(text) <= MAX_CONDITION and "`" not in text and '"""' not in text else ""

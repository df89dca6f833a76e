"""Shapes of definitions in languages whose documentation is a comment above.

Names come from the index's outline; parameters, results and exceptions from the syntax tree where
the language's usual comment form names them (JSDoc, Javadoc). Elsewhere a summary is all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from qcoder.context.parse import Definition, outline, parse
from qcoder.lsp_server.docstring_shape import Parameter, Place, Raised, Shape, flat
from qcoder.lsp_server.python_tree import Node, text_of, walk

COMMENT_STYLE = {
    "javascript": "jsdoc",
    "javascriptreact": "jsdoc",
    "typescript": "jsdoc",
    "typescriptreact": "jsdoc",
    "java": "javadoc",
    "php": "javadoc",
    "c": "plain",
    "cpp": "plain",
    "go": "plain",
    "rust": "plain",
    "csharp": "plain",
    "ruby": "plain",
    "shellscript": "plain",
}
"""Language -> the one style of its documentation comments."""

LINE_MARKS = {"go": "//", "rust": "///", "ruby": "#", "shellscript": "#"}
"""Languages that document in line comments; C# wraps the summary in XML, the others use `/**`."""

FUNCTION_KINDS = frozenset({"function", "method"})
TYPE_KINDS = frozenset({"class", "interface", "struct", "enum", "trait", "type", "record"})
NOTHING = frozenset({"void", "never", "Promise<void>", "undefined"})


def comment_shapes(text: str, language: str) -> list[Shape]:
    """Shapes of all functions and types of a file, in file order."""
    tree = parse(text, language)
    if tree is None:
        return []
    lines = text.split("\n")
    shapes = []
    for definition in outline(text, language):
        place = place_above(definition, text, lines)
        if place is None or definition.kind not in FUNCTION_KINDS | TYPE_KINDS:
            continue
        shape = Shape(
            name=definition.name,
            symbol=definition.qualified_name,
            kind=definition.kind if definition.kind in FUNCTION_KINDS else "class",
            line=definition.line,
            span=(definition.span.start_line, definition.span.end_line),
            place=place,
            documented=definition.docstring is not None,
            public=not definition.nested and not definition.name.startswith(("_", "#")),
        )
        if definition.kind in FUNCTION_KINDS and COMMENT_STYLE.get(language) != "plain":
            shape = detailed(shape, function_node(tree.root_node, definition), language)
        shapes.append(shape)
    return shapes


def place_above(definition: Definition, text: str, lines: list[str]) -> Place | None:
    """The line of a definition that begins its line; None when other code stands before it."""
    line = definition.span.start_line
    head = lines[line]
    indent = head[: len(head) - len(head.lstrip())]
    data = text.encode("utf-8", "surrogatepass")
    start = data.rfind(b"\n", 0, definition.span.start_byte) + 1
    if data[start : definition.span.start_byte].strip():
        return None
    return Place(line, 0, "", indent, "\n")


def function_node(root: Node, definition: Definition) -> Node | None:
    """The node with the parameters of a definition."""
    span = definition.span
    node = root.named_descendant_for_byte_range(
        span.start_byte, max(span.start_byte, span.end_byte - 1)
    )
    for found in walk(node) if node is not None else ():
        if found.child_by_field_name("parameters") or found.child_by_field_name("parameter"):
            return found
    return None


def detailed(shape: Shape, node: Node | None, language: str) -> Shape:
    """The shape with parameters, result and exceptions of its function node."""
    if node is None:
        return shape
    given = node.child_by_field_name("parameters") or node.child_by_field_name("parameter")
    result = node.child_by_field_name("return_type") or node.child_by_field_name("type")
    returns = flat(text_of(result)).lstrip(": ")
    return replace(
        shape,
        parameters=tuple(parameters(given)) if given is not None else (),
        returns=returns,
        gives_value=returns not in NOTHING if returns else returns_value(node),
        raises=tuple(thrown(node)),
    )


def parameters(node: Node) -> Iterator[Parameter]:
    """Parameters in order; a destructured one has no name of its own and is left out."""
    children = [node] if node.type == "identifier" else node.named_children
    for child in children:
        if "comment" in child.type or child.type == "receiver_parameter":
            continue
        target = (
            child.child_by_field_name("pattern")
            or child.child_by_field_name("name")
            or child.child_by_field_name("left")
            or child
        )
        value = child.child_by_field_name("value") or child.child_by_field_name("right")
        name = re.sub(r"^[.$&\s]+", "", text_of(target))
        if name.isidentifier() and name != "this":
            default = flat(text_of(value))
            yield Parameter(
                name=name,
                type=flat(text_of(child.child_by_field_name("type"))).lstrip(": "),
                default=default if len(default) <= 30 else "",
            )


def returns_value(function: Node) -> bool:
    """Whether a body gives something back: an expression, or `return` with a value."""
    body = function.child_by_field_name("body")
    if body is None:
        return False
    if function.type == "arrow_function" and body.type != "statement_block":
        return True
    inner = ("function", "arrow", "method", "class", "lambda")
    for node in walk(body, lambda n: not n.type.startswith(inner)):
        if node.type == "return_statement" and node.named_children:
            return True
    return False


def thrown(function: Node) -> Iterator[Raised]:
    """Declared exceptions of a Java method."""
    for child in function.named_children:
        if child.type == "throws":
            for name in child.named_children:
                yield Raised(text_of(name))

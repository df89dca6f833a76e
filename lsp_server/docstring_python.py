"""Shapes of Python definitions and of the module, read from the syntax tree, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from qcoder.lsp_server.docstring_python_types import (
    gives_value,
    result_type,
    returned_values,
    type_text,
    yielded_type,
)
from qcoder.lsp_server.docstring_raises import (
    complete,
    may_raise_by_itself,
    raised,
    reachable,
)
from qcoder.lsp_server.docstring_shape import Existing, Parameter, Place, Shape, short
from qcoder.lsp_server.edited import BYTE_ORDER_MARK
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
    walk,
)

DEFINITIONS = ("function_definition", "class_definition")
CLASS = frozenset({"class_definition"})
PROPERTIES = frozenset({"property", "cached_property", "functools.cached_property"})
NOT_DOCUMENTED = frozenset({"overload", "setter", "deleter", "getter", "override", "register"})
"""Last names of decorators whose functions have their docstring elsewhere."""

TRANSPARENT = PROPERTIES | {
    "staticmethod", "classmethod", "abstractmethod", "override", "overload", "final", "cache",
    "lru_cache", "cached_property", "contextmanager", "asynccontextmanager", "wraps", "coroutine",
}  # fmt: skip
"""Last names of decorators that leave the parameters as they are."""

ENUMS = frozenset({"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"})
CALLED_BY_NAME = frozenset({"__call__", "__new__"})
"""Special methods whose arguments callers choose: as public as any other."""

MODULE = "<module>"
"""The symbol of a file as a whole."""

MAX_CONTENTS = 20


def python_shapes(text: str, stem: str = "module") -> list[Shape]:
    """Shapes of a file (the module first, named `stem`), its functions and classes in order."""
    file = PythonFile.parse(text)
    if file is None:
        return []
    return _Reader(file, text.split("\n"), is_test(stem)).shapes(stem)


def is_test(stem: str) -> bool:
    """Whether a file is for a test runner, which calls its functions by their names."""
    return stem.startswith("test_") or stem.endswith("_test")


class _Reader:
    """One pass over a parsed file."""

    def __init__(self, file: PythonFile, lines: Sequence[str], is_test: bool) -> None:
        self.lines = lines
        self.is_test = is_test
        self.root = file.root
        nodes = [n for kind in DEFINITIONS for n in file.nodes.get(kind, [])]
        self.nodes = sorted(nodes, key=lambda n: n.start_byte)
        self.functions: Mapping[str, Node] = {
            dotted_name(n): n for n in self.nodes if n.type == "function_definition"
        }
        # Constructors have docstrings of their own in this file: the class then leaves them to it.
        self.own_constructors = any(
            name_of(n) == "__init__" and docstring_node(n) is not None
            for n in self.functions.values()
        )

    def shapes(self, stem: str) -> list[Shape]:
        found = [self.module(stem), *map(self.shape, self.nodes)]
        return [shape for shape in found if shape is not None]

    def module(self, stem: str) -> Shape | None:
        statements = [c for c in self.root.named_children if c.type != "comment"]
        if not statements or statements[0].is_error:
            return None
        string = docstring_node(self.root)
        row, mark = 0, len(self.lines[0]) - len(self.lines[0].removeprefix(BYTE_ORDER_MARK))
        while row < len(self.lines) - 1 and self.lines[row].startswith("#", 0 if row else mark):
            row += 1
        while row < len(self.lines) - 1 and not self.lines[row][0 if row else mark :].strip():
            row += 1
        return Shape(
            name=stem,
            symbol=MODULE,
            kind="module",
            line=0,
            span=(0, len(self.lines)),
            place=Place(row, 0 if row else mark, "", "", "\n\n"),
            documented=string is not None,
            existing=self.existing(string),
            public=True,
            contents=tuple(module_contents(statements)),
        )

    def shape(self, node: Node) -> Shape | None:
        """Shape of a definition; None where no docstring can be inserted soundly."""
        place = self.place(node)
        name, marks = name_of(node), decorators(node)
        if place is None or not name:
            return None
        around = [name_of(p) for p in parents(node) if p.type in DEFINITIONS]
        nested = enclosing(node, frozenset({"function_definition"})) is not None
        elsewhere = any(mark.split(".")[-1] in NOT_DOCUMENTED for mark in marks)
        constructor = name == "__init__" and self.own_constructors
        hidden = name.startswith("_") and not (constructor or name in CALLED_BY_NAME)
        private = hidden or any(part.startswith("_") for part in around)
        # The name of a test is what it has to say.
        private |= self.is_test and any(p.lower().startswith("test") for p in [name, *around])
        string = docstring_node(node)
        shape = Shape(
            name=name,
            symbol=dotted_name(node),
            kind="class" if node.type == "class_definition" else "function",
            line=node.child_by_field_name("name").start_point[0],  # type: ignore[union-attr]
            span=(node.start_point[0], node.end_point[0] + 1),
            place=place,
            documented=string is not None,
            existing=self.existing(string),
            public=not (nested or elsewhere or private),
        )
        if node.type == "class_definition":
            return self.with_members(shape, node)
        return self.with_signature(shape, node, marks)

    def with_members(self, shape: Shape, node: Node) -> Shape:
        """A class: what its constructor takes and raises, and what its body sets."""
        bases = tuple(
            dotted(c)
            for c in named(node.child_by_field_name("superclasses"))
            if c.type in ("identifier", "attribute")
        )
        is_enum = any(base.split(".")[-1] in ENUMS for base in bases)
        constructor = self.functions.get(f"{shape.symbol}.__init__")
        documents_it = not self.own_constructors and constructor is not None
        return replace(
            shape,
            bases=bases,
            attributes=() if is_enum else tuple(attributes_of(node)),
            parameters=tuple(parameters_of(constructor, True))
            if documents_it and constructor
            else (),
            raises=tuple(raised(constructor)) if documents_it and constructor else (),
        )

    def with_signature(self, shape: Shape, node: Node, marks: Sequence[str]) -> Shape:
        """A function: what it takes, gives and raises."""
        is_method = enclosing_is_class(node)
        is_property = bool(PROPERTIES & set(marks))
        generates = any(n.type == "yield" for n in own_nodes(node))
        annotated = result_type(node)
        returns = yielded_type(annotated) if generates else annotated
        documents_raises = shape.existing is not None and "aise" in shape.existing.text
        return replace(
            shape,
            kind="property" if is_property else "method" if is_method else "function",
            parameters=tuple(parameters_of(node, is_method and "staticmethod" not in marks)),
            returns=returns,
            gives_value=not generates and not is_property and gives_value(node, returns),
            yields=generates and returns != "None",
            generates=generates,
            as_context=generates and any(m.endswith("contextmanager") for m in marks),
            returned=tuple(returned_values(node)),
            raises=tuple(raised(node)),
            all_raises=documents_raises and complete(node, self.functions),
            reached=tuple(sorted(reachable(node, self.functions))) if documents_raises else (),
            implicit_raises=documents_raises and may_raise_by_itself(node),
            stub=is_stub(node) or any(m.split(".")[-1].startswith("abstract") for m in marks),
            decorated=any(m.split(".")[-1] not in TRANSPARENT for m in marks),
        )

    def place(self, node: Node) -> Place | None:
        """Where the docstring of a definition goes, so that no byte of code changes."""
        lines = self.lines
        body = node.child_by_field_name("body")
        colon = next((c for c in node.children if c.type == ":"), None)
        if body is None or colon is None or not body.named_children or colon.is_missing:
            return None
        head = lines[node.start_point[0]]
        outer = head[: len(head) - len(head.lstrip())]
        row, column = self.characters(colon.end_point)
        if body.start_point[0] == colon.end_point[0]:
            indent = outer + ("\t" if "\t" in outer else "    ")
            code = lines[row][column:]
            blanks = len(code) - len(code.lstrip())
            # The blanks after the colon become the last of the new line's indent.
            if not indent.endswith(code[:blanks]):
                return None
            return Place(row, column, "\n", indent, "\n" + indent[: len(indent) - blanks])
        first = lines[body.start_point[0]]
        indent = first[: len(first) - len(first.lstrip())]
        # A header may go on behind the colon (`\`) or share lines with other statements.
        if lines[row][column:].split("#")[0].strip() or len(indent) <= len(outer):
            return None
        blank = node.type == "class_definition" and lines[row + 1].strip()
        return Place(row + 1, 0, "", indent, "\n\n" if blank else "\n")

    def existing(self, string: Node | None) -> Existing | None:
        """The docstring that is there; None for one that is put together or computed."""
        if string is None or string.type != "string":
            return None
        text = text_of(string)
        prefix = text[: len(text) - len(text.lstrip("rRuUbBfF"))]
        if prefix.strip("rRuU"):
            return None
        row, column = self.characters(string.start_point)
        end_row, end_column = self.characters(string.end_point)
        return Existing(row, column, end_row, end_column, text)

    def characters(self, point: tuple[int, int]) -> tuple[int, int]:
        """Row and code point column of a byte position."""
        row, column = point
        data = self.lines[row].encode("utf-8", "surrogatepass")[:column]
        return row, len(data.decode("utf-8", "surrogatepass"))


def dotted_name(node: Node) -> str:
    """Name of a definition with those around it."""
    return ".".join(part for part in (symbol_of(node), name_of(node)) if part)


def named(node: Node | None) -> list[Node]:
    """Named children without comments; none for None."""
    return [c for c in node.named_children if c.type != "comment"] if node is not None else []


def docstring_node(node: Node) -> Node | None:
    """The string that a body or module begins with."""
    body = node if node.type == "module" else node.child_by_field_name("body")
    first = next(iter(named(body)), None)
    if first is None or first.type != "expression_statement" or not first.named_children:
        return None
    value = first.named_children[0]
    return value if value.type in ("string", "concatenated_string") else None


def enclosing_is_class(node: Node) -> bool:
    """Whether the nearest definition around is a class."""
    around = enclosing(node, frozenset(DEFINITIONS))
    return around is not None and around.type == "class_definition"


def is_stub(function: Node) -> bool:
    """Whether a body only stands for one: `...`, `pass`, a docstring or NotImplementedError."""
    for statement in named(function.child_by_field_name("body")):
        text = text_of(statement)
        if statement.type in ("pass_statement",) or text == "...":
            continue
        if statement.type == "expression_statement" and named(statement)[0].type == "string":
            continue
        if not (statement.type == "raise_statement" and "NotImplementedError" in text):
            return False
    return True


def module_contents(statements: Sequence[Node]) -> Iterator[str]:
    """Public names that a module defines, or hands on when it defines none."""
    defined = []
    for statement in statements:
        inner = statement.child_by_field_name("definition") or statement
        if inner.type in DEFINITIONS and not name_of(inner).startswith("_"):
            defined.append(name_of(inner))
    if not defined:
        for statement in statements:
            if statement.type != "import_from_statement":
                continue
            module = text_of(statement.child_by_field_name("module_name"))
            if module.startswith("."):
                items = statement.children_by_field_name("name")
                defined += [text_of(i.child_by_field_name("alias") or i) for i in items]
    names = [n for n in dict.fromkeys(defined) if n.isidentifier() and not n.startswith("_")]
    yield from names[:MAX_CONTENTS]


def is_text(statement: Node) -> bool:
    """Whether a statement is nothing but a string, as documentation of the attribute before it."""
    return statement.type == "expression_statement" and [
        child.type for child in statement.named_children
    ] == ["string"]


def attributes_of(node: Node) -> Iterator[Parameter]:
    """Public names that a class body sets, each once; not those with a text of their own below."""
    seen = set()
    body = named(node.child_by_field_name("body"))
    for statement, behind in zip(body, [*body[1:], None], strict=True):
        if statement.type != "expression_statement" or (behind is not None and is_text(behind)):
            continue
        for assignment in (n for n in walk(statement) if n.type == "assignment"):
            target = assignment.child_by_field_name("left")
            name = text_of(target)
            if target is None or target.type != "identifier" or name.startswith("_"):
                continue
            if name in seen:
                continue
            seen.add(name)
            value = assignment.child_by_field_name("right")
            plain = value is not None and value.type != "assignment"
            yield Parameter(
                name=name,
                type=type_text(assignment.child_by_field_name("type")),
                default=short(text_of(value)) if plain else "",
            )


def parameters_of(function: Node, skip_first: bool) -> Iterator[Parameter]:
    """Parameters without the receiver of a method and those that are only underscores."""
    children = named(function.child_by_field_name("parameters"))
    for at, child in enumerate(children):
        if child.type in ("positional_separator", "keyword_separator"):
            continue
        if at == 0 and skip_first and child.type in ("identifier", "typed_parameter"):
            continue
        target = child.child_by_field_name("name") or (
            child.named_children[0] if child.type == "typed_parameter" else child
        )
        stars = text_of(target)[: len(text_of(target)) - len(text_of(target).lstrip("*"))]
        name = text_of(target).lstrip("*").strip()
        if not name.strip("_"):
            continue
        yield Parameter(
            name=name,
            type=type_text(child.child_by_field_name("type")),
            default=short(text_of(child.child_by_field_name("value"))),
            stars=stars,
            passed_to=passed_to(function, stars, name) if stars else "",
        )


def passed_to(function: Node, stars: str, name: str) -> str:
    """The only callee that `*args` or `**kwargs` are handed to; "" when there is no such one."""
    found = set()
    wanted = "list_splat" if stars == "*" else "dictionary_splat"
    for node in own_nodes(function):
        if node.type == wanted and text_of(node).lstrip("*").strip() == name:
            call = node.parent.parent if node.parent is not None else None
            if call is None or call.type != "call":
                return ""
            callee = text_of(call.child_by_field_name("function"))
            found.add(callee)
    callee = found.pop() if len(found) == 1 else ""
    return callee if len(callee) <= 40 and "`" not in callee and "\n" not in callee else ""

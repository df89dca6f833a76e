"""From a syntax tree and its language's query to definitions and import statements.

What a capture means: `definition.<kind>` is a definition with its `@name`, `@owner` and `@body`;
`alias.<kind>` one that only gives a name to another and so owns nothing inside; `outer` a node that belongs to the definition inside it (a decorator, an export); `scope` a node
that only lends its name to what is inside; `package` the name of the package that the file belongs
to; `import` a statement.

Offsets are bytes of the UTF-8 text; nesting is followed by intervals, never by recursion.
"""

from __future__ import annotations

import inspect
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import tree_sitter

from qcoder.context.comments import comment_above
from qcoder.context.languages import LanguageSpec
from qcoder.context.segments import Span

_MATCH_LIMIT = 4096
_MAX_SIGNATURE_LINES = 12
_MAX_SIGNATURE_BYTES = 1000
_MAX_IMPORT_BYTES = 4000
_MAX_NAME_CHARS = 200

_BLANK_LINE = re.compile(r"\n[ \t]*\n")

# Captures that are read together with the one of the whole definition.
_PARTS = frozenset({"name", "owner", "body", "scope.name"})
# What a Python body with a docstring begins with: the string, or a comment above it.
_BEFORE_STRING = frozenset(bytes([byte]) for byte in b"\"'rRuUbBfF#")

FUNCTION_KINDS = frozenset({"function", "method"})


@dataclass(frozen=True, slots=True)
class Definition:
    """One named definition of a file.

    `owner` is the dotted path of the definitions around it ("" at the top level), `line` the
    0-based line of the name, `nested` whether a function encloses it. `signature` is the text
    from the definition's line to where its body starts; `span` includes decorators and exports.
    `documentation` is as written, of a string without its quotes, of a comment without its marks.
    """

    name: str
    kind: str
    owner: str
    span: Span
    signature: str
    documentation: str | None
    is_string: bool
    body_span: Span | None
    line: int = 0
    nested: bool = False

    @property
    def qualified_name(self) -> str:
        """The name with its owners, dotted."""
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def docstring(self) -> str | None:
        """The documentation without the indentation of the code around it."""
        if self.documentation is None or not self.is_string:
            return self.documentation
        return inspect.cleandoc(self.documentation) or None

    @property
    def summary(self) -> str:
        """The first paragraph of the documentation on one line."""
        if self.documentation is None:
            return ""
        return " ".join(_BLANK_LINE.split(self.documentation.strip(), 1)[0].split())


@dataclass(frozen=True, slots=True)
class Syntax:
    """What one file says: its definitions in file order and the statements it imports with.

    `packages` are the packages or namespaces it says it belongs to.
    """

    definitions: tuple[Definition, ...] = ()
    imports: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Frame:
    """An enclosing node while definitions are visited in file order; `path` is dotted."""

    start: int
    end: int
    path: str
    kind: str
    in_function: bool


_OUTSIDE = _Frame(-1, 0, "", "", False)
_Nodes = Mapping[str, Sequence[tree_sitter.Node]]


def extract(
    data: bytes, tree: tree_sitter.Tree, spec: LanguageSpec, query: tree_sitter.Query
) -> Syntax:
    """Everything the query finds in a tree of the text `data`."""
    return _Extraction(data, spec).run(tree, query)


class _Extraction:
    """One pass over the query matches of one file."""

    def __init__(self, data: bytes, spec: LanguageSpec) -> None:
        self.data = data
        self.spec = spec
        self.lines = data.split(b"\n") if spec.docs == "comment" else []
        self.imports: list[tuple[int, str]] = []
        self.packages: list[str] = []
        self.found: list[tuple[int, int, str, tree_sitter.Node, _Nodes]] = []

    def run(self, tree: tree_sitter.Tree, query: tree_sitter.Query) -> Syntax:
        for captures in _matches(self.data, tree, query, self.spec.marks):
            self._take(captures)
        self.imports.sort()
        return Syntax(
            tuple(self._definitions()),
            tuple(text for _, text in self.imports),
            tuple(self.packages),
        )

    def _take(self, captures: _Nodes) -> None:
        for capture, nodes in captures.items():
            if capture == "import":
                for node in nodes:
                    end = min(node.end_byte, node.start_byte + _MAX_IMPORT_BYTES)
                    raw = self.data[node.start_byte : end].decode("utf-8", "replace")
                    self.imports.append((node.start_byte, raw))
            elif capture == "package":
                self.packages += map(self._text, nodes)
            elif capture not in _PARTS and not capture.startswith("_"):
                node = nodes[0]
                kind = capture.removeprefix("definition.").removeprefix("alias.")
                self.found.append((node.start_byte, -node.end_byte, kind, node, captures))

    def _definitions(self) -> list[Definition]:
        self.found.sort(key=itemgetter(0, 1, 2))
        stack: list[_Frame] = []
        outer: tree_sitter.Node | None = None
        seen: set[tuple[int, str]] = set()
        definitions: list[Definition] = []
        for start, negative_end, kind, node, captures in self.found:
            while stack and stack[-1].end <= start:
                stack.pop()
            if kind == "outer":
                outer = outer if outer is not None and outer.end_byte > start else node
                continue
            inside = stack[-1] if stack else _OUTSIDE
            if kind == "scope":
                path = _dotted(inside.path, self._text(captures["scope.name"][0]))
                stack.append(_Frame(-1, -negative_end, path, kind, inside.in_function))
                continue
            # Two names of one statement (`typedef struct {...} a, *b`) stand side by side.
            is_twin = (inside.start, inside.end) == (start, -negative_end)
            if is_twin:
                inside = stack[-2] if len(stack) > 1 else _OUTSIDE
            around = outer if outer is not None and -negative_end <= outer.end_byte else None
            outer = None
            definition = self._definition(kind, node, captures, around, inside)
            path = definition.qualified_name
            key = (definition.line, path)
            if self.spec.equations and definitions and _continues(definitions[-1], definition):
                definitions[-1] = _joined(definitions[-1], definition)
            elif definition.name and key not in seen:
                seen.add(key)
                definitions.append(definition)
                if is_twin or f"alias.{kind}" in captures:
                    continue
                in_function = definition.nested or definition.kind in FUNCTION_KINDS
                stack.append(_Frame(start, -negative_end, path, definition.kind, in_function))
        return definitions

    def _definition(
        self,
        kind: str,
        node: tree_sitter.Node,
        captures: _Nodes,
        around: tree_sitter.Node | None,
        inside: _Frame,
    ) -> Definition:
        name_node = _innermost(captures["name"][0])
        owner, name = "", self._text(name_node)
        if not name.isidentifier() or len(name) > _MAX_NAME_CHARS:
            name = " ".join(name.split())[:_MAX_NAME_CHARS]
            owner, name = ("", name.strip("\"'")) if self.spec.data else _split_qualified(name)
        if "owner" in captures:
            owner = self._text(captures["owner"][0])
        if kind == "function" and (owner or (inside.path and inside.kind not in FUNCTION_KINDS)):
            kind = "method"
        start, line = self._start_of(node)
        first, first_line = start, line
        if around is not None and around.start_byte < start:
            first, first_line = self._start_of(around)
        bodies = captures.get("body")
        body = bodies[0] if bodies else node.child_by_field_name("body")
        # C++ says `template <...>` on a line of its own: part of what a caller must know.
        shown = first if around is not None and around.type == "template_declaration" else start
        return Definition(
            name=name,
            kind=kind,
            owner=_dotted(inside.path, owner),
            span=Span(first, node.end_byte, first_line, node.end_point[0] + 1),
            signature=self._signature(shown, body, node),
            documentation=self._documentation(body, first, first_line),
            is_string=self.spec.docs == "string",
            body_span=None if body is None else _span_of(body),
            line=name_node.start_point[0],
            nested=inside.in_function,
        )

    def _start_of(self, node: tree_sitter.Node) -> tuple[int, int]:
        """Byte and line where a definition starts, with keywords such as `export` or `type`."""
        start, (row, column) = node.start_byte, node.start_point
        before = self.data[start - column : start].lstrip()
        if before:
            plain = before.replace(b" ", b"").replace(b"\t", b"")
            if plain.isalpha() or plain == b"*":
                return start - len(before), row
        return start, row

    def _signature(self, start: int, body: tree_sitter.Node | None, node: tree_sitter.Node) -> str:
        end = node.end_byte if body is None or body.start_byte <= start else body.start_byte
        raw = self.data[start : min(end, start + _MAX_SIGNATURE_BYTES)].decode("utf-8", "replace")
        if "\n" not in raw:
            return raw.rstrip()
        kept = [line.rstrip() for line in raw.split("\n")[:_MAX_SIGNATURE_LINES]]
        while len(kept) > 1 and (
            not kept[-1] or kept[-1].lstrip().startswith(self.spec.line_comment)
        ):
            kept.pop()
        return "\n".join(kept).rstrip()

    def _documentation(
        self, body: tree_sitter.Node | None, start: int, first_line: int
    ) -> str | None:
        if self.spec.docs == "none":
            return None
        if self.spec.docs == "string":
            return None if body is None else self._string(body)
        line_start = self.data.rfind(b"\n", 0, start) + 1
        if self.data[line_start:start].strip():
            return None  # not the first thing of its line: the comment above is another's
        return comment_above(self.lines, first_line, self.spec)

    def _string(self, body: tree_sitter.Node) -> str | None:
        # Most bodies begin with something else, which a look at one byte tells.
        first = body.start_byte
        if self.data[first : first + 1] not in _BEFORE_STRING:
            return None
        statement = _first_statement(body)
        if statement is None or statement.type != "expression_statement":
            return None
        string = statement.named_child(0) if statement.named_child_count else None
        if string is None or string.type != "string":
            return None
        literal = self._text(string)
        quote = literal.lstrip("rRuUbBfF")
        if literal[: len(literal) - len(quote)].strip("rRuU"):
            return None
        width = 3 if quote[:3] in ('"""', "'''") else 1
        return quote[width:-width]

    def _text(self, node: tree_sitter.Node) -> str:
        return self.data[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _matches(
    data: bytes, tree: tree_sitter.Tree, query: tree_sitter.Query, marks: Sequence[bytes]
) -> Iterator[_Nodes]:
    """What the query finds, in no order; with marks, only nodes that contain one are looked at.

    Most of a text is the inside of functions that define nothing: there a look at the bytes saves a
    walk over the nodes.
    """
    # The limit bounds the work on hostile texts; a progress callback here crashes tree-sitter 0.26.
    cursor = tree_sitter.QueryCursor(query, match_limit=_MATCH_LIMIT)
    if not marks:
        for _, captures in cursor.matches(tree.root_node):
            yield captures
        return
    cursor.set_max_start_depth(0)
    places = sorted(place for mark in marks for place in _places(data, mark))
    places.append(len(data))
    left = [tree.root_node]
    while left:
        node = left.pop()
        next_mark = bisect_left(places, node.start_byte)
        for _, captures in cursor.matches(node):
            yield captures
            # The keyword before a name is the definition's own, and nothing is defined in an import.
            if "import" in captures:
                next_mark = len(places) - 1
            elif "name" in captures and places[next_mark] < captures["name"][0].start_byte:
                next_mark += 1
        if places[next_mark] < node.end_byte:
            left += [
                child
                for child in node.named_children
                if places[bisect_left(places, child.start_byte)] < child.end_byte
            ]


def _places(data: bytes, mark: bytes) -> Iterator[int]:
    place = data.find(mark)
    while place >= 0:
        yield place
        place = data.find(mark, place + 1)


def _innermost(node: tree_sitter.Node) -> tree_sitter.Node:
    """The name in a declarator of C: `(*name[4])(int)`; a name itself is its own."""
    while True:
        inner = node.child_by_field_name("declarator")
        if inner is None and node.type in ("parenthesized_declarator", "reference_declarator"):
            inner = node.named_child(node.named_child_count - 1) if node.named_child_count else None
        if inner is None:
            return node
        node = inner


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _span_of(node: tree_sitter.Node) -> Span:
    return Span(node.start_byte, node.end_byte, node.start_point[0], node.end_point[0] + 1)


def _first_statement(body: tree_sitter.Node) -> tree_sitter.Node | None:
    # One by one: a class may have thousands of children, and nearly always the first will do.
    for position in range(body.named_child_count):
        node = body.named_child(position)
        if node is not None and node.type != "comment":
            return node
    return None


def _continues(before: Definition, definition: Definition) -> bool:
    return before.qualified_name == definition.qualified_name and before.kind == definition.kind


def _joined(before: Definition, definition: Definition) -> Definition:
    span = Span(
        before.span.start_byte,
        definition.span.end_byte,
        before.span.start_line,
        definition.span.end_line,
    )
    return replace(before, span=span, body_span=before.body_span or definition.body_span)


def _split_qualified(name: str) -> tuple[str, str]:
    """`A::B::f` -> ("A.B", "f"); template arguments and pointers are no part of a name."""
    if "::" not in name:
        return "", name
    owner, _, last = name.rpartition("::")
    return ".".join(part.partition("<")[0].strip() for part in owner.split("::")), last.strip()

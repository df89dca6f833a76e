"""Shapes of definitions in languages whose documentation is a comment above.

Names come from the index's outline; what a function takes, gives and throws from
`docstring_signatures.py`. Here: where the comment goes, the one that is there, what is public.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import tree_sitter

from qcoder.context.comments import comment_rows
from qcoder.context.languages import LANGUAGES, LanguageSpec, grammar
from qcoder.context.parse import Definition, outline, parse
from qcoder.lsp_server.docstring_shape import Existing, Parameter, Place, Shape, flat
from qcoder.lsp_server.docstring_signatures import detailed, simple_parameters, type_parameters
from qcoder.lsp_server.python_tree import Node, parents, text_of, walk

FUNCTION_KINDS = frozenset({"function", "method"})
TYPE_KINDS = frozenset({"class", "interface", "struct", "enum", "trait", "type", "record"})

FEWEST_WITH_PREFIX = 3
"""Functions that make a common prefix the library's."""

DIRECTIVE = re.compile(
    r"^\W*(?:eslint|@ts-|tslint|prettier-|istanbul|c8 |noinspection|NOLINT|nolint|go:|\+build"
    r"|biome-|SPDX|Copyright|TODO|FIXME|region|endregion)",
    re.IGNORECASE,
)
"""Comments that say nothing about the definition below."""

DOCUMENTING = {
    **dict.fromkeys(("javascript", "javascriptreact", "typescript", "typescriptreact"), ("/**",)),
    "java": ("/**",),
    "php": ("/**",),
    "c": ("/**", "/*!", "///", "//!"),
    "cpp": ("/**", "/*!", "///", "//!"),
    "rust": ("///", "/**"),
    "csharp": ("///", "/**"),
}
"""How a comment begins that documentation tools read; elsewhere every comment counts."""


def comment_shapes(text: str, language: str) -> list[Shape]:
    """Shapes of all functions and types of a file, in file order."""
    known, spec = grammar(language), LANGUAGES.get(language)
    if known is None or spec is None or parse(text, language) is None:
        return []
    # From plain bytes, see `PythonFile.parse`: nodes of a guarded parse read their text slowly.
    data = text.encode("utf-8", "surrogatepass")
    tree = tree_sitter.Parser(known).parse(data)
    reader = _Reader(language, spec, text.split("\n"), data, tree.root_node)
    found = [reader.shape(definition) for definition in outline(text, language)]
    shapes = [shape for shape in found if shape is not None]
    return spoken(shapes) if language in ("c", "cpp", "shellscript") else shapes


def spoken(shapes: list[Shape]) -> list[Shape]:
    """The shapes, with names to speak of where most functions of the file share a prefix."""
    functions = [s.name for s in shapes if s.kind in FUNCTION_KINDS and "_" in s.name.strip("_")]
    if len(functions) < FEWEST_WITH_PREFIX:
        return shapes
    (prefix, count), *_ = Counter(name.partition("_")[0] + "_" for name in functions).most_common(1)
    if 2 * count < len(functions):
        return shapes
    return [
        replace(s, spoken=s.name[len(prefix) :])
        if s.name.startswith(prefix) and s.name != prefix and s.kind in FUNCTION_KINDS
        else s
        for s in shapes
    ]


class _Reader:
    """One pass over the outline of a file."""

    def __init__(
        self, language: str, spec: LanguageSpec, lines: list[str], data: bytes, root: Node
    ) -> None:
        self.language, self.spec, self.lines, self.data, self.root = (
            language, spec, lines, data, root,
        )  # fmt: skip
        self.rows = data.split(b"\n")
        self.exports = language.startswith(("javascript", "typescript")) and any(
            child.type == "export_statement" for child in root.named_children
        )

    def shape(self, definition: Definition) -> Shape | None:
        place = self.place(definition)
        if place is None or definition.kind not in FUNCTION_KINDS | TYPE_KINDS:
            return None
        is_function = definition.kind in FUNCTION_KINDS
        node = self.node(definition, is_function)
        existing, commented = self.existing(definition.span.start_line)
        shape = Shape(
            name=definition.name,
            symbol=definition.qualified_name,
            kind=definition.kind if is_function else "class",
            line=definition.line,
            span=(definition.span.start_line, definition.span.end_line),
            place=place,
            documented=commented,
            existing=existing,
            stub=definition.body_span is None,
            public=not definition.nested
            and not definition.name.startswith(("_", "#"))
            and (node is None or self.is_public(node, definition)),
        )
        if node is None:
            return shape
        if is_function:
            return detailed(shape, node, self.language)
        return self.with_parts(shape, node)

    def with_parts(self, shape: Shape, node: Node) -> Shape:
        """A type: its type parameters, and the components of a record."""
        if self.language not in ("java", "csharp"):
            return shape
        components: tuple[Parameter, ...] = ()
        if node.type == "record_declaration":
            components = tuple(simple_parameters(node.child_by_field_name("parameters")))
        return replace(shape, parameters=components, type_parameters=tuple(type_parameters(node)))

    def place(self, definition: Definition) -> Place | None:
        """Above the definition and its attributes; None when other code stands on its line."""
        row = definition.span.start_line
        start = self.data.rfind(b"\n", 0, definition.span.start_byte) + 1
        if self.data[start : definition.span.start_byte].strip():
            return None
        head = self.lines[row]
        while row > 0 and self.is_attribute(self.lines[row - 1]):
            row -= 1
        return Place(row, 0, "", head[: len(head) - len(head.lstrip())], "\n")

    def is_attribute(self, line: str) -> bool:
        """Whether a line is an attribute or decorator of what stands below it."""
        text = line.strip()
        marks = self.spec.transparent
        return bool(marks) and text.startswith(marks) and not text.endswith((";", "{", "}", ","))

    def node(self, definition: Definition, is_function: bool) -> Node | None:
        """The node with the parameters of a function, or with the name of a type."""
        span = definition.span
        last = max(span.start_byte, span.end_byte - 1)
        around = self.root.named_descendant_for_byte_range(span.start_byte, last)
        for found in walk(around) if around is not None else ():
            if found.type == "template_declaration":
                continue
            if is_function and (
                found.child_by_field_name("parameters") or found.child_by_field_name("parameter")
            ):
                return found
            if not is_function and text_of(found.child_by_field_name("name")) == definition.name:
                return found
        return None

    def existing(self, row: int) -> tuple[Existing | None, bool]:
        """The documentation comment above a row, and whether any comment there says something."""
        top, bottom = comment_rows(self.rows, row, self.spec)
        if top == bottom:
            return None, False
        text = "\n".join(self.lines[top:bottom])
        begins = DOCUMENTING.get(self.language)
        body = text.lstrip()
        if DIRECTIVE.match(body):
            return None, False
        if begins is not None and not body.startswith(begins):
            return None, True
        indent = len(text) - len(body)
        end = len(self.lines[bottom - 1].rstrip())
        return Existing(top, indent, bottom - 1, end, text[indent:].rstrip()), True

    def is_public(self, node: Node, definition: Definition) -> bool:
        """Whether others see a definition, by the rules of its language."""
        around = [node, *parents(node)]
        head = flat(" ".join(self.lines[definition.span.start_line : definition.line + 1]))
        if self.language.startswith(("javascript", "typescript")):
            if any(p.type == "pair" for p in around) or re.search(r"\bprivate\b", head):
                return False
            return not self.exports or any(p.type == "export_statement" for p in around)
        if self.language in ("java", "csharp", "php"):
            return not re.search(r"\bprivate\b|@Override\b|\boverride\b", head)
        if self.language == "rust":
            return rust_public(around)
        if self.language == "go":
            if re.search(r"\bfunc (?:Test|Benchmark|Fuzz)\w*\(\w+ \*testing\.", head):
                return False
            return all(part[:1].isupper() for part in definition.qualified_name.split("."))
        return c_public(around, head) if self.language in ("c", "cpp") else True


def rust_public(around: Sequence[Node]) -> bool:
    """Whether an item is `pub`, and no part of a trait's implementation, which inherits its docs."""
    for node in around:
        if node.type == "impl_item" and node.child_by_field_name("trait") is not None:
            return False
        if node.type == "trait_item":
            return any(
                text_of(c) == "pub" for c in node.children if c.type == "visibility_modifier"
            )
    item = next((n for n in around if n.type.endswith("_item")), around[0])
    return any(text_of(c) == "pub" for c in item.children if c.type == "visibility_modifier")


def c_public(around: Sequence[Node], head: str) -> bool:
    """Whether a C or C++ name has linkage, is not in a private section, nor declared elsewhere."""
    if re.match(r"(?:template\s*<.*>\s*)?static\b", head) and not any(
        node.type == "field_declaration_list" for node in around
    ):
        return False
    declarator = around[0].child_by_field_name("declarator")
    if declarator is not None and declarator.type == "qualified_identifier":
        return False
    for node in around:
        if node.type == "namespace_definition" and node.child_by_field_name("name") is None:
            return False
        if node.parent is None or node.parent.type != "field_declaration_list":
            continue
        owner = node.parent.parent
        access = "private" if owner is not None and owner.type == "class_specifier" else "public"
        for sibling in node.parent.named_children:
            if sibling.start_byte >= node.start_byte:
                break
            if sibling.type == "access_specifier":
                access = text_of(sibling).strip(": ")
        if access == "private":
            return False
    return True

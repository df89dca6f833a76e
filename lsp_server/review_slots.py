"""Places of a text where the pen slips, and what may have been meant there.

A slot is a name, an operator, a bound or a pair of arguments, with everything that may have been meant in
its place: a variable that is set and never used, the operator's neighbours, one less, the arguments
in each other's place: a kind of its own, "order", where the file has them so elsewhere. Which of them fits best is for the model to say (`review_likelihood.py`).

The node kinds and fields of all grammars stand side by side in the tables below: a language that
calls its nodes as the others do needs nothing, another one a few rows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import tree_sitter

from qcoder.context.parse import parse

SlotKind = Literal["name", "operator", "bound", "arguments", "order"]

MAX_NAMES = 4
"""Variables tried in the place of one: those that were seen last before it."""

FUNCTIONS = frozenset(
    {
        "function_definition", "function_declaration", "method_definition", "method_declaration",
        "constructor_declaration", "function_item", "function_expression", "generator_function_declaration",
    }
)  # fmt: skip

COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
NAMES = frozenset({"identifier", "shorthand_property_identifier_pattern"})

DECLARED_IN = frozenset(
    {
        ("assignment", "left"), ("for_statement", "left"), ("for_in_clause", "left"),
        ("as_pattern", "alias"), ("named_expression", "name"), ("default_parameter", "name"),
        ("typed_default_parameter", "name"), ("variable_declarator", "name"), ("for_in_statement", "left"),
        ("required_parameter", "pattern"), ("optional_parameter", "pattern"),
        ("short_var_declaration", "left"), ("range_clause", "left"), ("parameter_declaration", "name"),
        ("parameter_declaration", "declarator"), ("var_spec", "name"), ("formal_parameter", "name"),
        ("let_declaration", "pattern"), ("parameter", "pattern"), ("for_expression", "pattern"),
        ("init_declarator", "declarator"), ("declaration", "declarator"),
    }
)  # fmt: skip
"""Parent kind and field under which a name is declared or set."""

AFTERWARDS = frozenset(
    {
        "assignment",
        "variable_declarator",
        "short_var_declaration",
        "init_declarator",
        "let_declaration",
    }
)
"""Declarations whose name cannot be meant before their end."""

PARAMETERS = frozenset({"parameters", "formal_parameters", "typed_parameter"})
"""Kinds whose children are declared whatever their field."""

PATTERNS = frozenset(
    {
        "pattern_list", "tuple_pattern", "list_pattern", "expression_list", "list_splat_pattern",
        "dictionary_splat_pattern", "as_pattern_target", "pointer_declarator", "array_declarator",
        "array_pattern", "object_pattern", "mut_pattern", "reference_pattern", "rest_pattern",
    }
)  # fmt: skip
"""Kinds between a declared name and what declares it."""

NO_USE = frozenset(
    {
        ("attribute", "attribute"), ("keyword_argument", "name"), ("call", "function"),
        ("call_expression", "function"), ("method_invocation", "name"), ("field_access", "field"),
        ("keyed_element", "key"), ("function_definition", "name"), ("class_definition", "name"),
    }
)  # fmt: skip
"""Where a name means no variable."""

NO_VARIABLES = frozenset({"self", "cls", "this", "super", "_", "__"})
"""Names that no slip of the pen mixes up with others."""

OPERATIONS = frozenset(
    {"comparison_operator", "boolean_operator", "binary_operator", "binary_expression"}
)
OPERATORS: dict[str, tuple[str, ...]] = {
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="),
    "==": ("!=",), "!=": ("==",), "===": ("!==",), "!==": ("===",),
    "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",),
    "and": ("or",), "or": ("and",), "&&": ("||",), "||": ("&&",), "+": ("-",), "-": ("+",),
}  # fmt: skip

ARGUMENTS = frozenset({"argument_list", "arguments"})
EXCHANGED = frozenset({"identifier", "attribute", "member_expression", "selector_expression"})
"""Arguments that are told apart by their place alone."""

BEFORE, AFTER = rb"(?<![\w\x80-\xff])", rb"(?![\w\x80-\xff])"
"""Where a name begins and ends; bytes beyond ASCII count as letters."""

INDEXED = frozenset({"subscript", "subscript_expression", "index_expression"})
OF_FIXED_ORDER = frozenset(
    {"isinstance", "issubclass", "getattr", "setattr", "hasattr", "zip", "min", "max"}
)
"""Calls whose arguments nobody exchanges, or everybody may."""

CONSTANT = re.compile(r"(?:^|\.)[A-Z][A-Z0-9_]+$")
"""A constant beside a variable is never taken for it."""

BOUNDED = frozenset({"range", "xrange"})
"""What is called with a bound behind the last number."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Bytes [start, end) of a text and what may stand there instead."""

    kind: SlotKind
    start: int
    end: int
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """The slots of a text in order, its comments with the blanks before them, and where its lines begin."""

    slots: tuple[Slot, ...] = ()
    comments: tuple[tuple[int, int], ...] = ()
    line_starts: tuple[int, ...] = (0,)

    def lines(self, slot: Slot) -> range:
        """The 0-based lines of a slot."""
        first = bisect_right(self.line_starts, slot.start) - 1
        return range(first, bisect_right(self.line_starts, slot.end - 1))


@dataclass(slots=True)
class _Scope:
    """The names of one function: where they are known from, each use, and how often with inner functions."""

    around: _Scope | None
    declared: dict[str, int] = field(default_factory=dict)
    uses: list[tuple[str, int, int]] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)


def places_of(text: str, language: str) -> Places:
    """Slots and comments of a text; none for a language without grammar."""
    tree = parse(text, language)
    if tree is None:
        return Places()
    data = text.encode("utf-8", "replace")
    found: list[Slot] = []
    comments: list[tuple[int, int]] = []
    scopes: list[_Scope] = []
    for node, name_of_field, scope in _nodes(tree, scopes):
        if node.type in COMMENTS:
            comments.append(_with_blanks(node, data))
        elif scope is None:
            continue
        elif node.type in NAMES:
            _note_name(node, name_of_field, scope, data)
        else:
            found += _slots_at(node, data)
    for one in scopes:
        found += _name_slots(one)
    starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    return Places(
        tuple(sorted(found, key=lambda slot: (slot.start, slot.end))),
        tuple(comments),
        tuple(starts),
    )


def _with_blanks(comment: tree_sitter.Node, data: bytes) -> tuple[int, int]:
    """A comment with the blanks before it; with its line where there is nothing else on it."""
    start, end = comment.start_byte, comment.end_byte
    while start and data[start - 1] in b" \t":
        start -= 1
    alone = start == 0 or data[start - 1] == 10
    while end > start and data[end - 1] == 10:  # some grammars count the line break in
        end -= 1
    return start, end + 1 if alone and data[end : end + 1] == b"\n" else end


def _nodes(
    tree: tree_sitter.Tree, scopes: list[_Scope]
) -> Iterator[tuple[tree_sitter.Node, str, _Scope | None]]:
    """All nodes with the field that they fill and the function that they are in; fills `scopes`."""
    cursor = tree.walk()
    around: list[_Scope | None] = [None]
    while True:
        node = cursor.node
        assert node is not None
        yield node, cursor.field_name or "", around[-1]
        inner = around[-1]
        if node.type in FUNCTIONS:
            inner = _Scope(inner)
            scopes.append(inner)
        if cursor.goto_first_child():
            around.append(inner)
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
            around.pop()


def _note_name(node: tree_sitter.Node, name_of_field: str, scope: _Scope, data: bytes) -> None:
    """A name is declared, set or used."""
    name = data[node.start_byte : node.end_byte].decode("utf-8", "replace")
    parent = node.parent
    if name in NO_VARIABLES or parent is None:
        return
    place = (parent.type, name_of_field)
    child = node
    while parent is not None and parent.type in PATTERNS:
        child, parent = parent, parent.parent
    if parent is not None and child is not node:
        place = (parent.type, _field_of(parent, child))
    if parent is not None and (place in DECLARED_IN or parent.type in PARAMETERS):
        known_from = parent.end_byte - 1 if parent.type in AFTERWARDS else node.start_byte
        scope.declared.setdefault(name, known_from)
        return
    if place not in NO_USE:
        scope.uses.append((name, node.start_byte, node.end_byte))
    user: _Scope | None = scope
    while user is not None:
        user.used[name] += 1
        user = user.around


def _field_of(parent: tree_sitter.Node, child: tree_sitter.Node) -> str:
    index = next((i for i, other in enumerate(parent.children) if other == child), 0)
    return parent.field_name_for_child(index) or ""


def _name_slots(scope: _Scope) -> Iterator[Slot]:
    """Each use of a variable that has others, with the variables before it that have none.

    A name in another's place leaves that other without a use: without such a trace a small model
    takes every rare name for a slip.
    """
    idle = [n for n in scope.declared if not scope.used[n] and not n.startswith("_")]
    idle.sort(key=lambda name: -scope.declared[name])
    for name, start, end in scope.uses if idle else ():
        if name in scope.declared and scope.used[name] > 1:
            others = [other for other in idle if scope.declared[other] < start]
            if others:
                yield Slot("name", start, end, tuple(others[:MAX_NAMES]))


def _slots_at(node: tree_sitter.Node, data: bytes) -> Iterator[Slot]:
    """The slots that are not names."""
    kind = node.type
    if kind in OPERATIONS:
        yield from _operator_slots(node, data)
    elif kind in ARGUMENTS:
        yield from _argument_slots(node, data)
    elif kind in INDEXED:
        yield from _index_slots(node, data)


def _text(node: tree_sitter.Node, data: bytes) -> str:
    return data[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _operator_slots(node: tree_sitter.Node, data: bytes) -> Iterator[Slot]:
    signs = [child for child in node.children if not child.is_named and child.type in OPERATORS]
    if len(signs) != 1:
        return
    sign = signs[0]
    yield Slot("operator", sign.start_byte, sign.end_byte, OPERATORS[sign.type])
    right = node.children[-1]
    if sign.type == "+" and _text(right, data) == "1" and _is_bound(node, data):
        yield Slot("bound", node.start_byte, node.end_byte, (_text(node.children[0], data),))


def _is_bound(node: tree_sitter.Node, data: bytes) -> bool:
    """Whether an expression says how far a range goes."""
    call = node.parent.parent if node.parent is not None else None
    function = call.child_by_field_name("function") if call is not None else None
    return function is not None and _text(function, data) in BOUNDED


def _argument_slots(node: tree_sitter.Node, data: bytes) -> Iterator[Slot]:
    function = node.parent.child_by_field_name("function") if node.parent is not None else None
    if function is not None and _text(function, data) in OF_FIXED_ORDER:
        return
    given = [child for child in node.named_children if child.type != "comment"]
    for first, second in pairwise(given):
        one, other = _text(first, data), _text(second, data)
        if first.type not in EXCHANGED or second.type not in EXCHANGED or one == other:
            continue
        if CONSTANT.search(one) or CONSTANT.search(other):
            continue
        if _times(data, one, other) > 1:
            continue  # a habit, or the order of parameters
        between = data[first.end_byte : second.start_byte].decode("utf-8", "replace")
        kind: SlotKind = "order" if _times(data, other, one) else "arguments"
        yield Slot(kind, first.start_byte, second.end_byte, (other + between + one,))


def _times(data: bytes, one: str, other: str) -> int:
    """How often two arguments follow each other in a text, told apart by their last names alone."""
    first, second = (re.escape(text.rpartition(".")[2]).encode() for text in (one, other))
    return len(re.findall(BEFORE + first + rb",\s*(?:[\w.\x80-\xff]+\.)?" + second + AFTER, data))


def _index_slots(node: tree_sitter.Node, data: bytes) -> Iterator[Slot]:
    """An index that is the length: one past the end."""
    for child in node.named_children[1:]:
        text = _text(child, data)
        if child.type in ("call", "call_expression") and text.startswith("len("):
            yield Slot("bound", child.start_byte, child.end_byte, (f"{text} - 1",))

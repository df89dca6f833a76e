"""Which function a Python call means: in its file, or in the workspace's files that it imports.

Names resolve through scopes, imports (relative and absolute, re-exports included), methods of
`self` along its base classes, and variables whose class is written down or plain to see. What is
decorated beyond recognition, rebound or ambiguous does not resolve: no answer is better than a
wrong one. Nothing is ever imported or run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcoder.lsp_server.python_tree import (
    BINDING,
    FUNCTIONS,
    Node,
    PythonFile,
    arguments,
    dotted,
    name_of,
    text_of,
)
from qcoder.lsp_server.review_modules import imported_file, known_names, parent_module

MAX_HOPS = 4
TYPES = frozenset({"class_definition"})


@dataclass(frozen=True, slots=True)
class Symbol:
    """A top-level or class-level definition with the file that it is in.

    `bound` says that the first parameter is filled already, as a method's is.
    """

    node: Node
    file: PythonFile
    bound: bool = False


def callees(call: Node, file: PythonFile) -> list[Symbol]:
    """Functions and classes that a call may mean; none when that is not known for sure."""
    function = call.child_by_field_name("function")
    if function is None or function.type not in ("identifier", "attribute"):
        return []
    last = function.child_by_field_name("attribute") or function
    if text_of(last) not in known_names(file):
        return []
    if function.type == "identifier":
        name = text_of(function)
        found = top_level(name, file)
        if not found or (name in file.imports and name in module_table(file)):
            return []
        hidden = is_in_class(name, call, file) or is_rebound(name, call, file)
        return [] if hidden else found
    owner = dotted(function.child_by_field_name("object"))
    name = text_of(function.child_by_field_name("attribute"))
    if not owner:
        return []
    kind = class_of(owner, call, file)
    if kind is not None:
        return method(kind, name)
    head = owner.split(".")[0]
    if head not in file.imports or is_rebound(head, call, file):
        return []
    target = imported_file(file.resolve(function.child_by_field_name("object")), file)
    return top_level(name, target) if target is not None else []


def top_level(name: str, file: PythonFile, hops: int = 0) -> list[Symbol]:
    """Definitions of a module's name; none when it is assigned as well."""
    table = module_table(file)
    found = table.get(name)
    if found is not None:
        return [Symbol(node, file) for node in found]
    target = file.imports.get(name)
    if target is None or hops >= MAX_HOPS:
        return []
    module, original = parent_module(target), target.rpartition(".")[2]
    other = imported_file(module, file) if module else None
    return top_level(original, other, hops + 1) if other is not None else []


def module_table(file: PythonFile) -> dict[str, list[Node]]:
    """Functions and classes of a module by name; an empty list for a name that is also assigned."""
    return _table(file.root, file, file.cache)


def _table(owner: Node, file: PythonFile, cache: dict[object, object]) -> dict[str, list[Node]]:
    key = ("definitions", owner.id)
    known = cache.get(key)
    if isinstance(known, dict):
        return known
    table: dict[str, list[Node]] = {}
    body = owner if owner.type == "module" else owner.child_by_field_name("body")
    spoiled = set()
    for child in body.named_children if body is not None else ():
        definition = child
        if child.type == "decorated_definition":
            definition = child.child_by_field_name("definition") or child
        if definition.type in ("function_definition", "class_definition"):
            table.setdefault(name_of(definition), []).append(definition)
        elif child.type == "expression_statement" and child.named_children:
            left = child.named_children[0].child_by_field_name("left")
            if left is not None and left.type == "identifier":
                spoiled.add(text_of(left))
        elif child.type in ("if_statement", "try_statement", "with_statement", "for_statement"):
            # What is defined on conditions may be any of its definitions: not followed.
            for kind in ("function_definition", "class_definition"):
                spoiled.update(name_of(n) for n in file.within(kind, child))
            spoiled.update(
                text_of(n.child_by_field_name("left")) for n in file.within("assignment", child)
            )
    for name in spoiled:
        table[name] = []
    cache[key] = table
    return table


def class_of(owner: str, place: Node, file: PythonFile) -> Symbol | None:
    """Class of what a dotted name holds at a place: `self`, an annotated or built variable."""
    head, _, rest = owner.partition(".")
    around = file.scopes_around(place, TYPES) if head == "self" else []
    if around:
        if not rest:
            return Symbol(around[-1], file)
        return attribute_class(around[-1], rest, file) if "." not in rest else None
    return None if rest else variable_class(head, place, file)


def attribute_class(around: Node, name: str, file: PythonFile) -> Symbol | None:
    """Class of `self.name` when every assignment of the class agrees on one constructor."""
    found = [built_class(node, file) for node in assignments(around, file).get(f"self.{name}", ())]
    first = found[0] if found else None
    same = first is not None and all(f is not None and f.node == first.node for f in found)
    return first if same else None


def assignments(around: Node, file: PythonFile) -> dict[str, list[Node]]:
    """Assignments inside a node by the dotted name that they are to."""
    key = ("assignments", around.id)
    known = file.cache.get(key)
    if isinstance(known, dict):
        return known
    found: dict[str, list[Node]] = {}
    for node in file.within("assignment", around):
        name = dotted(node.child_by_field_name("left"))
        if name:
            found.setdefault(name, []).append(node)
    file.cache[key] = found
    return found


def variable_class(name: str, place: Node, file: PythonFile) -> Symbol | None:
    """Class of a local variable that is assigned once, from a constructor or with a type."""
    around = file.scopes_around(place)
    if not around or around[-1].type != "function_definition":
        return None
    function = around[-1]
    bindings = bindings_of(function, file).get(name, [])
    if len(bindings) != 1:
        return None
    node = bindings[0].parent
    if node is None:
        return None
    if node.type == "assignment":
        return built_class(node, file)
    if node.type == "typed_parameter":
        return class_named(node.child_by_field_name("type"), file)
    return None


def built_class(assignment: Node, file: PythonFile) -> Symbol | None:
    """The class that `x = Class(...)` or `x: Class = ...` gives its variable."""
    value = assignment.child_by_field_name("right")
    if value is not None and value.type == "call":
        return class_named(value.child_by_field_name("function"), file)
    return class_named(assignment.child_by_field_name("type"), file)


def class_named(node: Node | None, file: PythonFile) -> Symbol | None:
    """The one class that an expression or annotation names."""
    if node is not None and node.type == "type" and node.named_children:
        node = node.named_children[0]
    name = dotted(node)
    if not name:
        return None
    owner, _, last = name.rpartition(".")
    if owner:
        target = imported_file(file.imports.get(owner, ""), file)
        found = top_level(last, target) if target is not None else []
    else:
        found = top_level(last, file)
    return found[0] if len(found) == 1 and found[0].node.type in TYPES else None


def method(kind: Symbol, name: str, hops: int = 0) -> list[Symbol]:
    """Definitions of a method, in the class or the first base that has one."""
    table = _table(kind.node, kind.file, kind.file.cache)
    if name in table:
        return [Symbol(n, kind.file, True) for n in table[name] if n.type == "function_definition"]
    for base in bases(kind.node):
        parent = class_named(base, kind.file)
        if parent is None or hops >= MAX_HOPS or parent.node == kind.node:
            return []
        found = method(parent, name, hops + 1)
        if found:
            return found
    return []


def bases(node: Node) -> list[Node]:
    """Positional base classes."""
    listed = node.child_by_field_name("superclasses")
    children = listed.named_children if listed is not None else []
    return [c for c in children if c.type not in ("keyword_argument", "comment")]


def is_in_class(name: str, place: Node, file: PythonFile) -> bool:
    """Whether a class around a place, decorators included, defines or assigns the name."""
    return any(
        name in _table(scope, file, file.cache) for scope in file.scopes_around(place, TYPES)
    )


def is_rebound(name: str, place: Node, file: PythonFile) -> bool:
    """Whether a function around a place has a parameter, variable or function of that name."""
    around = file.scopes_around(place, FUNCTIONS)
    return any(name in bindings_of(scope, file) for scope in around)


def bindings_of(function: Node, file: PythonFile) -> dict[str, list[Node]]:
    """Names that a function gives values, with every place where it does."""
    key = ("bindings", function.id)
    known = file.cache.get(key)
    if isinstance(known, dict):
        return known
    found: dict[str, list[Node]] = {}
    own_name = function.child_by_field_name("name")
    for node in file.within(BINDING, function):
        if node != own_name:
            found.setdefault(text_of(node), []).append(node)
    file.cache[key] = found
    return found


def given(call: Node) -> Iterator[Node]:
    """Arguments of a call without comments; a lone generator counts as one."""
    node = call.child_by_field_name("arguments")
    if node is not None and node.type == "generator_expression":
        yield node
        return
    yield from arguments(call)

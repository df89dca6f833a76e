"""Reading Python syntax trees: scopes, dotted names, imports. The review rules stand on this.

Everything here is a function of tree-sitter nodes; walks use cursors or explicit stacks, so the
nesting depth of a user's file is no limit.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import tree_sitter

from qcoder.context.languages import grammar
from qcoder.context.parse import parse

Node = tree_sitter.Node

FUNCTIONS = frozenset({"function_definition", "lambda"})
SCOPES = frozenset({"function_definition", "lambda", "class_definition"})

MAX_UNGUARDED = 150_000
MAX_BRACKETS = 15_000


LISTED = (
    "assignment", "augmented_assignment", "await", "boolean_operator", "break_statement", "call", "class_definition",
    "comparison_operator", "continue_statement", "delete_statement", "for_statement",
    "function_definition", "if_statement", "import_from_statement", "import_statement",
    "lambda", "raise_statement", "return_statement", "try_statement", "while_statement", "with_statement",
)  # fmt: skip
"""Node types that `PythonFile.nodes` has."""

BINDING = "binding"
BINDERS = (
    "parameters", "typed_parameter", "lambda_parameters", "as_pattern_target", "list_splat_pattern",
    "dictionary_splat_pattern", "pattern_list", "tuple_pattern", "list_pattern", "delete_statement",
    "global_statement", "nonlocal_statement", "function_definition name:", "class_definition name:",
    "default_parameter name:", "typed_default_parameter name:", "named_expression name:",
    "assignment left:", "augmented_assignment left:", "for_statement left:", "for_in_clause left:",
)  # fmt: skip
"""Where a name is given a value: a type of parent, and the field where others do not. Imports are
not among them: they resolve."""

LISTED_PATTERNS = (
    *(f"({kind}) @{kind}" for kind in LISTED),
    *(f"({parent} (identifier) @{BINDING})" for parent in BINDERS),
)


NOTHING: tuple[list[Node], list[int]] = ([], [])


@cache
def node_query(patterns: tuple[str, ...]) -> tree_sitter.Query | None:
    """All patterns as one query: the walk over the nodes costs more than what is looked for on it."""
    language = grammar("python")
    return tree_sitter.Query(language, "\n".join(patterns)) if language is not None else None


@dataclass(frozen=True)
class PythonFile:
    """A parsed Python file with what several rules need of it, computed once.

    `path` is where it lies and `root` its workspace, for what it imports from there.
    """

    text: str
    tree: tree_sitter.Tree
    path: Path | None = None
    root_path: Path | None = None
    cache: dict[object, object] = field(default_factory=dict, compare=False)
    """What rules have found out about nodes of this tree, under keys of their own."""

    @staticmethod
    def parse(text: str, path: Path | None = None, root: Path | None = None) -> PythonFile | None:
        """Parse a text; None when no tree comes out of it in time."""
        language = grammar("python")
        if language is None:
            return None
        # Only what is long or nested beyond reason can take the parser much time.
        odd = len(text) > MAX_UNGUARDED or text.count("(") + text.count("[") > MAX_BRACKETS
        if odd and parse(text, "python") is None:
            return None
        # Parsed once more from plain bytes: a tree that was read in chunks, as the guarded parse
        # does, reads its source again for every node's text, a thousand times slower than this.
        data = text.encode("utf-8", "surrogatepass")
        return PythonFile(text, tree_sitter.Parser(language).parse(data), path, root)

    @property
    def root(self) -> Node:
        """The module."""
        return self.tree.root_node

    @cached_property
    def nodes(self) -> dict[str, list[Node]]:
        """Nodes by type, in document order, for the types that rules ask for; names under `BINDING`."""
        return {kind: nodes for kind, (nodes, _) in self._listed.items()}

    @cached_property
    def _listed(self) -> dict[str, tuple[list[Node], list[int]]]:
        """Nodes by type with their first bytes, both in document order."""
        query = node_query(LISTED_PATTERNS)
        if query is None:
            return {}
        found = {}
        for kind, nodes in tree_sitter.QueryCursor(query).captures(self.root).items():
            starts = [node.start_byte for node in nodes]
            ranked = sorted(starts)
            if starts != ranked:  # rarely: sorting by a key takes as long as the query
                nodes = sorted(nodes, key=lambda node: node.start_byte)
            found[kind] = (nodes, ranked)
        return found

    @cached_property
    def lines(self) -> list[str]:
        """The text by lines."""
        return self.text.split("\n")

    @cached_property
    def data(self) -> bytes:
        """The text as the tree's offsets count it."""
        return self.text.encode("utf-8", "surrogatepass")

    def within(self, kind: str, node: Node) -> list[Node]:
        """Nodes of a listed type inside a node, itself included, in document order."""
        nodes, starts = self._listed.get(kind, NOTHING)
        return nodes[bisect_left(starts, node.start_byte) : bisect_left(starts, node.end_byte)]

    @cached_property
    def _scopes(self) -> tuple[list[int], list[tuple[int, str, Node]]]:
        """First bytes of all scopes, and beside them where they end, their types and themselves."""
        nodes = sorted(
            (node for kind in SCOPES for node in self.nodes.get(kind, ())),
            key=lambda node: node.start_byte,
        )
        return [n.start_byte for n in nodes], [(n.end_byte, n.type, n) for n in nodes]

    def scopes_around(self, node: Node, kinds: Collection[str] = SCOPES) -> list[Node]:
        """The scopes that a node lies in, innermost last; quicker than asking the tree for parents."""
        starts, scopes = self._scopes
        end, count = node.end_byte, bisect_left(starts, node.start_byte)
        return [one for last, kind, one in scopes[:count] if last >= end and kind in kinds]

    def named(self, name: str, node: Node) -> Iterator[Node]:
        """Identifiers of one name inside a node, attributes and keywords included, in document order."""
        word = re.compile(
            rb"(?<!\w)" + re.escape(name.encode("utf-8", "surrogatepass")) + rb"(?!\w)"
        )
        for found in word.finditer(self.data, node.start_byte, node.end_byte):
            leaf = node.descendant_for_byte_range(*found.span())
            if leaf is not None and leaf.type == "identifier" and leaf.byte_range == found.span():
                yield leaf

    @cached_property
    def calls_by_name(self) -> dict[str, list[Node]]:
        """Calls by the last name of what they call, in document order; calls of no name are left out."""
        calls: dict[str, list[Node]] = {}
        for call in self.nodes.get("call", []):
            function = call.child_by_field_name("function")
            if function is not None and function.type in ("identifier", "attribute"):
                last = function.child_by_field_name("attribute") or function
                calls.setdefault(text_of(last), []).append(call)
        return calls

    def calls_of(self, names: Collection[str]) -> list[Node]:
        """Calls whose last name is one of `names`, in document order."""
        by_name = self.calls_by_name
        found = [call for name in by_name.keys() & set(names) for call in by_name[name]]
        return sorted(found, key=lambda call: (call.start_byte, -call.end_byte))

    @cached_property
    def functions(self) -> list[Node]:
        """Every `def`, nested ones and methods included."""
        return self.nodes.get("function_definition", [])

    @cached_property
    def definitions(self) -> list[tuple[int, int, str]]:
        """First line, line behind the last, and dotted name of every function and class, in order."""
        nodes = sorted(
            (*self.functions, *self.nodes.get("class_definition", ())), key=lambda n: n.start_byte
        )
        found: list[tuple[int, int, str]] = []
        around: list[tuple[int, str]] = []
        for node in nodes:
            while around and around[-1][0] <= node.start_byte:
                around.pop()
            name = f"{around[-1][1]}.{name_of(node)}" if around else name_of(node)
            around.append((node.end_byte, name))
            parent = node.parent
            decorated = parent is not None and parent.type == "decorated_definition"
            first = (
                parent.start_point[0] if decorated and parent is not None else node.start_point[0]
            )
            found.append((first, node.end_point[0] + 1, name))
        return found

    def symbol_at(self, line: int) -> str:
        """Dotted name of the innermost definition around a 0-based line."""
        around = [name for first, end, name in self.definitions if first <= line < end]
        return around[-1] if around else ""

    @cached_property
    def imports(self) -> dict[str, str]:
        """What an imported name stands for: {"sleep": "time.sleep", "sp": "subprocess"}.

        A name that stands for different things in different functions is left out.
        """
        names: dict[str, str] = {}
        unclear: set[str] = set()
        for node in self.nodes.get("import_statement", []):
            for item in node.children_by_field_name("name"):
                target, alias = _import_item(item)
                name = alias or target.split(".")[0]
                names[name] = target if alias else name
        for node in self.nodes.get("import_from_statement", []):
            module = node.child_by_field_name("module_name")
            for item in node.children_by_field_name("name"):
                target, alias = _import_item(item)
                start = text_of(module)
                whole = start + target if start.endswith(".") else f"{start}.{target}"
                if names.setdefault(alias or target, whole) != whole:
                    unclear.add(alias or target)
        return {name: whole for name, whole in names.items() if name not in unclear}

    def resolve(self, node: Node | None) -> str:
        """Full dotted name of a name or attribute chain through the imports; "" for others.

        A name that is rebound in the function that uses it does not resolve.
        """
        name = dotted(node)
        head, dot, rest = name.partition(".")
        if head not in self.imports:
            return name
        return self.imports[head] + dot + rest

    def callee(self, call: Node) -> str:
        """Resolved dotted name of what a call calls; "" for anything but names."""
        key = ("callee", call.id)
        known = self.cache.get(key)
        if not isinstance(known, str):
            known = self.cache[key] = self.resolve(call.child_by_field_name("function"))
        return known


def _import_item(item: Node) -> tuple[str, str]:
    """Imported name and alias ("" without one)."""
    if item.type == "aliased_import":
        name, alias = item.child_by_field_name("name"), item.child_by_field_name("alias")
        return text_of(name), text_of(alias)
    return text_of(item), ""


def text_of(node: Node | None) -> str:
    """Source text of a node; "" for None."""
    if node is None or node.text is None:
        return ""
    return node.text.decode("utf-8", "replace")


def walk(node: Node, enter: Callable[[Node], bool] | None = None) -> Iterator[Node]:
    """A node and its named descendants in document order; `enter` says whose children count."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        if enter is None or enter(current):
            stack.extend(reversed(current.named_children))


def own_nodes(function: Node) -> Iterator[Node]:
    """Nodes of a function's body, not entering nested functions, lambdas and classes."""
    body = function.child_by_field_name("body")
    if body is None:
        return
    yield from walk(body, lambda n: n.type not in SCOPES)


def dotted(node: Node | None) -> str:
    """`a.b.c` of a chain of names; "" for anything else."""
    parts: list[str] = []
    while node is not None and node.type == "attribute":
        parts.append(text_of(node.child_by_field_name("attribute")))
        node = node.child_by_field_name("object")
    if node is None or node.type != "identifier":
        return ""
    return ".".join([text_of(node), *reversed(parts)])


def parents(node: Node) -> Iterator[Node]:
    """Enclosing nodes, innermost first."""
    parent = node.parent
    while parent is not None:
        yield parent
        parent = parent.parent


def enclosing(node: Node, types: frozenset[str]) -> Node | None:
    """The innermost enclosing node of the given types."""
    return next((p for p in parents(node) if p.type in types), None)


def is_async(function: Node) -> bool:
    """Whether a `def` is `async def`."""
    return any(child.type == "async" for child in function.children)


def name_of(node: Node) -> str:
    """Name of a function or class; "" for a lambda."""
    return text_of(node.child_by_field_name("name"))


def decorators(function: Node) -> list[str]:
    """Dotted names of a definition's decorators, arguments left out."""
    parent = function.parent
    if parent is None or parent.type != "decorated_definition":
        return []
    names = []
    for child in parent.named_children:
        if child.type == "decorator" and child.named_children:
            what = child.named_children[0]
            called = what.child_by_field_name("function") if what.type == "call" else what
            names.append(dotted(called))
    return names


def arguments(call: Node) -> list[Node]:
    """Positional and keyword arguments of a call."""
    node = call.child_by_field_name("arguments")
    return [] if node is None else [c for c in node.named_children if c.type != "comment"]


def keyword(call: Node, name: str) -> Node | None:
    """Value of a keyword argument."""
    for argument in arguments(call):
        named = argument.child_by_field_name("name")
        if argument.type == "keyword_argument" and text_of(named) == name:
            return argument.child_by_field_name("value")
    return None


def statement_of(node: Node) -> Node:
    """The statement that a node belongs to (itself when it is one)."""
    current = node
    while current.parent is not None and current.parent.type not in ("block", "module"):
        current = current.parent
    return current


def symbol_of(node: Node) -> str:
    """Dotted path of the functions and classes around a node."""
    names = [name_of(p) for p in parents(node) if p.type in SCOPES]
    return ".".join(reversed([n for n in names if n]))


def is_discarded(call: Node) -> bool:
    """Whether a call is a statement of its own, its result thrown away."""
    return call.parent is not None and call.parent.type == "expression_statement"

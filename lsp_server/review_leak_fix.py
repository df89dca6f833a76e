"""The fix of a leaked file: a `with` statement around what uses it, where that changes nothing else."""

from __future__ import annotations

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    parents,
    statement_of,
    text_of,
    walk,
)
from qcoder.lsp_server.review_openers import BORROWERS
from qcoder.lsp_server.review_rule import Replacement

NEW_NAME = "file"
SIMPLE = ("expression_statement", "return_statement")
DEFERRED = frozenset(
    {
        *SCOPES, "list_comprehension", "set_comprehension", "dictionary_comprehension",
        "generator_expression", "conditional_expression", "boolean_operator",
    }
)  # fmt: skip
"""What a call inside of is not made exactly once, when its statement runs."""

LATER = frozenset({*SCOPES, "generator_expression"})
"""What runs when its statement is over."""

LAZY = frozenset({"numpy.load"})
"""Of the calls that keep no argument those that read on through what they return."""


def with_local(call: Node, name: Node, function: Node, file: PythonFile) -> Replacement | None:
    """`with call as name:` around the statements of its block, up to the last one that uses `name`.

    None where the name is bound again or used outside of the block, where nothing uses it or something
    may use it later (a generator, `csv.reader`), and where indentation would change a string.
    """
    statement, known = statement_of(name), text_of(name)
    assignment = name.parent
    plain = assignment is not None and assignment.parent == statement
    if not plain or statement.parent is None or not is_alone(statement):
        return None
    behind = [s for s in statement.parent.named_children if s.start_byte >= statement.end_byte]
    users = [s for s in behind if named(s, known)]
    if not users:
        return None
    body = [s for s in behind if s.end_byte <= users[-1].end_byte]
    inside = sum(len(named(s, known)) for s in (statement, *body))
    everywhere = named(function, known)
    if len(everywhere) != inside or not all(
        is_over(use, file) for use in everywhere if use != name
    ):
        return None
    if any(is_string_of_lines(node) for s in body for node in walk(s)):
        return None
    text = between(file, statement.end_byte, users[-1].end_byte)
    first, *lines = text.split("\n")
    unit = step(function, file)
    indented = [unit + line if line.strip() else line for line in lines]
    header = f"with {text_of(call)} as {known}:{first}"
    return Replacement(statement, users[-1], "\n".join([header, *indented]))


def with_passing(call: Node, file: PythonFile) -> Replacement | None:
    """`with call as file:` around the one statement that uses a file in passing."""
    statement = statement_of(call)
    around = list(parents(call))
    scope = next((p for p in around if p.type in SCOPES), around[-1])
    nearer = around[: around.index(statement)] if statement in around else around
    if statement.type not in SIMPLE or not is_alone(statement):
        return None
    if any(p.type in DEFERRED for p in nearer) or named(scope, NEW_NAME):
        return None
    taker = called_with(call)
    if taker is not None and not is_eager(taker, file):
        return None
    # What is called before the file is opened would be called behind that.
    if any(n.type in ("call", "await") and n.end_byte <= call.start_byte for n in walk(statement)):
        return None
    if any(is_string_of_lines(node) for node in walk(statement)):
        return None
    before = between(file, statement.start_byte, call.start_byte)
    after = between(file, call.end_byte, statement.end_byte)
    unit = step(scope, file)
    lines = (indent_of(statement, file) + before + NEW_NAME + after).split("\n")
    body = "\n".join(unit + line for line in lines)
    return Replacement(statement, statement, f"with {text_of(call)} as {NEW_NAME}:\n{body}")


def is_alone(statement: Node) -> bool:
    """Whether a statement shares none of its lines with another one or with the head of its block."""
    block = statement.parent
    if block is None:
        return False
    header = block.parent if block.type == "block" else None
    if header is not None and header.start_point[0] == statement.start_point[0]:
        return False
    others = [s for s in block.named_children if s != statement and s.type != "comment"]
    return not any(
        s.start_point[0] <= statement.end_point[0] and statement.start_point[0] <= s.end_point[0]
        for s in others
    )


def named(node: Node, name: str) -> list[Node]:
    """Where a name occurs."""
    return [n for n in walk(node) if n.type == "identifier" and text_of(n) == name]


def is_over(use: Node, file: PythonFile) -> bool:
    """Whether a use of an open file is over when its statement is: nothing reads it later."""
    statement = statement_of(use)
    if any(p.type in LATER for p in parents(use) if p.start_byte >= statement.start_byte):
        return False
    parent = use.parent
    if parent is None:
        return False
    if parent.type == "attribute":
        call = parent.parent
        called = call is not None and call.type == "call"
        return called and parent.child_by_field_name("object") == use
    if parent.type in ("for_statement", "for_in_clause"):
        return parent.child_by_field_name("right") == use
    return is_eager(called_with(use), file)


def called_with(argument: Node) -> Node | None:
    """The call that a node is an argument of; None for other nodes."""
    around = argument.parent
    if around is not None and around.type == "keyword_argument":
        around = around.parent
    inside = around is not None and around.type == "argument_list"
    return around.parent if inside and around is not None else None


def is_eager(call: Node | None, file: PythonFile) -> bool:
    """Whether a call is done with its arguments when it returns, or nobody gets what it returns."""
    if call is None or call.type != "call":
        return False
    dropped = call.parent is not None and call.parent.type == "expression_statement"
    name = file.callee(call)
    return dropped or (name in BORROWERS and name not in LAZY)


def is_string_of_lines(node: Node) -> bool:
    """A string over several lines: indentation would become part of it."""
    return node.type == "string" and node.start_point[0] != node.end_point[0]


def between(file: PythonFile, start: int, end: int) -> str:
    """Text between two bytes."""
    return file.data[start:end].decode("utf-8", "replace")


def indent_of(node: Node, file: PythonFile) -> str:
    """What stands before a node in its line."""
    return between(file, node.start_byte - node.start_point[1], node.start_byte)


def step(scope: Node, file: PythonFile) -> str:
    """One step of indentation, as the body of a function has it; four spaces elsewhere."""
    body = scope.child_by_field_name("body")
    if body is None or body.start_point[0] == scope.start_point[0]:
        return "    "
    outer = indent_of(scope, file)
    inner = indent_of(body, file)
    return inner.removeprefix(outer) if inner.startswith(outer) and inner != outer else "    "

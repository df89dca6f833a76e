"""Rule `resource-leak`: files, sockets and processes that a function opens and drops.

The check follows one local name through the statements of its function. The name's state is
unborn, open, settled (closed, handed on, or not known for sure) or dead (the path has ended); a
leak is reported only where the state is open on every path that leads there. Whatever takes the
name along, an unknown call, an attribute, a closure, settles it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from qcoder.lsp_server.python_tree import (
    FUNCTIONS,
    SCOPES,
    Node,
    PythonFile,
    arguments,
    dotted,
    enclosing,
    keyword,
    name_of,
    own_nodes,
    parents,
    statement_of,
    text_of,
    walk,
)
from qcoder.lsp_server.review_leak_fix import with_local, with_passing
from qcoder.lsp_server.review_openers import (
    BORROWERS,
    BORROWING,
    FILE_METHODS,
    OPENERS,
    PATH_MODES,
    PLAIN_FILES,
    WRAPPERS,
)
from qcoder.lsp_server.review_rule import Hit

ARCHIVE = re.compile(r"^(zf|zip|tar|archive)|(zip|tar|archive)$", re.IGNORECASE)
"""Names of what opens its members, which it closes itself."""


class State(Enum):
    """What is known of the name at a point of the function."""

    UNBORN = "unborn"
    OPEN = "open"
    SETTLED = "settled"
    DEAD = "dead"


def check_resource_leak(file: PythonFile) -> Iterator[Hit]:
    """Resources of local names that are never closed, and files that are read in passing."""
    shadowed = any(name_of(f) == "open" and f.parent == file.root for f in file.functions)
    for call in file.nodes.get("call", []):
        opener = opener_of(call, file)
        if not opener or (opener == "open" and shadowed) or is_detached(call):
            continue
        parent = call.parent
        if parent is None:
            continue
        if opener in PLAIN_FILES and is_used_in_passing(call, file):
            message = f"the file is never closed; use `with {opener}(...) as file:`"
            yield Hit(call, message, with_passing(call, file))
        elif parent.type == "assignment" and parent.child_by_field_name("right") == call:
            yield from check_local(call, opener, parent, file)


def opener_of(call: Node, file: PythonFile) -> str:
    """Key of `OPENERS` that a call stands for, or ""."""
    name = file.callee(call)
    if name in OPENERS:
        return "" if name in WRAPPERS and is_of_open_file(call) else name
    function = call.child_by_field_name("function")
    if function is None or function.type != "attribute":
        return ""
    owner = function.child_by_field_name("object")
    if name.endswith("engine.connect"):
        return "sqlite3.connect"
    if text_of(function.child_by_field_name("attribute")) != "open":
        return ""
    archive = ARCHIVE.search(dotted(owner).rpartition(".")[2])
    moded = any(is_mode(a) for a in arguments(call))
    if moded and not archive and dotted(owner) not in file.imports:
        return "open"
    if not is_file_mode(arguments(call)):
        return ""
    path_like = dotted(owner).lower().endswith(("path", "file")) or (
        owner is not None and owner.type == "call" and file.callee(owner) == "pathlib.Path"
    )
    return "open" if path_like else ""


def is_of_open_file(call: Node) -> bool:
    """Whether an archive is read from an object that somebody else opens and closes."""
    if any(is_mode(a) and "r" not in text_of(a).strip("\"'mode= ")[:1] for a in arguments(call)):
        return False
    if keyword(call, "fileobj") is not None:
        return True
    first = arguments(call)[0] if arguments(call) else None
    if first is None or first.type == "call":
        return first is not None
    return (
        dotted(first).lower().endswith(("fp", "fileobj", "file", "stream", "io", "buffer", "obj"))
    )


def is_mode(argument: Node) -> bool:
    """Whether an argument is the mode of a file: `"rb"`, `mode="w"`."""
    if argument.type == "keyword_argument":
        return text_of(argument.child_by_field_name("name")) == "mode"
    mode = text_of(argument).strip("\"'")
    return argument.type == "string" and mode[:1] in tuple("rwax") and set(mode) <= PATH_MODES


def is_file_mode(given: list[Node]) -> bool:
    """Whether arguments look like those of `Path.open`: none, or a mode first."""
    if not given:
        return True
    first = text_of(given[0]).strip("\"'")
    return given[0].type == "string" and bool(first) and set(first) <= PATH_MODES


def is_detached(call: Node) -> bool:
    """A process that is meant to outlive its parent."""
    return any(keyword(call, name) is not None for name in ("start_new_session", "creationflags"))


def is_used_in_passing(call: Node, file: PythonFile) -> bool:
    """`open(p).read()` or `json.load(open(p))`: nothing is left that could close the file."""
    parent = call.parent
    if parent is not None and parent.type == "attribute" and parent.parent is not None:
        method = text_of(parent.child_by_field_name("attribute"))
        return parent.parent.type == "call" and method in FILE_METHODS
    if parent is not None and parent.type == "argument_list" and parent.parent is not None:
        return file.callee(parent.parent) in BORROWERS
    return False


def check_local(call: Node, opener: str, assignment: Node, file: PythonFile) -> Iterator[Hit]:
    """Follow `name = opener(...)` inside a function."""
    target = assignment.child_by_field_name("left")
    function = enclosing(call, SCOPES)
    if target is None or target.type != "identifier" or function is None:
        return
    if function.type != "function_definition" or is_declared_outside(text_of(target), function):
        return
    trace = Trace(text_of(target), statement_of(assignment), OPENERS[opener], file)
    body = function.child_by_field_name("body")
    end = trace.block(body, State.UNBORN) if body is not None else State.DEAD
    if end is State.OPEN:
        trace.leaks.append(None)
    if trace.leaks:
        fix = with_local(call, target, function, file) if opener in PLAIN_FILES else None
        yield Hit(call, leak_message(text_of(target), opener, trace.leaks[0]), fix)


def is_declared_outside(name: str, function: Node) -> bool:
    """`global name` or `nonlocal name`."""
    return any(
        node.type in ("global_statement", "nonlocal_statement")
        and name in (text_of(child) for child in node.named_children)
        for node in own_nodes(function)
    )


def leak_message(name: str, opener: str, place: Node | None) -> str:
    """The sentence for a leak at a statement, or at the end of the function or loop (None)."""
    if opener == "subprocess.Popen":
        advice = f"call `{name}.wait()` or use `with`"
    elif opener in ("aiohttp.ClientSession", "httpx.AsyncClient"):
        advice = "use `async with`"
    else:
        advice = f"use `with {opener}(...) as {name}:`"
    if place is None:
        verb = "waited for" if opener == "subprocess.Popen" else "closed"
        return f"`{name}` is never {verb}; {advice}"
    line = place.start_point[0] + 1
    what = "raised over" if place.type == "raise_statement" else "left"
    where = f"when the function is {what} at line {line}"
    return f"`{name}` is still open {where}; {advice}"


@dataclass
class Trace:
    """Follows one name; `leaks` collects the places where it is lost while open."""

    name: str
    birth: Node
    closers: frozenset[str]
    file: PythonFile
    leaks: list[Node | None] = field(default_factory=list)
    exits: list[list[State]] = field(default_factory=list)
    guarded: int = 0
    handled: int = 0

    def block(self, block: Node, state: State) -> State:
        """State after the statements of a block."""
        for statement in block.named_children:
            if state is State.DEAD:
                return state
            if statement.type != "comment":
                state = self.statement(statement, state)
        return state

    def statement(self, node: Node, state: State) -> State:
        """State after one statement."""
        if node == self.birth:
            return State.OPEN
        handler = {
            "if_statement": self.branches,
            "for_statement": self.loop,
            "while_statement": self.loop,
            "try_statement": self.attempt,
            "with_statement": self.context,
            "match_statement": self.opaque,
        }.get(node.type)
        if handler is not None:
            return handler(node, state)
        if self.settles([node]):
            state = State.SETTLED
        if node.type in ("return_statement", "raise_statement"):
            return self.leave(node, state)
        if node.type in ("break_statement", "continue_statement"):
            if self.exits and node.type == "break_statement":
                self.exits[-1].append(state)
            return State.DEAD
        return state

    def leave(self, node: Node, state: State) -> State:
        """`return` and `raise`: whoever leaves with the name open leaks it."""
        handled = node.type == "raise_statement" and self.handled
        if state is State.OPEN and not self.guarded and not handled:
            self.leaks.append(node)
        return State.DEAD

    def branches(self, node: Node, state: State) -> State:
        """`if`: a condition that asks about the name may know more than we do."""
        condition = node.child_by_field_name("condition")
        if condition is not None and self.settles([condition]):
            state = State.SETTLED
        asked = condition is not None and self.asks(condition)
        inside = State.SETTLED if asked and state is State.OPEN else state
        ends = [self.block(b, inside) for b in node.children_by_field_name("consequence")]
        complete = False
        for other in node.children_by_field_name("alternative"):
            complete = complete or other.type == "else_clause"
            body = other.child_by_field_name("body") or other.child_by_field_name("consequence")
            ends.append(self.block(body, state) if body is not None else state)
        return join([*ends, *([] if complete else [state])])

    def loop(self, node: Node, state: State) -> State:
        """Loops: the body may run any number of times; a name born inside must end inside."""
        header = [c for c in node.named_children if c.type not in ("block", "else_clause")]
        if self.settles(header):
            state = State.SETTLED
        body = node.child_by_field_name("body")
        if body is None:
            return state
        self.exits.append([])
        born_inside = state is State.UNBORN
        end = self.block(body, state)
        if born_inside and end is State.OPEN and not self.guarded:
            self.leaks.append(None)
            end = State.SETTLED
        endless = node.type == "while_statement" and text_of(
            node.child_by_field_name("condition")
        ) in ("True", "1")
        after = join([*self.exits.pop(), *([] if endless else [state, end])])
        other = node.child_by_field_name("alternative")
        if other is not None and self.settles([other]):
            return State.SETTLED
        return after

    def attempt(self, node: Node, state: State) -> State:
        """`try`: a `finally` that settles the name makes every way out of the body safe."""
        final = [c for c in node.named_children if c.type == "finally_clause"]
        safe = bool(final) and self.settles(final)
        handlers = [c for c in node.named_children if c.type.startswith("except")]
        cares = self.settles(handlers)
        self.guarded += safe
        self.handled += cares
        body = node.child_by_field_name("body")
        before = state
        end = self.block(body, state) if body is not None else state
        self.handled -= cares
        ends = []
        for clause in node.named_children:
            blocks = [c for c in clause.named_children if c.type == "block"]
            if clause.type.startswith("except") and blocks:
                # Whether the body had come as far as the opening is not known here.
                known = before if before in (end, State.UNBORN) else State.SETTLED
                ends.append(self.block(blocks[-1], known))
            elif clause.type == "else_clause" and blocks and end is not State.DEAD:
                end = self.block(blocks[-1], end)
        self.guarded -= safe
        after = join([end, *ends])
        return State.SETTLED if safe and after is not State.DEAD else after

    def context(self, node: Node, state: State) -> State:
        """`with`: taking the name along settles it."""
        header = [c for c in node.named_children if c.type == "with_clause"]
        body = node.child_by_field_name("body")
        if self.settles(header):
            state = State.SETTLED
        return self.block(body, state) if body is not None else state

    def opaque(self, node: Node, state: State) -> State:
        """Statements that are not followed: the name counts as settled when they use it."""
        return State.SETTLED if self.mentions(node) else state

    def mentions(self, node: Node) -> bool:
        """Whether the name occurs in a piece of code."""
        return any(n.type == "identifier" and text_of(n) == self.name for n in walk(node))

    def asks(self, condition: Node) -> bool:
        """Whether a condition tests the object itself (`if file`), not what it holds."""
        for node in walk(condition):
            if node.type == "identifier" and text_of(node) == self.name:
                parent = node.parent
                if parent is None or parent.type != "attribute":
                    return True
                if text_of(parent.child_by_field_name("attribute")) in ("closed", "returncode"):
                    return True
        return False

    def settles(self, nodes: Iterable[Node]) -> bool:
        """Whether the code closes the name or takes it out of our sight."""
        return any(
            n.type == "identifier" and text_of(n) == self.name and self.is_final_use(n)
            for node in nodes
            for n in walk(node)
        )

    def is_final_use(self, name: Node) -> bool:
        """Whether one use closes the name or hands it on."""
        parent = name.parent
        if parent is None:
            return False
        if parent.type == "keyword_argument" and parent.child_by_field_name("name") == name:
            return False
        if parent.type == "attribute" and parent.child_by_field_name("object") != name:
            return False
        if any(p.type in FUNCTIONS and is_inside(p, self.birth) for p in parents(name)):
            return True
        if parent.type == "attribute":
            return text_of(parent.child_by_field_name("attribute")) in self.closers
        if parent.type == "argument_list" and parent.parent is not None:
            return not self.is_borrowed(parent.parent)
        if parent.type in ("for_statement", "for_in_clause"):
            return parent.child_by_field_name("right") != name
        return parent.type not in ("comparison_operator", "not_operator", "interpolation")

    def is_borrowed(self, call: Node) -> bool:
        """Whether a call uses an argument and leaves it to its owner."""
        name = self.file.callee(call)
        if name in BORROWERS:
            return True
        last = text_of(call.child_by_field_name("function")).rpartition(".")[2]
        handed_on = any(p.type in ("return_statement", "yield") for p in parents(call))
        return not handed_on and BORROWING.match(last) is not None


def is_inside(scope: Node, birth: Node) -> bool:
    """Whether a function is nested in the one where the name is born."""
    return not (scope.start_byte <= birth.start_byte and birth.end_byte <= scope.end_byte)


def join(states: Iterable[State]) -> State:
    """What is known where paths meet: only what all living ones agree on that have opened it."""
    living = {s for s in states if s is not State.DEAD}
    if not living:
        return State.DEAD
    # Where it was never opened there is nothing to lose.
    if living == {State.OPEN, State.UNBORN}:
        return State.OPEN
    return living.pop() if len(living) == 1 else State.SETTLED

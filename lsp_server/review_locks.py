"""Rules about locks: released on every way out, never over an `await`, always the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    arguments,
    dotted,
    enclosing,
    is_async,
    is_discarded,
    keyword,
    name_of,
    own_nodes,
    parents,
    text_of,
    walk,
)
from qcoder.lsp_server.review_rule import Hit

THREAD_LOCKS = frozenset({"threading.Lock", "threading.RLock", "multiprocessing.Lock"})
LOCK_TYPES = THREAD_LOCKS | {"asyncio.Lock", "multiprocessing.RLock", "threading.Condition"}
LOCK_NAME = re.compile(r"(^|_)(r?lock|mutex)$", re.IGNORECASE)
SAFE = frozenset({"append", "appendleft", "add", "clear", "notify", "notify_all", "len"})
PROTOCOL_NAME = re.compile(r"acquire|(^|_)r?lock|enter|begin|hold|suspend|before", re.IGNORECASE)
"""Functions that are meant to come back with the lock held."""


def check_lock(file: PythonFile) -> Iterator[Hit]:
    """`lock.acquire()` without a `release` that every way out passes."""
    for call in file.nodes.get("call", []):
        function = call.child_by_field_name("function")
        if function is None or text_of(function.child_by_field_name("attribute")) != "acquire":
            continue
        lock = dotted(function.child_by_field_name("object"))
        scope = enclosing(call, SCOPES)
        if not lock or scope is None or scope.type != "function_definition":
            continue
        if not is_statement(call) or is_try(call) or not is_lock(lock, file):
            continue
        named = PROTOCOL_NAME.search(name_of(scope)) and not releases(lock, scope)
        if named and not any(n.type == "yield" for n in own_nodes(scope)):
            continue
        if not is_released_elsewhere(lock, scope, file):
            message = lock_message(lock, call, scope)
            if message:
                yield Hit(call, message)


def is_statement(call: Node) -> bool:
    """`lock.acquire()` or `await lock.acquire()` on a line of its own."""
    if call.parent is not None and call.parent.type == "await":
        call = call.parent
    return is_discarded(call)


def is_try(call: Node) -> bool:
    """An attempt that may fail: nobody knows whether the lock is held afterwards."""
    given = [text_of(a).replace(" ", "") for a in arguments(call)]
    return keyword(call, "timeout") is not None or any(a not in ("True",) for a in given)


def is_lock(lock: str, file: PythonFile) -> bool:
    """Whether a dotted name is a lock by its name or by what this file assigns to it."""
    return bool(LOCK_NAME.search(lock.split(".")[-1])) or lock_type(lock, file) in LOCK_TYPES


def lock_type(lock: str, file: PythonFile) -> str:
    """Constructor that this file assigns to a dotted name; "" when there is none."""
    for node in file.nodes.get("assignment", []):
        value = node.child_by_field_name("right")
        target = dotted(node.child_by_field_name("left"))
        if value is not None and value.type == "call" and target == lock:
            return file.callee(value)
    return ""


def releases(lock: str, root: Node) -> list[Node]:
    """Mentions of `lock.release` under a node, called or handed on."""
    return [n for n in walk(root) if n.type == "attribute" and dotted(n) == f"{lock}.release"]


def is_released_elsewhere(lock: str, scope: Node, file: PythonFile) -> bool:
    """Whether a function that does not acquire it releases it: holding it across is the design."""
    for release in releases(lock, file.root):
        inside = scope.start_byte <= release.start_byte < scope.end_byte
        if release.parent is None or release.parent.type != "call":
            return True
        owner = enclosing(release, SCOPES)
        if not inside and (owner is None or f"{lock}.acquire" not in text_of(owner)):
            return True
    return False


def lock_message(lock: str, call: Node, scope: Node) -> str:
    """What is wrong with how a function releases a lock; "" when nothing is."""
    found = releases(lock, scope)
    after = [n for n in found if n.start_byte > call.end_byte]
    if not after:
        return f"`{lock}` is acquired and never released; use `with {lock}:`"
    for release in after:
        for clause in parents(release):
            bare = clause.type == "except_clause" and text_of(clause).split(":")[0].strip() in (
                "except",
                "except BaseException",
            )
            if clause.type == "finally_clause" or bare:
                return ""
    between = [
        n
        for n in own_nodes(scope)
        if call.end_byte <= n.start_byte < after[0].start_byte
        and n.type in ("call", "return_statement", "raise_statement", "await", "subscript")
        and n.end_byte < after[0].start_byte
        and not is_safe(n)
    ]
    if not between:
        return ""
    line = between[0].start_point[0] + 1
    return (
        f"`{lock}` stays locked for ever when line {line} raises or returns; "
        f"use `with {lock}:` or release it in `finally`"
    )


def is_safe(node: Node) -> bool:
    """Whether a call puts something into a container, which does not fail."""
    if node.type != "call":
        return False
    return dotted(node.child_by_field_name("function")).rpartition(".")[2] in SAFE


def check_lock_over_await(file: PythonFile) -> Iterator[Hit]:
    """A thread lock that is held while a coroutine waits."""
    for block in file.nodes.get("with_statement", []):
        scope = enclosing(block, SCOPES)
        body = block.child_by_field_name("body")
        if scope is None or scope.type != "function_definition" or body is None:
            continue
        if not is_async(scope) or any(child.type == "async" for child in block.children):
            continue
        for item in (n for n in walk(block) if n.type == "with_item"):
            lock = dotted(item.child_by_field_name("value"))
            held = item.parent is not None and item.parent.parent == block
            if held and lock and lock_type(lock, file) in THREAD_LOCKS:
                waits = [n for n in walk(body, lambda n: n.type not in SCOPES) if n.type == "await"]
                if waits:
                    yield Hit(
                        item,
                        f"the thread lock `{lock}` is held over the `await` at line "
                        f"{waits[0].start_point[0] + 1}: another coroutine that wants it stops "
                        "the event loop for ever; use an asyncio.Lock",
                    )

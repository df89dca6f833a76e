"""Rule `guarded-attribute`: state that one lock guards everywhere but in one place.

Which lock guards an attribute of `self` is inferred from the class: every change under
`with self.lock:` is evidence. A change without the lock is reported when the evidence outweighs it.
Constructors are free, and so is a private method that is only ever called with the lock held.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from qcoder.lsp_server.python_tree import (
    Node,
    PythonFile,
    dotted,
    enclosing,
    name_of,
    parents,
    text_of,
)
from qcoder.lsp_server.review_rule import Hit

LOCKS = frozenset(
    {
        "threading.Lock", "threading.RLock", "threading.Condition", "multiprocessing.Lock",
        "multiprocessing.RLock", "asyncio.Lock", "asyncio.Condition", "anyio.Lock",
    }
)  # fmt: skip
LOCK_NAME = re.compile(r"(^|_)(r?lock|mutex)$", re.IGNORECASE)
MUTATORS = frozenset(
    {"append", "appendleft", "extend", "insert", "add", "update", "setdefault", "pop", "popleft"}
    | {"remove", "discard", "clear", "popitem"}
)
FREE = re.compile(
    r"^__(init|new|post_init|del|enter|exit|aenter|aexit|setstate|getstate|copy|deepcopy|reduce)"
    r"|lock|unsafe|fork|reset|clear|setup|init|close|shutdown|stop|teardown",
    re.IGNORECASE,
)
"""Methods that run before or after the object is shared, or say that the caller holds the lock."""

SAYS_SO = re.compile(
    r"(?:\"{3}|#)[^\n]*(?:\block|mutex|condition|\bheld\b|caller holds)", re.IGNORECASE
)
"""A docstring or comment of the method that speaks of the lock: its caller holds it."""

MIN_EVIDENCE = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One use of an attribute of `self`, in a method, under the locks held there."""

    attribute: str
    node: Node
    method: str
    locks: frozenset[str]
    writes: bool = True


def check_guarded(file: PythonFile) -> Iterator[Hit]:
    """Changes of guarded attributes that do not hold the lock."""
    for owner in file.nodes.get("class_definition", []):
        locks = locks_of(owner, file)
        if locks:
            yield from unguarded(owner, locks, file)


def locks_of(owner: Node, file: PythonFile) -> frozenset[str]:
    """Attributes of `self` that hold locks: by their constructor, or by name in a `with`."""
    found = set()
    for node in file.within("assignment", owner):
        value = node.child_by_field_name("right")
        target = dotted(node.child_by_field_name("left"))
        made = value is not None and value.type == "call" and file.callee(value) in LOCKS
        if made and is_own(target):
            found.add(target.removeprefix("self."))
    for block in file.within("with_statement", owner):
        for name in held_by(block):
            if LOCK_NAME.search(name):
                found.add(name)
    return frozenset(found)


def held_by(block: Node) -> Iterator[str]:
    """Attributes of `self` that a `with` statement takes."""
    for clause in block.named_children:
        for item in clause.named_children if clause.type == "with_clause" else ():
            name = dotted(item.child_by_field_name("value"))
            if name.startswith("self."):
                yield name.removeprefix("self.")


def unguarded(owner: Node, locks: frozenset[str], file: PythonFile) -> Iterator[Hit]:
    """Changes of one class that lack the lock which the others hold."""
    held = held_on_entry(owner, locks, file)
    by_attribute: dict[str, list[Change]] = defaultdict(list)
    for change in changes_of(owner, locks, file):
        by_attribute[change.attribute].append(change)
    for read in reads_of(owner, locks, file):
        if read.attribute in by_attribute:
            by_attribute[read.attribute].append(read)
    for attribute, changes in by_attribute.items():
        if attribute in locks:
            continue
        for lock in sorted(locks):
            safe = [c for c in changes if lock in c.locks | held.get(c.method, frozenset())]
            bare = [
                c for c in changes
                if not c.locks and not held.get(c.method) and not FREE.search(c.method)
            ]  # fmt: skip
            methods = {c.method for c in safe}
            enough = len(safe) >= MIN_EVIDENCE and len(methods) >= MIN_EVIDENCE
            if not enough or len(bare) * 2 > len(safe) or not any(c.writes for c in safe):
                continue
            for change in bare:
                if change.writes:
                    yield Hit(
                        change.node,
                        f"`self.{attribute}` is changed without `self.{lock}`, which is held at "
                        f"{len(safe)} other places that use it; take the lock here too",
                    )
            break


def changes_of(owner: Node, locks: frozenset[str], file: PythonFile) -> Iterator[Change]:
    """Every change of an attribute of `self` in the class's own methods."""
    for node in [
        *file.within("assignment", owner),
        *file.within("augmented_assignment", owner),
        *file.within("delete_statement", owner),
        *file.within("call", owner),
    ]:
        attribute = changed_attribute(node)
        if not attribute:
            continue
        function = enclosing(node, frozenset({"function_definition", "lambda"}))
        if function is None or enclosing(function, frozenset({"class_definition"})) != owner:
            continue
        if acquires(function, locks) or SAYS_SO.search(text_of(function)):
            continue
        yield Change(attribute, node, name_of(function), locks_around(node, function, locks))


def reads_of(owner: Node, locks: frozenset[str], file: PythonFile) -> Iterator[Change]:
    """Every mention of an attribute of `self` that changes nothing."""
    for name in file.named("self", owner):
        node = name.parent
        if node is None or node.type != "attribute":
            continue
        function = enclosing(node, frozenset({"function_definition", "lambda"}))
        around = node.parent
        if function is None or around is None or name_of(function) == "__init__":
            continue
        if any(changed_attribute(n) for n in (around, around.parent) if n is not None):
            continue
        attribute = text_of(node.child_by_field_name("attribute"))
        held = locks_around(node, function, locks)
        yield Change(attribute, node, name_of(function), held, False)


def changed_attribute(node: Node) -> str:
    """Name of the attribute of `self` that a node changes, "" for none."""
    if node.type == "call":
        owner, _, verb = dotted(node.child_by_field_name("function")).rpartition(".")
        return owner.removeprefix("self.") if is_own(owner) and verb in MUTATORS else ""
    if node.type == "delete_statement":
        target = node.named_children[0] if node.named_children else None
    else:
        target = node.child_by_field_name("left")
    while target is not None and target.type == "subscript":
        target = target.child_by_field_name("value")
    name = dotted(target)
    return name.removeprefix("self.") if is_own(name) else ""


def is_own(name: str) -> bool:
    """Whether a dotted name is `self.x`."""
    return name.startswith("self.") and name.count(".") == 1


def acquires(function: Node, locks: frozenset[str]) -> bool:
    """Whether a function takes a lock by hand: what it holds where is not known then."""
    text = text_of(function)
    return any(f"self.{lock}.acquire" in text for lock in locks)


def locks_around(node: Node, function: Node, locks: frozenset[str]) -> frozenset[str]:
    """Locks that `with` statements hold at a node, up to its function."""
    held: set[str] = set()
    for parent in parents(node):
        if parent == function:
            break
        if parent.type == "with_statement":
            held.update(locks.intersection(held_by(parent)))
            if any(
                "lock" in text_of(c).lower() for c in parent.children if c.type == "with_clause"
            ):
                held.add("")
    return frozenset(held)


def held_on_entry(
    owner: Node, locks: frozenset[str], file: PythonFile
) -> dict[str, frozenset[str]]:
    """Locks that every call of a private method within the class holds."""
    calls: dict[str, list[frozenset[str]]] = defaultdict(list)
    callers: dict[str, set[str]] = defaultdict(set)
    for call in file.within("call", owner):
        name = dotted(call.child_by_field_name("function"))
        function = enclosing(call, frozenset({"function_definition"}))
        if is_own(name) and function is not None:
            own = name.removeprefix("self.")
            calls[own].append(locks_around(call, function, locks))
            callers[own].add(name_of(function))
    held = {
        name: frozenset.intersection(*found)
        for name, found in calls.items()
        if name.startswith("_") and all(found)
    }
    # One more step: private methods that only such methods, or constructors, call.
    for name, names in callers.items():
        free = all(n in held or FREE.search(n) for n in names)
        if name not in held and name.startswith("_") and free:
            held[name] = frozenset({""})
    return held

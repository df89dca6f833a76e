"""Leaks and concurrency bugs to inject into Python code: one operator a class of bugs.

Owns what is changed and where; `draw.py` chooses files, samples and counts. An operator
yields the line of the bug and the whole new text. What it makes always parses, and what it changes
was, as far as the operator can see, right before.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator

from injection.source import Bug, Function, Operator, Source

LOCK = re.compile(r"(^|_)(r?lock|mutex|cond|condition)$", re.IGNORECASE)
FILES = {"open", "NamedTemporaryFile", "TemporaryFile", "ZipFile", "fdopen", "urlopen"}
RESOURCES = FILES | {"socket", "create_connection", "Popen", "connect"}
POOLS = {"ThreadPoolExecutor", "ProcessPoolExecutor", "Pool", "ClientSession", "AsyncClient"}
POOLS |= {"TemporaryDirectory", "socket", "create_connection", "Popen"}
WORKERS = {"Thread", "Process"}
TASKS = {"create_task", "ensure_future"}
LOOPS = {"asyncio", "loop", "event_loop", "get_running_loop", "get_event_loop"}
SLEEPS = {"asyncio.sleep", "anyio.sleep", "trio.sleep"}
BLOCKING = (
    ("time", "time.sleep(0.1)"),
    ("subprocess", 'subprocess.run(["sync"], check=True)'),
    ("requests", 'requests.get("http://localhost/health")'),
    ("urllib.request", 'urllib.request.urlopen("http://localhost/health")'),
    ("socket", 'socket.create_connection(("localhost", 80)).close()'),
)


def last_name(node: ast.AST) -> str:
    """`open` of `io.open`; "" for anything without a name."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def single_with(source: Source, kinds: type | tuple[type, ...]) -> Iterator[ast.With]:
    """`with` statements in functions with one item."""
    for node in ast.walk(source.tree):
        if isinstance(node, kinds) and source.function(node) is not None:
            block: ast.With = node  # type: ignore[assignment]
            if len(block.items) == 1:
                yield block


def with_to_assignment(names: set[str], source: Source) -> Iterator[Bug]:
    """`with opener(...) as x:` becomes `x = opener(...)`."""
    for block in single_with(source, (ast.With, ast.AsyncWith)):
        item = block.items[0]
        target = item.optional_vars
        if not isinstance(item.context_expr, ast.Call) or not isinstance(target, ast.Name):
            continue
        # `communicate` and `wait` end a process as well as `with` does.
        ended = re.search(rf"\b{target.id}\.(communicate|wait|close)\b", ast.unparse(block))
        if last_name(item.context_expr) in names and not ended:
            call = ast.get_source_segment(source.text, item.context_expr) or ""
            text = source.unwrapped(block, f"{target.id} = {' '.join(call.split())}")
            if text is not None:
                yield Bug(block.lineno, text)


def with_open_removed(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A file that is no longer closed."""
    yield from with_to_assignment(FILES, source)


def with_pool_removed(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A pool, session, socket or process that is no longer closed."""
    yield from with_to_assignment(POOLS - FILES, source)


def locals_from(function: Function, names: set[str]) -> set[str]:
    """Local names that a function assigns from calls of the given names."""
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
        and last_name(node.value) in names
        # Threads that are marked so are meant to be left behind.
        and not any(k.arg == "daemon" for k in node.value.keywords)
    }


def statement_calls(source: Source, method: str) -> Iterator[tuple[ast.Expr, ast.Attribute]]:
    """Statements `x.method(...)`, awaited or not, that occur once in their function."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Expr):
            continue
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            function = source.function(node)
            if call.func.attr == method and function is not None:
                same = ast.unparse(call.func)
                found = [
                    n for n in ast.walk(function)
                    if isinstance(n, ast.Attribute) and ast.unparse(n) == same
                ]  # fmt: skip
                if len(found) == 1:
                    yield node, call.func


def deleted(source: Source, method: str, makers: set[str]) -> Iterator[Bug]:
    """The one `x.method()` of a local resource is gone."""
    for statement, attribute in statement_calls(source, method):
        function = source.function(statement)
        owner = attribute.value
        if function is None or not isinstance(owner, ast.Name):
            continue
        if owner.id in locals_from(function, makers):
            yield Bug(statement.lineno, source.replaced(statement, "pass"))


def close_deleted(source: Source, rng: random.Random) -> Iterator[Bug]:
    """`x.close()` is forgotten."""
    yield from deleted(source, "close", RESOURCES)


def wait_deleted(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A child process that nobody waits for."""
    for method in ("wait", "communicate"):
        yield from deleted(source, method, {"Popen"})


def join_deleted(source: Source, rng: random.Random) -> Iterator[Bug]:
    """Threads and processes that nobody waits for, single ones and lists of them."""
    yield from deleted(source, "join", WORKERS)
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.For) or len(node.body) != 1:
            continue
        only = node.body[0]
        if isinstance(only, ast.Expr) and last_name(only.value) == "join":
            function = source.function(node)
            names = (
                {last_name(n) for n in ast.walk(function) if isinstance(n, ast.Call)}
                if function
                else set()
            )
            if names & WORKERS:
                yield Bug(node.lineno, source.replaced(node, "pass"))


def release_deleted(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A lock that stays locked."""
    for statement, attribute in statement_calls(source, "release"):
        if LOCK.search(last_name(attribute.value)):
            function = source.function(statement)
            acquire = ast.unparse(attribute.value) + ".acquire"
            if function is not None and acquire in ast.unparse(function):
                yield Bug(statement.lineno, source.replaced(statement, "pass"))


def lock_blocks(source: Source) -> Iterator[ast.With]:
    """`with lock:` in functions."""
    for block in single_with(source, ast.With):
        expression = block.items[0].context_expr
        if isinstance(expression, ast.Name | ast.Attribute) and LOCK.search(last_name(expression)):
            yield block


def lock_only_acquired(source: Source, rng: random.Random) -> Iterator[Bug]:
    """`with lock:` becomes `lock.acquire()` without a release."""
    for block in lock_blocks(source):
        name = ast.unparse(block.items[0].context_expr)
        text = source.unwrapped(block, f"{name}.acquire()")
        if text is not None:
            yield Bug(block.lineno, text)


def lock_removed(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A change of `self.x` that was made under a lock is made without it."""
    for block in lock_blocks(source):
        writes = [
            n for n in ast.walk(block)
            if isinstance(n, ast.Attribute | ast.Subscript) and isinstance(n.ctx, ast.Store | ast.Del)
            and ast.unparse(n).startswith("self.")
        ]  # fmt: skip
        text = source.unwrapped(block, "") if writes else None
        if text is not None:
            yield Bug(block.lineno, text)


def async_with_made_plain(source: Source, rng: random.Random) -> Iterator[Bug]:
    """`async with` loses its `async`."""
    for block in single_with(source, ast.AsyncWith):
        line = source.lines[block.lineno - 1]
        if line.lstrip().startswith("async with"):
            lines = [*source.lines]
            lines[block.lineno - 1] = line.replace("async with", "with", 1)
            yield Bug(block.lineno, "\n".join(lines))


def awaits(source: Source, local: bool) -> Iterator[Bug]:
    """`await f()` loses its `await`, where `f` is (or is not) a coroutine function of the file."""
    names = {n.name for n in ast.walk(source.tree) if isinstance(n, ast.AsyncFunctionDef)}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Await) or not isinstance(node.value, ast.Call):
            continue
        # A returned coroutine is still awaited, by the caller.
        if isinstance(source.parent.get(node), ast.Return | ast.Await | ast.Call):
            continue
        function, callee = source.function(node), node.value.func
        own = isinstance(callee, ast.Name) or ast.unparse(callee) == f"self.{last_name(callee)}"
        if function is not None and (own and last_name(callee) in names) == local:
            call = ast.get_source_segment(source.text, node.value) or ""
            yield Bug(node.lineno, source.replaced(node, call))


def await_removed_local(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A coroutine of the same file is not awaited."""
    yield from awaits(source, True)


def await_removed_foreign(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A coroutine of another module is not awaited."""
    yield from awaits(source, False)


def sleep_in_async(source: Source, rng: random.Random) -> Iterator[Bug]:
    """`await asyncio.sleep(x)` becomes `time.sleep(x)`."""
    taken = re.search(r"import [^\n]*\btime\b", source.text)
    if taken and "import time\n" not in source.text:
        return
    for node in ast.walk(source.tree):
        call = node.value if isinstance(node, ast.Await) else None
        if not isinstance(call, ast.Call) or not isinstance(node, ast.Await):
            continue
        given = ", ".join(ast.unparse(a) for a in call.args[:1]) or "1"
        if ast.unparse(call.func) in SLEEPS and given != "0":
            text = source.with_import("time", source.replaced(node, f"time.sleep({given})"))
            if text is not None:
                yield Bug(node.lineno + 1, text)


def blocking_inserted(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A blocking call at the beginning of a coroutine function."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.AsyncFunctionDef):
            continue
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        if first.lineno == node.lineno or isinstance(first, Function | ast.ClassDef):
            continue
        module, call = rng.choice(BLOCKING)
        lines = source.lines
        at = first.lineno - 1
        text = "\n".join([*lines[:at], " " * first.col_offset + call, *lines[at:]])
        imported = source.with_import(module, text)
        if imported is not None:
            yield Bug(first.lineno + 1, imported)


def task_dropped(source: Source, rng: random.Random) -> Iterator[Bug]:
    """The only reference to a task is thrown away."""
    for node in ast.walk(source.tree):
        value = node.value if isinstance(node, ast.Assign) else None
        if isinstance(node, ast.Expr) and last_name(node.value) in ("append", "add"):
            given = node.value.args if isinstance(node.value, ast.Call) else []
            value = given[0] if given else None
        if not isinstance(value, ast.Call) or last_name(value) not in TASKS:
            continue
        # Task groups and nurseries keep their tasks.
        owner = value.func.value if isinstance(value.func, ast.Attribute) else None
        loop = owner is None or last_name(owner).strip("_") in LOOPS
        if loop and isinstance(node, ast.stmt) and source.function(node) is not None:
            call = ast.get_source_segment(source.text, value) or ""
            yield Bug(node.lineno, source.replaced(node, call))


LEAKS_AND_CONCURRENCY: dict[str, Operator] = {
    "with-open-removed": with_open_removed,
    "with-pool-removed": with_pool_removed,
    "close-deleted": close_deleted,
    "wait-deleted": wait_deleted,
    "lock-only-acquired": lock_only_acquired,
    "release-deleted": release_deleted,
    "lock-removed": lock_removed,
    "await-removed-local": await_removed_local,
    "await-removed-foreign": await_removed_foreign,
    "async-with-made-plain": async_with_made_plain,
    "sleep-in-async": sleep_in_async,
    "blocking-inserted": blocking_inserted,
    "join-deleted": join_deleted,
    "task-dropped": task_dropped,
}

"""Rules about coroutines, tasks and locks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    FUNCTIONS,
    SCOPES,
    Node,
    PythonFile,
    arguments,
    decorators,
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
from qcoder.lsp_server.review_rule import Hit, Rule

BLOCKING = {
    "time.sleep": "await asyncio.sleep(...)",
    "subprocess.run": "await asyncio.create_subprocess_exec(...)",
    "subprocess.call": "await asyncio.create_subprocess_exec(...)",
    "subprocess.check_call": "await asyncio.create_subprocess_exec(...)",
    "subprocess.check_output": "await asyncio.create_subprocess_exec(...)",
    "os.system": "await asyncio.create_subprocess_shell(...)",
    "urllib.request.urlopen": "await asyncio.to_thread(...)",
    "socket.create_connection": "await asyncio.open_connection(...)",
    **{
        f"requests.{verb}": "an asynchronous client or await asyncio.to_thread(...)"
        for verb in ("get", "post", "put", "patch", "delete", "head", "options", "request")
    },
}
"""Calls that stop the event loop, and what to use instead."""

TASK_MAKERS = frozenset({"asyncio.create_task", "asyncio.ensure_future"})
LOOP_GETTERS = frozenset(
    {"asyncio.get_running_loop", "asyncio.get_event_loop", "asyncio.new_event_loop"}
)
PLAIN_DECORATORS = frozenset(
    {"staticmethod", "classmethod", "override", "abstractmethod", "typing.override"}
    | {"abc.abstractmethod"}
)
THREAD_LOCKS = frozenset({"threading.Lock", "threading.RLock", "multiprocessing.Lock"})
LOCK_TYPES = THREAD_LOCKS | {"asyncio.Lock", "multiprocessing.RLock"}
LOCK_NAME = re.compile(r"(^|_)(r?lock|mutex)$", re.IGNORECASE)
PROTOCOL_NAME = re.compile(r"acquire|lock|enter|begin|start|open", re.IGNORECASE)


def check_unawaited(file: PythonFile) -> Iterator[Hit]:
    """Coroutines of this file that are called as statements and never awaited."""
    for call in file.nodes.get("call", []):
        if not is_discarded(call):
            continue
        target = called_definition(call, file)
        if target and all(is_plain_coroutine(f) for f in target):
            name = text_of(call.child_by_field_name("function"))
            yield Hit(call, f"`{name}` is a coroutine: without `await` this call does nothing")


def called_definition(call: Node, file: PythonFile) -> list[Node]:
    """Definitions in this file that a call may mean: a module's function, or one's own method."""
    function = call.child_by_field_name("function")
    if function is None:
        return []
    if function.type == "identifier":
        name = text_of(function)
        if is_rebound(name, call):
            return []
        return [f for f in file.functions if name_of(f) == name and owner_of(f) == file.root]
    owner, _, name = dotted(function).rpartition(".")
    around = enclosing(call, frozenset({"class_definition"}))
    if owner not in ("self", "cls") or around is None:
        return []
    return [f for f in file.functions if name_of(f) == name and owner_of(f) == around]


def owner_of(function: Node) -> Node | None:
    """The class that a method is written in, the module of a function; None for nested ones."""
    parent = function.parent
    if parent is not None and parent.type == "decorated_definition":
        parent = parent.parent
    if parent is not None and parent.type == "block":
        parent = parent.parent
    return parent if parent is not None and parent.type in ("module", "class_definition") else None


def is_rebound(name: str, call: Node) -> bool:
    """Whether a function around the call has a parameter, variable or function of that name."""
    for scope in parents(call):
        if scope.type not in FUNCTIONS:
            continue
        parameters = scope.child_by_field_name("parameters")
        for node in [*(walk(parameters) if parameters else ()), *own_nodes(scope)]:
            if node.type == "identifier" and text_of(node) == name and is_binding(node):
                return True
    return False


def is_binding(name: Node) -> bool:
    """Whether an identifier is given a value here."""
    parent = name.parent
    if parent is None:
        return False
    if parent.type in ("parameters", "typed_parameter", "lambda_parameters", "as_pattern_target"):
        return True
    if parent.type in ("pattern_list", "tuple_pattern", "list_pattern"):
        return True
    field = "name" if parent.type in SCOPES or "default_parameter" in parent.type else "left"
    return parent.child_by_field_name(field) == name


def is_plain_coroutine(function: Node) -> bool:
    """`async def` without `yield` and without a decorator that may change what it returns."""
    return (
        is_async(function)
        and all(name in PLAIN_DECORATORS for name in decorators(function))
        and not any(node.type == "yield" for node in own_nodes(function))
    )


def check_blocking(file: PythonFile) -> Iterator[Hit]:
    """Blocking calls directly inside `async def`."""
    for call in file.nodes.get("call", []):
        name = file.callee(call)
        if name not in BLOCKING or "." not in name:
            continue
        head = text_of(call.child_by_field_name("function")).split(".")[0]
        scope = enclosing(call, SCOPES)
        if head not in file.imports or scope is None or is_rebound(head, call):
            continue
        zero = name == "time.sleep" and [text_of(a) for a in arguments(call)] == ["0"]
        if scope.type == "function_definition" and is_async(scope) and not zero:
            yield Hit(call, f"`{name}` stops the whole event loop; use `{BLOCKING[name]}`")


def check_task_discarded(file: PythonFile) -> Iterator[Hit]:
    """Tasks whose only reference is thrown away."""
    for call in file.nodes.get("call", []):
        if is_discarded(call) and makes_task(call, file):
            yield Hit(
                call,
                "the event loop keeps only a weak reference to this task: it may vanish before "
                "it is done, and its exception is lost; keep the result or use a TaskGroup",
            )


def makes_task(call: Node, file: PythonFile) -> bool:
    """Whether a call creates a task on a loop (task groups keep theirs)."""
    if file.callee(call) in TASK_MAKERS:
        return True
    function = call.child_by_field_name("function")
    if function is None or text_of(function.child_by_field_name("attribute")) != "create_task":
        return False
    owner = function.child_by_field_name("object")
    if owner is not None and owner.type == "call":
        return file.callee(owner) in LOOP_GETTERS
    return dotted(owner).split(".")[-1].lstrip("_") in ("loop", "event_loop")


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
        if PROTOCOL_NAME.search(name_of(scope)) or not is_statement(call) or is_try(call):
            continue
        if is_lock(lock, file) and not is_released_elsewhere(lock, scope, file):
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
    """Whether another function releases it: then holding it across functions is the design."""
    inside = {n.start_byte for n in releases(lock, scope)}
    return any(n.start_byte not in inside for n in releases(lock, file.root)) or any(
        n.parent is not None and n.parent.type != "call" for n in releases(lock, scope)
    )


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
    ]
    if not between:
        return ""
    line = between[0].start_point[0] + 1
    return (
        f"`{lock}` stays locked for ever when line {line} raises or returns; "
        f"use `with {lock}:` or release it in `finally`"
    )


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


RULES = (
    Rule(
        name="unawaited-coroutine",
        severity="error",
        summary="a coroutine is called without await",
        why="Calling an `async def` only makes a coroutine object; its body never runs.",
        check=check_unawaited,
        valid=(
            "async def save(): ...\nasync def f():\n    await save()\n",
            "async def save(): ...\nasync def f():\n    return save()\n",
            "def save(): ...\nasync def f():\n    save()\n",
            "@decorate\nasync def save(): ...\nasync def f():\n    save()\n",
            "async def save(): ...\ndef f(save):\n    save()\n",
            "class A:\n    def save(self): ...\nclass B:\n    async def save(self): ...\n"
            "    async def f(self):\n        await self.save()\n",
            "class A:\n    def save(self):\n        self.flush()\n"
            "class B:\n    async def flush(self): ...\n",
            "async def items():\n    yield 1\nasync def f():\n    items()\n",
        ),
        invalid=(
            "async def save(): ...\nasync def f():\n    save()\n",
            "class A:\n    async def save(self): ...\n    async def f(self):\n        self.save()\n",
        ),
    ),
    Rule(
        name="blocking-call-in-async",
        severity="warning",
        summary="a blocking call inside async def",
        why="While it blocks, no other coroutine of the process runs: timeouts fire late, "
        "heartbeats stop, requests pile up.",
        check=check_blocking,
        valid=(
            "import time\ndef f():\n    time.sleep(1)\n",
            "import time, asyncio\nasync def f():\n    await asyncio.to_thread(time.sleep, 1)\n",
            "import time\nasync def f():\n    def g():\n        time.sleep(1)\n    return g\n",
            "import requests\nasync def f(requests):\n    return requests.get('x')\n",
            "import time\nasync def f():\n    time.sleep(0)\n",
            "async def f(time):\n    time.sleep(1)\n",
        ),
        invalid=(
            "import time\nasync def f():\n    time.sleep(1)\n",
            "from time import sleep as pause\nasync def f():\n    pause(1)\n",
            "import requests\nasync def f(u):\n    return requests.get(u).json()\n",
            "import subprocess\nasync def f(c):\n    subprocess.run(c, check=True)\n",
        ),
    ),
    Rule(
        name="task-discarded",
        severity="warning",
        summary="the result of create_task is thrown away",
        why="The event loop holds tasks weakly, so a task without another reference can be "
        "collected while it runs; and nobody ever sees its exception.",
        check=check_task_discarded,
        valid=(
            "import asyncio\nasync def f(c):\n    t = asyncio.create_task(c)\n    await t\n",
            "import asyncio\nasync def f(c):\n    async with asyncio.TaskGroup() as group:\n"
            "        group.create_task(c)\n",
            "import asyncio\nasync def f(c, tasks):\n    tasks.add(asyncio.create_task(c))\n",
            "async def f(queue, c):\n    queue.create_task(c)\n",
        ),
        invalid=(
            "import asyncio\nasync def f(c):\n    asyncio.create_task(c)\n",
            "from asyncio import ensure_future\nasync def f(c):\n    ensure_future(c)\n",
            "import asyncio\ndef f(c):\n    asyncio.get_running_loop().create_task(c)\n",
            "class A:\n    def f(self, c):\n        self._loop.create_task(c)\n",
        ),
    ),
    Rule(
        name="lock-not-released",
        severity="warning",
        summary="a lock is acquired and not released on every way out",
        why="The next thread that wants the lock waits for ever.",
        check=check_lock,
        valid=(
            "def f(lock):\n    with lock:\n        work()\n",
            "def f(lock):\n    lock.acquire()\n    try:\n        work()\n    finally:\n"
            "        lock.release()\n",
            "def f(lock):\n    if lock.acquire(timeout=1):\n        work()\n        lock.release()\n",
            "class A:\n    def __enter__(self):\n        self._lock.acquire()\n"
            "    def __exit__(self, *a):\n        self._lock.release()\n",
            "class A:\n    def hold(self):\n        self._lock.acquire()\n"
            "    def let_go(self):\n        self._lock.release()\n",
            "def f(lock, n):\n    lock.acquire()\n    n += 1\n    lock.release()\n",
            "def f(slots):\n    slots.acquire()\n    work()\n",
            "def f(lock):\n    lock.acquire()\n    try:\n        work()\n    except:\n"
            "        lock.release()\n        raise\n    lock.release()\n",
        ),
        invalid=(
            "def f(lock):\n    lock.acquire()\n    work()\n",
            "def f(lock):\n    lock.acquire()\n    work()\n    lock.release()\n",
            "def f(lock, x):\n    lock.acquire()\n    if x:\n        return\n    lock.release()\n",
            "import threading\nguard = threading.Lock()\ndef f():\n    guard.acquire()\n    work()\n",
        ),
    ),
    Rule(
        name="lock-held-over-await",
        severity="warning",
        summary="a thread lock is held while a coroutine waits",
        why="If another coroutine of the same thread asks for the lock meanwhile, it blocks the "
        "loop that would have to release it: a deadlock.",
        check=check_lock_over_await,
        valid=(
            "import asyncio\nlock = asyncio.Lock()\nasync def f():\n    async with lock:\n"
            "        await work()\n",
            "import threading\nlock = threading.Lock()\nasync def f():\n    with lock:\n"
            "        x = 1\n    await work()\n",
        ),
        invalid=(
            "import threading\nlock = threading.Lock()\nasync def f():\n    with lock:\n"
            "        await work()\n",
            "from threading import Lock\nclass A:\n    def __init__(self):\n"
            "        self.lock = Lock()\n    async def f(self):\n        with self.lock:\n"
            "            await self.work()\n",
        ),
    ),
)

"""Structural rules for Python: leaks and concurrency mistakes, found on the syntax tree alone.

A rule is a row of `RULES`: a check over one parsed file and examples that must and must not be
found. Checks prefer silence: whatever may own a resource (a return, a call, an attribute, a
container) ends its tracking. Suppress a line with `# qcoder: ignore[rule]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tree_sitter

from qcoder.lsp_server.snapshot import Severity

Node = tree_sitter.Node
Check = Callable[[Node], Iterator[tuple[Node, str]]]

OPENERS = {
    "open": "close", "io.open": "close", "codecs.open": "close", "gzip.open": "close",
    "bz2.open": "close", "lzma.open": "close", "socket.socket": "close",
    "socket.create_connection": "close", "sqlite3.connect": "close", "zipfile.ZipFile": "close",
    "tarfile.open": "close", "tempfile.TemporaryFile": "close", "subprocess.Popen": "wait",
    "urllib.request.urlopen": "close",
}  # fmt: skip
"""Calls whose result must be released, and by which method."""

RELEASES = frozenset(
    ["close", "wait", "communicate", "terminate", "kill", "release", "shutdown", "detach"]
)
BORROWERS = frozenset(
    [
        "print",
        "len",
        "str",
        "repr",
        "iter",
        "next",
        "list",
        "tuple",
        "set",
        "sorted",
        "json.load",
        "json.dump",
        "pickle.load",
        "pickle.dump",
        "csv.reader",
        "csv.writer",
        "isinstance",
        "id",
        "hash",
        "bool",
        "sum",
        "max",
        "min",
        "enumerate",
        "zip",
        "map",
        "filter",
        "any",
        "all",
        "yaml.safe_load",
        "yaml.safe_dump",
        "tomllib.load",
        "shutil.copyfileobj",
        "logging.info",
    ]
)
"""Calls that use an argument without becoming its owner."""

BLOCKING = re.compile(
    r"^(time\.sleep|requests\.(get|post|put|patch|delete|head|request)|urllib\.request\.urlopen"
    r"|subprocess\.(run|call|check_call|check_output)|os\.system|socket\.create_connection)$"
)
TASKS = re.compile(r"^(asyncio\.)?(create_task|ensure_future)$|^(self\.)?_?loop\.create_task$")
FUNCTIONS = ("function_definition", "lambda")


@dataclass(frozen=True, slots=True)
class Rule:
    """One structural rule; `valid` must stay silent, `invalid` must give one finding each."""

    name: str
    severity: Severity
    summary: str
    check: Check
    valid: tuple[str, ...]
    invalid: tuple[str, ...]


def text_of(node: Node | None) -> str:
    """Source text of a node."""
    return "" if node is None or node.text is None else node.text.decode("utf-8", "replace")


def walk(node: Node, into_functions: bool = True) -> Iterator[Node]:
    """Nodes below `node` in document order, by a stack: depth is no limit."""
    stack = list(reversed(node.named_children))
    while stack:
        current = stack.pop()
        yield current
        if into_functions or current.type not in FUNCTIONS:
            stack.extend(reversed(current.named_children))


def called(node: Node) -> str:
    """Dotted name that a call node calls."""
    return text_of(node.child_by_field_name("function")) if node.type == "call" else ""


def scopes(root: Node) -> Iterator[Node]:
    """The module and every function body."""
    yield root
    for node in walk(root):
        body = node.child_by_field_name("body") if node.type == "function_definition" else None
        if body is not None:
            yield body


def unreleased_resources(root: Node) -> Iterator[tuple[Node, str]]:
    """`f = open(...)` in a function, never released, returned, stored or handed over."""
    for scope in scopes(root):
        if scope.type == "module":
            continue
        for node in walk(scope, into_functions=False):
            if node.type != "assignment":
                continue
            left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
            if left is None or right is None or left.type != "identifier":
                continue
            release = OPENERS.get(called(right))
            name = text_of(left)
            if release and not escapes(scope, name, node):
                yield (
                    right,
                    f"`{name}` from {called(right)}() is never released: use `with` or call .{release}()",
                )


def escapes(scope: Node, name: str, origin: Node) -> bool:
    """True when `name` is released in the scope or may have got another owner."""
    for node in walk(scope):
        if node.type != "identifier" or text_of(node) != name or node.start_byte < origin.end_byte:
            continue
        parent = node.parent
        if parent is None or owns(node, parent):
            return True
    return False


def owns(node: Node, parent: Node) -> bool:
    """True when this use releases the resource or passes it on."""
    if parent.type == "attribute":
        return text_of(parent.child_by_field_name("attribute")) in RELEASES
    if parent.type == "argument_list":
        call = parent.parent
        return call is None or called(call) not in BORROWERS
    loops_over = ("for_statement", "for_in_clause")
    if parent.type in loops_over and parent.child_by_field_name("right") == node:
        return False
    return parent.type not in (
        "comparison_operator",
        "not_operator",
        "boolean_operator",
        "if_statement",
    )


def unreleased_locks(root: Node) -> Iterator[tuple[Node, str]]:
    """`lock.acquire()` without a release of the same lock in the function."""
    for scope in scopes(root):
        calls = [n for n in walk(scope, into_functions=False) if n.type == "call"]
        names = [called(n) for n in calls]
        for node, name in zip(calls, names, strict=True):
            owner, _, method = name.rpartition(".")
            if method != "acquire" or not re.search(r"lock|mutex", owner, re.IGNORECASE):
                continue
            statement = node.parent
            while statement is not None and statement.type == "await":
                statement = statement.parent
            bare = statement is not None and statement.type == "expression_statement"
            inside = enclosing_name(scope)
            if bare and f"{owner}.release" not in names and not manages(inside):
                yield (
                    node,
                    f"`{owner}` is acquired and not released in this function: use `with {owner}:`",
                )


def enclosing_name(scope: Node) -> str:
    """Name of the function whose body `scope` is."""
    parent = scope.parent
    return text_of(parent.child_by_field_name("name")) if parent is not None else ""


def manages(function: str) -> bool:
    """Functions whose job is to take a lock for their caller."""
    return function.startswith("__") or "acquire" in function or "lock" in function.lower()


def missing_awaits(root: Node) -> Iterator[tuple[Node, str]]:
    """A coroutine function of this file called as a statement, without await."""
    coroutines, plain = set(), set()
    for node in walk(root):
        if node.type == "function_definition":
            name = text_of(node.child_by_field_name("name"))
            in_class = node.parent is not None and is_in_class(node)
            is_async = any(child.type == "async" for child in node.children)
            (coroutines if is_async else plain).add((in_class, name))
    for node in walk(root):
        if node.type != "call" or node.parent is None or node.parent.type != "expression_statement":
            continue
        name = called(node)
        key = (True, name[5:]) if name.startswith("self.") else (False, name)
        if key in coroutines and key not in plain:
            yield node, f"coroutine `{name}` is never awaited: its body does not run"


def is_in_class(function: Node) -> bool:
    """True for methods: the nearest enclosing definition is a class."""
    parent = function.parent
    while parent is not None and parent.type not in ("class_definition", "function_definition"):
        parent = parent.parent
    return parent is not None and parent.type == "class_definition"


def blocking_calls(root: Node) -> Iterator[tuple[Node, str]]:
    """Calls inside `async def` that stop the event loop."""
    for function in walk(root):
        if function.type != "function_definition" or function.children[0].type != "async":
            continue
        body = function.child_by_field_name("body")
        for node in walk(body, into_functions=False) if body is not None else ():
            if BLOCKING.match(called(node)):
                yield node, f"{called(node)}() blocks the event loop inside `async def`"


def discarded_tasks(root: Node) -> Iterator[tuple[Node, str]]:
    """`create_task(...)` as a statement: the loop keeps only a weak reference."""
    for node in walk(root):
        statement = node.parent
        if (
            TASKS.match(called(node))
            and statement is not None
            and statement.type == "expression_statement"
        ):
            yield node, "the task is not kept: it may be collected before it has finished"


def mutable_defaults(root: Node) -> Iterator[tuple[Node, str]]:
    """A list, dict or set display as default value that the function changes."""
    changing = [
        "append",
        "extend",
        "insert",
        "add",
        "update",
        "setdefault",
        "pop",
        "remove",
        "clear",
    ]
    for node in walk(root):
        if node.type not in ("default_parameter", "typed_default_parameter"):
            continue
        value, name = node.child_by_field_name("value"), text_of(node.child_by_field_name("name"))
        function = node.parent.parent if node.parent is not None else None
        body = function.child_by_field_name("body") if function is not None else None
        if value is None or body is None or value.type not in ("list", "dictionary", "set"):
            continue
        uses = text_of(body)
        pattern = (
            rf"\b{re.escape(name)}\.({'|'.join(changing)})\(|\b{re.escape(name)}\[[^\]]*\]\s*="
        )
        if re.search(pattern, uses) and not re.search(rf"\b{re.escape(name)}\s*=[^=]", uses):
            yield (
                node,
                f"the default of `{name}` is shared by all calls, and this function changes it",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        "resource-leak", "warning", "A file, socket, process or connection is never released.",
        unreleased_resources,
        valid=(
            "def f(p):\n    with open(p) as h:\n        return h.read()\n",
            "def f(p):\n    h = open(p)\n    try:\n        return h.read()\n    finally:\n        h.close()\n",
            "def f(p):\n    h = open(p)\n    return h\n",
            "def f(self, p):\n    h = open(p)\n    self.h = h\n",
            "def f(p):\n    h = open(p)\n    register(h)\n",
            "def f(p):\n    h = open(p)\n    with h:\n        pass\n",
            "def f(c):\n    p = subprocess.Popen(c)\n    p.communicate()\n",
            "h = open('module_level')\n",
        ),
        invalid=(
            "def f(p):\n    h = open(p)\n    return h.read()\n",
            "def f(p):\n    h = open(p)\n    return json.load(h)\n",
            "def f(c):\n    p = subprocess.Popen(c)\n    print(p.pid)\n",
            "def f():\n    s = socket.socket()\n    s.connect(a)\n",
        ),
    ),
    Rule(
        "lock-not-released", "warning", "A lock is acquired and not released in the function.",
        unreleased_locks,
        valid=(
            "def f(self):\n    with self.lock:\n        pass\n",
            "def f(self):\n    self.lock.acquire()\n    try:\n        pass\n    finally:\n        self.lock.release()\n",
            "def __enter__(self):\n    self.lock.acquire()\n",
            "def f(self):\n    if self.lock.acquire(False):\n        pass\n",
            "def f(self):\n    self.items.acquire()\n",
        ),
        invalid=(
            "def f(self):\n    self.lock.acquire()\n    self.n += 1\n",
            "async def f(self):\n    await self._lock.acquire()\n    self.n += 1\n",
        ),
    ),
    Rule(
        "missing-await", "error", "A coroutine of this file is called and never awaited.",
        missing_awaits,
        valid=(
            "async def g():\n    pass\nasync def f():\n    await g()\n",
            "async def g():\n    pass\ndef f():\n    asyncio.run(g())\n",
            "def g():\n    pass\ndef f():\n    g()\n",
            "class A:\n    async def g(self):\n        pass\ndef g():\n    pass\ng()\n",
        ),
        invalid=(
            "async def g():\n    pass\nasync def f():\n    g()\n",
            "class A:\n    async def g(self):\n        pass\n    async def f(self):\n        self.g()\n",
        ),
    ),
    Rule(
        "blocking-in-async", "warning", "A call in `async def` stops the event loop.",
        blocking_calls,
        valid=(
            "async def f():\n    await asyncio.sleep(1)\n",
            "def f():\n    time.sleep(1)\n",
            "async def f():\n    def g():\n        time.sleep(1)\n    await to_thread(g)\n",
        ),
        invalid=(
            "async def f():\n    time.sleep(1)\n",
            "async def f(u):\n    r = requests.get(u)\n",
        ),
    ),
    Rule(
        "discarded-task", "warning", "The result of create_task is dropped.",
        discarded_tasks,
        valid=(
            "async def f():\n    t = asyncio.create_task(g())\n    await t\n",
            "async def f():\n    await asyncio.create_task(g())\n",
            "async def f():\n    tasks.add(asyncio.create_task(g()))\n",
            "async def f():\n    group.create_task(g())\n",
        ),
        invalid=(
            "async def f():\n    asyncio.create_task(g())\n",
            "async def f():\n    asyncio.ensure_future(g())\n",
        ),
    ),
    Rule(
        "shared-default", "warning", "A mutable default value is changed by the function.",
        mutable_defaults,
        valid=(
            "def f(x=()):\n    return x\n",
            "def f(x=[]):\n    return len(x)\n",
            "def f(x=None):\n    x = x or []\n    x.append(1)\n",
            "def f(x=[]):\n    x = list(x)\n    x.append(1)\n",
        ),
        invalid=(
            "def f(x=[]):\n    x.append(1)\n    return x\n",
            "def f(k, x: dict = {}):\n    x[k] = 1\n",
        ),
    ),
)  # fmt: skip
"""All rules. Adding one is adding a row: the tests run every example."""

"""Rules about coroutines and tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    arguments,
    decorators,
    dotted,
    enclosing,
    is_async,
    is_discarded,
    own_nodes,
    text_of,
)
from qcoder.lsp_server.review_callees import (
    assignments,
    bindings_of,
    callees,
    is_rebound,
)
from qcoder.lsp_server.review_modules import coroutine_names
from qcoder.lsp_server.review_rule import Hit, Replacement

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

KEEPS_COROUTINE = re.compile(r"(^|[._])(retry|inject\w*|db_injector|log\w*|traced?|timed?)$")
"""Decorators after which a coroutine function is still one."""

COROUTINES = frozenset(
    {
        "asyncio.sleep", "asyncio.wait", "asyncio.wait_for", "asyncio.open_connection",
        "asyncio.start_server", "asyncio.create_subprocess_exec", "asyncio.to_thread",
        "asyncio.create_subprocess_shell", "asyncio.open_unix_connection", "anyio.sleep",
        "trio.sleep", "anyio.to_thread.run_sync", "trio.to_thread.run_sync",
    }
)  # fmt: skip
"""Coroutine functions of well-known libraries."""

COROUTINE_METHODS = {
    "asyncio.Queue": frozenset({"get", "put", "join"}),
    "asyncio.LifoQueue": frozenset({"get", "put", "join"}),
    "asyncio.PriorityQueue": frozenset({"get", "put", "join"}),
    "asyncio.Event": frozenset({"wait"}),
    "asyncio.Lock": frozenset({"acquire"}),
    "asyncio.Semaphore": frozenset({"acquire"}),
    "asyncio.Condition": frozenset({"acquire", "wait", "wait_for"}),
    "asyncio.Barrier": frozenset({"wait"}),
    "aiohttp.ClientSession": frozenset({"close"}),
    "httpx.AsyncClient": frozenset(
        {"get", "post", "put", "patch", "delete", "head", "options", "request", "send", "aclose"}
    ),
}
"""Methods that are coroutine functions, by the constructor of their object."""

ASYNC_ONLY_METHODS = frozenset({"drain", "wait_closed", "aclose", "__aenter__", "__aexit__"})
"""Method names that only asynchronous objects have."""

COROUTINE_ATTRIBUTES = frozenset({"send", "throw", "close"})
PLAIN_MODULES = frozenset(
    {"struct", "json", "os", "re", "shutil", "base64", "hashlib", "math", "time", "datetime"}
    | {"copy", "pickle", "random", "socket", "ssl", "string", "textwrap", "urllib", "zlib"}
)
"""Modules of the standard library whose functions take no coroutines."""

CONSUMERS = frozenset(
    {"len", "list", "tuple", "set", "dict", "sorted", "int", "float", "sum", "any", "all", "next"}
    | {"enumerate", "zip", "json.loads", "json.dumps", "bytes", "min", "max", "reversed"}
)
"""Calls that fail or go wrong on a coroutine."""


def check_unawaited(file: PythonFile) -> Iterator[Hit]:
    """Coroutines that are never awaited: dropped, or used as if they were their result."""
    if "async" not in file.text and "await" not in file.text:
        return
    for call in file.calls_of(suspects(file)):
        misuse = misused(call, file)
        if not misuse or not makes_coroutine(call, file) or is_known_to_others(call, file):
            continue
        name = " ".join(text_of(call.child_by_field_name("function")).split())
        around = enclosing(call, SCOPES)
        inside = around is not None and around.type == "function_definition" and is_async(around)
        # `await` would make an asynchronous generator of one that its consumer takes for plain.
        inside = inside and enclosing(call, SCOPES | {"generator_expression"}) == around
        text = text_of(call)
        bare = call.parent is not None and call.parent.type in ("attribute", "subscript")
        fix = (f"(await {text})" if bare else f"await {text}") if inside else None
        mended = Replacement(call, call, fix) if fix is not None else None
        yield Hit(call, f"`{name}` is a coroutine: {misuse}", mended)


def suspects(file: PythonFile) -> frozenset[str]:
    """Last names of calls that may make a coroutine: few, so that the others cost nothing."""
    calls = (node.named_child(0) for node in file.nodes.get("await", []))
    functions = (call.child_by_field_name("function") for call in calls if call is not None)
    awaited = {text_of(f.child_by_field_name("attribute")) for f in functions if f is not None}
    awaited.discard("")
    imported = {n for n, whole in file.imports.items() if whole in COROUTINES}
    methods = frozenset().union(*COROUTINE_METHODS.values())
    plain = frozenset(name.rpartition(".")[2] for name in COROUTINES)
    return coroutine_names(file) | awaited | imported | methods | plain | ASYNC_ONLY_METHODS


DISCARDED = "without `await` this call does nothing"
NOT_COROUTINES = re.compile(r"executor|submit|schedule|create_task|ensure_future|[._](start|run)_")
"""What gives a future that runs by itself, and may be awaited or not."""

MIN_AWAITED = 2
"""Other calls of a method that are awaited, for one that is not to be a slip."""


def makes_coroutine(call: Node, file: PythonFile) -> bool:
    """Whether a call only makes a coroutine object."""
    function = call.child_by_field_name("function")
    if function is None:
        return False
    head = text_of(function).split(".")[0]
    if file.callee(call) in COROUTINES and head in file.imports:
        return not is_rebound(head, call, file)
    if function.type == "attribute":
        method = text_of(function.child_by_field_name("attribute"))
        owner = dotted(function.child_by_field_name("object"))
        if method in COROUTINE_METHODS.get(constructor_of(owner, call, file), ()):
            return True
        if method in ASYNC_ONLY_METHODS and is_discarded(call):
            around = enclosing(call, SCOPES)
            return bool(owner) and around is not None and is_async(around)
    found = callees(call, file)
    if not found:
        return is_always_awaited(call, file)
    return all(s.node.type == "function_definition" and is_plain_coroutine(s.node) for s in found)


def is_known_to_others(call: Node, file: PythonFile) -> bool:
    """Whether a comment tells a type checker that this coroutine is dropped on purpose."""
    return "unused-coroutine" in file.text.split("\n")[call.end_point[0]]


def is_always_awaited(call: Node, file: PythonFile) -> bool:
    """Whether the file awaits every other call of the same method, of which there must be some.

    What is called is not known; but who awaits a call in one place has to in the others.
    """
    around = enclosing(call, SCOPES)
    function = call.child_by_field_name("function")
    if around is None or function is None or function.type != "attribute":
        return False
    if around.type != "function_definition" or not is_async(around):
        return False
    whole = dotted(function)
    if NOT_COROUTINES.search(whole):
        return False
    calls = calls_by_method(file).get(text_of(function.child_by_field_name("attribute")), [])
    others = [other for other in calls if other != call]
    if not whole or not all(is_awaited(other) for other in others):
        return False
    same = sum(dotted(other.child_by_field_name("function")) == whole for other in others)
    # Other objects' methods of that name are evidence when the name is one of its own kind.
    named = "_" in whole.rpartition(".")[2].strip("_") and whole.split(".")[0] not in file.imports
    return same >= 1 or (named and is_discarded(call) and len(others) >= MIN_AWAITED)


def calls_by_method(file: PythonFile) -> dict[str, list[Node]]:
    """Calls of the file by the name of their method."""
    known = file.cache.get("calls by method")
    if isinstance(known, dict):
        return known
    found: dict[str, list[Node]] = {}
    for call in file.nodes.get("call", []):
        function = call.child_by_field_name("function")
        if function is not None and function.type == "attribute":
            found.setdefault(text_of(function.child_by_field_name("attribute")), []).append(call)
    file.cache["calls by method"] = found
    return found


def is_awaited(call: Node) -> bool:
    """Whether `await` stands before a call."""
    return call.parent is not None and call.parent.type == "await"


def constructor_of(owner: str, place: Node, file: PythonFile) -> str:
    """Resolved constructor that a variable or `self.name` is assigned from; "" when unsure."""
    if not owner:
        return ""
    if owner.startswith("self."):
        around = enclosing(place, frozenset({"class_definition"}))
    else:
        around = enclosing(place, frozenset({"function_definition"}))
    if around is None:
        return ""
    names = {
        file.callee(value)
        for node in assignments(around, file).get(owner, ())
        if (value := node.child_by_field_name("right")) is not None
    }
    return names.pop() if len(names) == 1 else ""


def misused(call: Node, file: PythonFile) -> str:
    """What is wrong when the call's value is a coroutine; "" when nothing is."""
    if is_discarded(call):
        return DISCARDED
    wrong = misuse_of(call, file)
    if wrong:
        return wrong
    parent = call.parent
    if parent is not None and parent.type == "assignment":
        target = parent.child_by_field_name("left")
        if parent.child_by_field_name("right") == call and target is not None:
            return misused_variable(target, call, file)
    return ""


def misuse_of(node: Node, file: PythonFile) -> str:
    """How an expression is used in a way that no coroutine can be; "" when it is not."""
    parent = node.parent
    if parent is None:
        return ""
    kind = parent.type
    if kind == "attribute":
        wanted = text_of(parent.child_by_field_name("attribute"))
        hidden = wanted in COROUTINE_ATTRIBUTES or wanted.startswith(("cr_", "__"))
        return "" if hidden else f"it has no attribute `{wanted}`; `await` it first"
    if kind == "subscript" and parent.child_by_field_name("value") == node:
        return "it has no items; `await` it first"
    if kind in ("if_statement", "while_statement", "elif_clause"):
        asked = parent.child_by_field_name("condition") == node
        return "it is always true; `await` it first" if asked else ""
    if kind == "boolean_operator" and parent.child_by_field_name("right") == node:
        # Not asked whether it is true, but handed on by the operator.
        return DISCARDED if is_discarded(parent) else misuse_of(parent, file)
    if kind in ("not_operator", "boolean_operator"):
        return "it is always true; `await` it first"
    if kind == "comparison_operator":
        return "it is compared before it has run; `await` it first"
    if kind == "binary_operator":
        return "it is no value yet; `await` it first"
    if kind == "for_statement" and parent.child_by_field_name("right") == node:
        plain = not any(child.type == "async" for child in parent.children)
        return "a loop cannot run over it; `await` it first" if plain else ""
    if kind == "argument_list" and parent.parent is not None:
        consumer = file.callee(parent.parent)
        head, dot, _ = consumer.partition(".")
        module = bool(dot) and head in PLAIN_MODULES and head in file.imports
        plain = consumer in CONSUMERS or module
        return f"`{consumer}` cannot use it; `await` it first" if plain else ""
    return "its text is of no use; `await` it first" if kind == "interpolation" else ""


def misused_variable(target: Node, call: Node, file: PythonFile) -> str:
    """The same for a local variable that holds the coroutine and nothing else."""
    function = enclosing(call, SCOPES)
    if target.type in ("pattern_list", "tuple_pattern"):
        return "it cannot be unpacked; `await` it first"
    if target.type != "identifier" or function is None:
        return ""
    if function.type != "function_definition":
        return ""
    name = text_of(target)
    if len(bindings_of(function, file).get(name, [])) != 1:
        return ""
    uses = [n for n in file.named(name, function) if n != target and not is_label(n)]
    if not uses:
        return "nothing awaits it"
    wrongs = [misuse_of(n, file) for n in uses]
    return wrongs[0] if wrongs and all(wrongs) else ""


def is_label(name: Node) -> bool:
    """Whether an identifier is an attribute's or a keyword's name, not a variable."""
    parent = name.parent
    if parent is None:
        return False
    if parent.type == "attribute":
        return parent.child_by_field_name("attribute") == name
    return parent.type == "keyword_argument" and parent.child_by_field_name("name") == name


def is_plain_coroutine(function: Node) -> bool:
    """`async def` without `yield` and without a decorator that may change what it returns."""
    return (
        is_async(function)
        and all(
            name in PLAIN_DECORATORS or KEEPS_COROUTINE.search(name)
            for name in decorators(function)
        )
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
        if head not in file.imports or scope is None or is_rebound(head, call, file):
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

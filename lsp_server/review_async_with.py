"""Rule `with-on-async-context`: `with` on what only `async with` can enter, judged by its definition."""

from __future__ import annotations

from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    decorators,
    dotted,
    enclosing,
    is_async,
    text_of,
)
from qcoder.lsp_server.review_callees import Symbol, callees, method
from qcoder.lsp_server.review_coroutines import constructor_of
from qcoder.lsp_server.review_rule import Hit

ASYNC_ONLY = frozenset(
    {
        "asyncio.Lock", "asyncio.Semaphore", "asyncio.BoundedSemaphore", "asyncio.Condition",
        "asyncio.TaskGroup", "asyncio.timeout", "asyncio.timeout_at",
        "aiohttp.ClientSession", "httpx.AsyncClient", "anyio.create_task_group",
        "anyio.Lock", "anyio.Semaphore", "trio.open_nursery", "trio.Lock", "trio.Semaphore",
        "aiofiles.open", "contextlib.AsyncExitStack",
    }
)  # fmt: skip
"""Constructors of objects that have `__aenter__` alone."""


def check_plain_with(file: PythonFile) -> Iterator[Hit]:
    """`with` statements in coroutine functions whose object is an asynchronous context."""
    taken = entered(file, True)
    plain = entered(file, False)
    for block in file.nodes.get("with_statement", []):
        scope = enclosing(block, SCOPES)
        if is_async_with(block) or scope is None or scope.type != "function_definition":
            continue
        if not is_async(scope):
            continue
        for item in items_of(block):
            shape = shape_of(item)
            alone = bool(shape) and shape in taken and plain.get(shape, 0) == 1
            if alone or is_async_context(item, file):
                yield Hit(
                    item,
                    f"`{' '.join(text_of(item).split())[:60]}` is an asynchronous context: "
                    "`with` raises an exception, use `async with`",
                )


def is_async_with(block: Node) -> bool:
    """Whether a `with` statement is `async with`."""
    return any(child.type == "async" for child in block.children)


def items_of(block: Node) -> Iterator[Node]:
    """What a `with` statement enters, without its names."""
    for clause in block.named_children:
        for item in clause.named_children if clause.type == "with_clause" else ():
            value = item.child_by_field_name("value")
            if value is not None and value.type == "as_pattern" and value.named_children:
                value = value.named_children[0]
            if value is not None:
                yield value


def shape_of(item: Node) -> str:
    """What is entered, without arguments: equal shapes are entered in the same way."""
    return dotted(item.child_by_field_name("function") if item.type == "call" else item)


def entered(file: PythonFile, asynchronous: bool) -> dict[str, int]:
    """How often the file enters what by `async with`, or by `with`."""
    found: dict[str, int] = {}
    for block in file.nodes.get("with_statement", []):
        if is_async_with(block) == asynchronous:
            for item in items_of(block):
                found[shape_of(item)] = found.get(shape_of(item), 0) + 1
    return found


def is_async_context(item: Node, file: PythonFile) -> bool:
    """Whether an object's definition says that it cannot be entered by `with`."""
    if item.type != "call":
        return constructor_of(dotted(item), item, file) in ASYNC_ONLY
    if file.callee(item) in ASYNC_ONLY:
        return True
    found = callees(item, file)
    return bool(found) and all(is_async_maker(symbol) for symbol in found)


def is_async_maker(symbol: Symbol) -> bool:
    """Whether a class has `__aenter__` alone, or a function is made into such a context."""
    if symbol.node.type == "class_definition":
        return bool(method(symbol, "__aenter__")) and not method(symbol, "__enter__")
    names = [name.rpartition(".")[2] for name in decorators(symbol.node)]
    return names[:1] == ["asynccontextmanager"]

"""Rule `thread-not-joined`: threads and processes that a function starts and loses sight of."""

from __future__ import annotations

from collections.abc import Iterator

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    dotted,
    enclosing,
    keyword,
    parents,
    text_of,
)
from qcoder.lsp_server.review_callees import bindings_of
from qcoder.lsp_server.review_coroutines import is_label
from qcoder.lsp_server.review_rule import Hit

WORKERS = {
    "threading.Thread": "thread",
    "multiprocessing.Process": "process",
    "threading.Timer": "",
}
"""What starts something, and what it is called; timers are meant to run by themselves."""

HARMLESS = frozenset(
    {"start", "name", "ident", "pid", "native_id", "getName", "setName", "is_alive"}
)
"""Attributes whose use neither waits for a worker nor hands it on."""


def check_not_joined(file: PythonFile) -> Iterator[Hit]:
    """Workers of local variables that are started, never joined and not handed on."""
    for call in file.nodes.get("call", []):
        kind = WORKERS.get(file.callee(call), "")
        parent = call.parent
        if not kind or parent is None or parent.type != "assignment":
            continue
        target, function = parent.child_by_field_name("left"), enclosing(call, SCOPES)
        if target is None or target.type != "identifier" or function is None:
            continue
        if function.type != "function_definition" or keyword(call, "daemon") is not None:
            continue
        if is_lost(target, function, file):
            name = text_of(target)
            yield Hit(
                call,
                f"the {kind} `{name}` is started and nobody waits for it: its errors and the end "
                f"of its work go unseen; call `{name}.join()`, or say `daemon=True`",
            )


def is_lost(target: Node, function: Node, file: PythonFile) -> bool:
    """Whether a local worker is started and then used for nothing that matters."""
    name = text_of(target)
    if len(bindings_of(function, file).get(name, [])) != 1:
        return False
    uses = [n for n in file.named(name, function) if n != target and not is_label(n)]
    started = False
    for use in uses:
        parent = use.parent
        if parent is None or parent.type != "attribute":
            return False
        wanted = dotted(parent).rpartition(".")[2]
        if wanted not in HARMLESS or any(p.type == "lambda" for p in parents(use)):
            return False
        started = started or wanted == "start"
    return started

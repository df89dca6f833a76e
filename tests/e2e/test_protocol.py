"""A hostile client: every request of any message stream gets exactly one answer, and nothing ends.

The messages are random but seeded; `pytest -m slow` sends ten thousand of them.
"""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from qcoder.lsp_server.framing import next_length

pytestmark = pytest.mark.e2e

TIMEOUT_S = 60
MEMORY_COUNT = 10_000
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, NOT_INITIALIZED = -32602, -32002
GONE: dict[str, Any] = {}
COMMAND = [sys.executable, "-P", "-m", "qcoder.lsp_server.lsp_cli", "--stdio"]


class Wire:
    """A server process and everything it has sent."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env={**os.environ, "QCODER_ENGINE": "fake:compute(1)"},
        )
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.reply: Callable[[], dict[str, Any]] = lambda: {"result": None}
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        stdin = cast(BinaryIO, self.process.stdin)
        with self._lock:
            stdin.write(data)
            stdin.flush()

    def body(self, body: bytes) -> None:
        """Send a body with a proper header."""
        self.raw(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def send(self, **message: Any) -> None:
        """Send a message."""
        self.body(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def ask(self, number: Any, method: str, params: Any = None) -> dict[str, Any]:
        """Send a request and wait for its answer; others before it are dropped."""
        self.send(id=number, method=method, params=params)
        return self.answer(number)

    def answer(self, number: Any) -> dict[str, Any]:
        """The next answer with this id."""
        while (message := self.next())["id"] != number:
            pass
        return message

    def next(self) -> dict[str, Any]:
        """The next answer."""
        message = self.answers.get(timeout=TIMEOUT_S)
        assert message != GONE, "the server process has ended"
        return message

    def initialize(self, root: Path, **more: Any) -> None:
        """The handshake."""
        params = {"processId": None, "rootUri": root.as_uri(), "capabilities": {}, **more}
        assert "result" in self.ask("init", "initialize", params)
        self.send(method="initialized", params={})

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            cast(BinaryIO, pipe).close()

    def _read(self) -> None:
        stream = cast(BinaryIO, self.process.stdout)
        while (length := next_length(stream)) is not None:
            message = json.loads(stream.read(length))
            if "method" not in message:
                self.answers.put(message)
            elif "id" in message:
                self.send(id=message["id"], **self.reply())
        self.answers.put(GONE)


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "a.py").write_text("def load(path):\n    return open(path)\n")
    opened = Wire(tmp_path)
    yield opened
    opened.close()


def code(answer: dict[str, Any]) -> int | None:
    """The error code of an answer, if it is an error."""
    return answer["error"]["code"] if "error" in answer else None


def test_messages_out_of_turn_are_answered_with_the_error_for_it(
    wire: Wire, tmp_path: Path
) -> None:
    assert code(wire.ask(1, "textDocument/completion", {})) == NOT_INITIALIZED
    assert code(wire.ask(2, "shutdown")) == NOT_INITIALIZED
    wire.send(method="textDocument/didOpen", params={"textDocument": 1})
    assert code(wire.ask(3, "initialize", {"capabilities": 7})) == INVALID_PARAMS
    wire.initialize(tmp_path)
    assert code(wire.ask(4, "initialize", {"processId": None, "capabilities": {}})) == (
        INVALID_REQUEST
    )
    assert code(wire.ask(5, "shutdown")) is None
    assert code(wire.ask(6, "qcoder/ping")) == INVALID_REQUEST
    wire.send(method="exit")
    assert wire.process.wait(timeout=TIMEOUT_S) == 0


def test_what_is_no_request_is_answered_without_an_id(wire: Wire, tmp_path: Path) -> None:
    wire.initialize(tmp_path)
    for body, wanted in (
        (b"{broken", PARSE_ERROR),
        (b"\xff\xfe", PARSE_ERROR),
        (b"[" * 100_000, PARSE_ERROR),
        (b"5", INVALID_REQUEST),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "qcoder/ping"}]', INVALID_REQUEST),
        (b'{"id": 1, "method": "qcoder/ping"}', INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": true, "method": "qcoder/ping"}', INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": [], "method": 5}', INVALID_REQUEST),
    ):
        wire.body(body)
        assert code(wire.answer(None)) == wanted, body
    wire.send(id=9)
    assert code(wire.answer(9)) == INVALID_REQUEST
    assert code(wire.ask(10, "qcoder/nothing")) == METHOD_NOT_FOUND
    assert code(wire.ask(11, "textDocument/completion", {"bogus": 1})) == INVALID_PARAMS
    assert code(wire.ask(12, "workspace/executeCommand", {"command": "none"})) == INVALID_PARAMS
    docstring = {"command": "qcoder.generateDocstring"}
    assert code(wire.ask(13, "workspace/executeCommand", docstring)) == INVALID_PARAMS
    nested = {"command": "qcoder.reviewFile", "arguments": [{"jsonrpc": "2.0", "id": 1}]}
    assert code(wire.ask(14, "workspace/executeCommand", nested)) is None
    assert code(wire.ask("ok", "qcoder/ping")) is None


def test_one_bad_header_costs_one_message(wire: Wire, tmp_path: Path) -> None:
    wire.initialize(tmp_path)
    ping = b'{"jsonrpc":"2.0","id":%d,"method":"qcoder/ping"}'
    wire.raw(b"Content-Length: many\r\n\r\n" + ping % 1)
    wire.raw(b"content-length:%d\r\nContent-Type: x\r\n\r\n" % len(ping % 2) + ping % 2)
    assert wire.answer(2)["result"] is None
    wire.raw(b"Content-Length: 99999999999999\r\n\r\n")
    assert wire.ask(3, "qcoder/ping")["result"] is None


def test_a_lost_client_ends_the_server(wire: Wire, tmp_path: Path) -> None:
    wire.initialize(tmp_path)
    cast(BinaryIO, wire.process.stdin).close()
    assert wire.process.wait(timeout=TIMEOUT_S) == 1


@pytest.mark.parametrize("by_argument", [True, False])
def test_a_dead_client_process_ends_the_server(tmp_path: Path, by_argument: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        arguments = ["--clientProcessId", str(parent.pid)] if by_argument else []
        wire = Wire(tmp_path, *arguments)
        wire.initialize(tmp_path, processId=None if by_argument else parent.pid)
        parent.kill()
    assert wire.process.wait(timeout=TIMEOUT_S) == 1
    wire.close()


def test_a_client_process_of_another_machine_is_not_followed(wire: Wire, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        pass
    wire.initialize(tmp_path, processId=gone.pid)
    assert wire.ask(1, "qcoder/ping")["result"] is None


class Chaos:
    """Random messages about a few documents; `expected` counts the answers they must get."""

    METHODS = (
        "textDocument/inlineCompletion", "textDocument/completion", "textDocument/codeAction",
        "textDocument/diagnostic", "codeAction/resolve", "workspace/executeCommand",
        "qcoder/ping", "textDocument/hover", "qcoder/unknown", "initialize", "$/unknown",
        "qcoder/explainLast", "qcoder/statistics", "qcoder/counts",
    )  # fmt: skip
    NOTES = (
        "textDocument/didOpen", "textDocument/didChange", "textDocument/didClose",
        "textDocument/didSave", "workspace/didChangeConfiguration", "$/setTrace",
        "workspace/didChangeWatchedFiles", "workspace/didRenameFiles",
        "workspace/didChangeWorkspaceFolders", "window/workDoneProgress/cancel", "initialized",
        "notebookDocument/didOpen", "notebookDocument/didChange", "notebookDocument/didClose",
        "qcoder/unknown",
    )  # fmt: skip
    JUNK = (
        None, True, -1, 2**40, 0.5, "", "x" * 500, [], {}, [1, {}], {"line": -1}, "\ud83d", "\0",
        "file:///etc/passwd", "untitled:One", "http://nowhere/", {"jsonrpc": "2.0", "id": 1},
    )  # fmt: skip
    PIECES = ("x = ", "(", ")", "\n", "\r\n", "\r", "\f", "\u2028", "😀", "é", "def f():\n    ", "")

    def __init__(self, root: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.root = root
        self.uris = [(root / name).as_uri() for name in ("a.py", "b c.ts", "d.txt", "é.go")]
        self.expected: Counter[Any] = Counter()
        self.asked: list[Any] = []
        self.version = 1

    def place(self) -> dict[str, int]:
        return {"line": self.rng.randrange(4), "character": self.rng.randrange(12)}

    def text(self) -> str:
        return "".join(self.rng.choices(self.PIECES, k=self.rng.randrange(12)))

    def params(self) -> dict[str, Any]:
        """Every parameter that a method here may want, all valid."""
        rng, uri = self.rng, self.rng.choice(self.uris)
        self.version += 1
        start, end = self.place(), self.place()
        change = {"text": self.text()}
        if rng.random() < 0.8:
            change["range"] = {"start": start, "end": end}
        item = {"uri": uri, "languageId": "python", "version": self.version, "text": self.text()}
        folder = {"uri": self.root.as_uri(), "name": "w"}
        command = (
            f"qcoder.{rng.choice(['reviewFile', 'generateDocstring', 'reindex', 'restartEngine'])}"
        )
        return {
            "textDocument": item,
            "contentChanges": [change],
            "position": start,
            "range": {"start": start, "end": end},
            "context": {"triggerKind": rng.randint(1, 2), "diagnostics": []},
            "title": "x",
            "data": {"uri": uri, "line": rng.randrange(5)},
            "command": command,
            "arguments": [uri, 1][: {"reviewFile": 1, "generateDocstring": 2}.get(command[7:], 0)],
            "settings": {"qcoder": {"completion": {"maxTokens": rng.randint(1, 60)}}},
            "changes": [{"uri": uri, "type": rng.randint(1, 3)}],
            "files": [{"oldUri": uri, "newUri": rng.choice(self.uris)}],
            "event": {"added": [folder], "removed": [folder] if rng.random() < 0.5 else []},
            "value": "off",
            "token": "none",
            "notebookDocument": {
                "uri": uri + ".ipynb",
                "notebookType": "x",
                "version": self.version,
                "cells": [{"kind": rng.randint(1, 2), "document": uri}],
            },
            "cellTextDocuments": [item],
            "change": {"cells": {"textContent": [{"document": item, "changes": [change]}]}},
        }

    def spoiled(self, value: Any) -> Any:
        """The value with one part of it replaced by something else, or gone."""
        if isinstance(value, dict) and value and self.rng.random() < 0.9:
            key = self.rng.choice(list(value))
            if self.rng.random() < 0.2:
                return {k: v for k, v in value.items() if k != key}
            return {**value, key: self.spoiled(value[key])}
        return self.rng.choice(self.JUNK)

    def send(self, wire: Wire) -> None:
        """One message of any kind."""
        kind = self.rng.random()
        params: Any = self.params()
        if self.rng.random() < 0.3:
            params = self.spoiled(params)
        if kind < 0.5:
            number = self.rng.choice([len(self.asked), f"n{len(self.asked)}"])
            self.asked.append(number)
            self.expected[number] += 1
            wire.send(id=number, method=self.rng.choice(self.METHODS), params=params)
        elif kind < 0.88:
            wire.send(method=self.rng.choice(self.NOTES), params=params)
        elif kind < 0.94:
            number = self.rng.choice([*self.asked[-5:], "never", None, []])
            wire.send(method="$/cancelRequest", params={"id": number})
        elif kind < 0.97:
            wire.send(id=self.rng.choice([*self.asked[-5:], "never"]), result=params)
        else:
            self.expected[None] += 1
            wire.body(self.rng.choice([b"{", b"[]", b"7", b'{"id": 1}', b"\xff", b"null"]))

    def reply(self) -> dict[str, Any]:
        """An answer to a request of the server."""
        if self.rng.random() < 0.2:
            return {"error": {"code": -32601, "message": "no"}}
        return {"result": self.rng.choice([None, [{}], [None], *self.JUNK])}


def resident_mb(process_id: int) -> float:
    """Memory of a process."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("count", [600, pytest.param(MEMORY_COUNT, marks=pytest.mark.slow)])
def test_random_messages_are_answered_once_each_and_leave_no_memory(
    wire: Wire, tmp_path: Path, count: int
) -> None:
    chaos = Chaos(tmp_path, seed=11)
    wire.initialize(tmp_path)
    wire.reply = chaos.reply
    answered: Counter[Any] = Counter()
    warm_mb = 0.0
    for number in range(count):
        chaos.send(wire)
        if number % 200 == 199:  # let it catch up, as an editor does
            last = f"sync{number}"
            wire.send(id=last, method="qcoder/ping")
            while (answer := wire.next())["id"] != last:
                answered[answer["id"]] += 1
        if number == count // 4:
            warm_mb = resident_mb(wire.process.pid)
    while answered.total() < chaos.expected.total():
        answered[wire.next()["id"]] += 1
    assert wire.ask("end", "qcoder/ping")["result"] is None
    assert answered == chaos.expected
    assert wire.answers.empty()
    if count >= MEMORY_COUNT:  # before, the process still imports what it needs
        assert resident_mb(wire.process.pid) - warm_mb < 50
    assert "result" in wire.ask("down", "shutdown")
    wire.send(method="exit")
    assert wire.process.wait(timeout=TIMEOUT_S) == 0

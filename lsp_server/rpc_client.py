"""A small language client over the pipes of a real server process, for the demo and benchmarks.

It speaks the base protocol only: framed JSON-RPC, requests answered in any order, notifications
kept for who waits for them, and the server's own requests answered with null.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from qcoder.lsp_server.framing import next_length

Message = dict[str, Any]
GONE: Message = {}
"""What waiters get when the server's output has ended."""


class ServerGone(Exception):  # noqa: N818 (an event, named as users meet it)
    """The server process ended or did not answer in time."""


class Client:
    """One server process. Use as a context manager; leaving it shuts the server down."""

    def __init__(
        self,
        root: Path,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "qcoder.lsp_server.lsp_cli", "--stdio", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env={**os.environ, **(environment or {})},
        )
        self._ids = itertools.count(1)
        self._answers: dict[int, queue.Queue[Message]] = {}
        self._notes: queue.Queue[Message] = queue.Queue()
        self._lock = threading.Lock()
        self._ended = False
        threading.Thread(target=self._follow, daemon=True).start()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.request("shutdown", None, timeout_s=5)
            self.notify("exit", None)
            self.process.wait(timeout=5)
        except (ServerGone, subprocess.TimeoutExpired, OSError):
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def initialize(self, options: dict[str, Any] | None = None) -> Any:
        """The handshake, with the capabilities of an editor that shows ghost text."""
        result = self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": self.root.as_uri(),
                "workspaceFolders": [{"uri": self.root.as_uri(), "name": self.root.name}],
                # What a program asks for is not what the user was shown.
                "initializationOptions": {"statistics": {"enabled": False}, **(options or {})},
                "capabilities": {
                    "textDocument": {
                        "inlineCompletion": {},
                        "publishDiagnostics": {},
                        "codeAction": {
                            "codeActionLiteralSupport": {"codeActionKind": {"valueSet": [""]}},
                            "resolveSupport": {"properties": ["edit"]},
                            "dataSupport": True,
                        },
                    },
                    "window": {"workDoneProgress": True},
                },
            },
        )
        self.notify("initialized", {})
        return result

    def open(self, path: Path, text: str | None = None, language: str = "python") -> str:
        """Open a document; returns its URI."""
        uri = path.as_uri()
        text = path.read_text(encoding="utf-8") if text is None else text
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})
        return uri

    def request(self, method: str, params: Any, timeout_s: float = 60.0) -> Any:
        """Send a request and wait for its result; raises `ServerGone`."""
        number = next(self._ids)
        answer: queue.Queue[Message] = queue.Queue()
        self._answers[number] = answer
        if self._ended:
            answer.put(GONE)
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        try:
            message = answer.get(timeout=timeout_s)
        except queue.Empty:
            raise ServerGone(f"no answer to {method} within {timeout_s:.0f} s") from None
        finally:
            del self._answers[number]
        if message is GONE:
            raise ServerGone(f"{method}: the server process has ended")
        if "error" in message:
            raise ServerGone(f"{method}: {message['error'].get('message')}")
        return message.get("result")

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def wait_for(self, accept: Callable[[Message], bool], timeout_s: float = 30.0) -> Message:
        """The next notification that `accept` takes; others before it are dropped."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self._notes.get(timeout=left)
            except queue.Empty:
                break
            if message is GONE:
                self._notes.put(GONE)
                raise ServerGone("the server process has ended")
            if accept(message):
                return message
        raise ServerGone(f"the expected notification did not come within {timeout_s:.0f} s")

    def _send(self, message: Message) -> None:
        body = json.dumps(message).encode("utf-8")
        with self._lock:
            assert self.process.stdin is not None
            try:
                self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                self.process.stdin.flush()
            except BrokenPipeError:
                raise ServerGone("the server process has ended") from None

    def _follow(self) -> None:
        self._read()
        self._ended = True
        self._notes.put(GONE)
        for answer in tuple(self._answers.values()):
            answer.put(GONE)

    def _read(self) -> None:
        stream = cast(BinaryIO, self.process.stdout)
        while (length := next_length(stream)) is not None:
            message: Message = json.loads(stream.read(length))
            if "method" in message and "id" in message:
                asked = message["method"] == "workspace/configuration"
                reply = [None for _ in message["params"]["items"]] if asked else None
                self._send({"jsonrpc": "2.0", "id": message["id"], "result": reply})
            elif "method" in message:
                self._notes.put(message)
            elif message.get("id") in self._answers:
                self._answers[message["id"]].put(message)

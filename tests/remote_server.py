"""A small OpenAI-compatible server in a thread, which answers as a test says."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers as the test says; `bodies` are the requests."""

    script: ClassVar[Callable[[Handler, dict[str, Any]], None]]
    models: ClassVar[tuple[int, Any]] = (200, {"data": [{"id": "coder"}]})
    bodies: ClassVar[list[dict[str, Any]]]
    paths: ClassVar[list[str]]
    keys: ClassVar[list[str | None]]

    def do_GET(self) -> None:
        self.keys.append(self.headers["Authorization"])
        status, data = self.models
        self.answer(status, json.dumps(data).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.paths.append(self.path)
        self.bodies.append(body)
        type(self).script(self, body)

    def answer(self, status: int, data: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *events: Any, done: bool = True) -> None:
        lines = [f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n" for e in events]
        lines += ["data: [DONE]\n\n"] if done else []
        self.answer(200, (": ping\n\n" + "".join(lines)).encode(), "text/event-stream")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


@contextmanager
def served(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, type[Handler]]]:
    """A running server with a fresh handler: its address, and where to put the script."""

    class Own(Handler):
        bodies: ClassVar[list[dict[str, Any]]] = []
        paths: ClassVar[list[str]] = []
        keys: ClassVar[list[str | None]] = []

    http = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    http.daemon_threads = True
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{http.server_port}/v1", Own
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def choice(text: str, finish: str | None = None, *logprobs: float) -> dict[str, Any]:
    """An event as vLLM and SGLang write it."""
    found = {"token_logprobs": list(logprobs)} if logprobs else None
    return {"choices": [{"text": text, "finish_reason": finish, "logprobs": found}]}

"""No test reads or writes the user's own settings, caches or models; an editor without a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server.requests import make_server

TIMEOUT_S = 30
Message = dict[str, Any]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fresh user folders for every test."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    return home


class Editor:
    """A client in the server's own process: messages go in and out as they would over a pipe.

    `replies` says what the server's requests are answered with, null otherwise.
    """

    def __init__(self) -> None:
        self.server = make_server()
        self.server.protocol.set_writer(self)
        self.notes: list[Message] = []
        self.requests: list[Message] = []
        self.replies: dict[str, Callable[[Any], Any]] = {}
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._news = asyncio.Event()
        self._version = 1

    def write(self, data: bytes) -> None:
        """Take what the server sends."""
        message = json.loads(data.partition(b"\r\n\r\n")[2])
        if "method" not in message:
            self._answers.pop(message["id"]).set_result(message)
        elif "id" not in message:
            self.notes.append(message)
        else:
            self.requests.append(message)
            reply = self.replies.get(message["method"], lambda params: None)
            body = {"jsonrpc": "2.0", "id": message["id"], "result": reply(message["params"])}
            asyncio.get_running_loop().call_soon(self.server.protocol.handle_message, body)
        self._news.set()

    def close(self) -> None:
        """Nothing to close."""

    def tell(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._handle({"method": method, "params": params})

    def begin(self, method: str, params: Any) -> tuple[int, asyncio.Future[Message]]:
        """Send a request; its id and its whole answer, later."""
        number = len(self._answers) + 1000 * self._version
        self._version += 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._handle({"id": number, "method": method, "params": params})
        return number, answer

    async def ask(self, method: str, params: Any) -> Any:
        """Send a request and wait for its result."""
        answer = await asyncio.wait_for(self.begin(method, params)[1], TIMEOUT_S)
        assert "error" not in answer, answer
        return answer["result"]

    async def note(self, accept: Callable[[Message], bool]) -> Message:
        """The first notification, past or to come, that `accept` takes."""
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := [note for note in self.notes if accept(note)]):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the server work until something is so."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                await asyncio.sleep(0)

    async def start(
        self, *roots: Path, options: Any = None, capabilities: Any = None, ready: bool = True
    ) -> Any:
        """The handshake, until model and index are there; gives the server's capabilities."""
        result = await self.ask(
            "initialize",
            {
                "processId": None,
                "rootUri": None,
                "workspaceFolders": [{"uri": r.as_uri(), "name": r.name} for r in roots],
                "initializationOptions": options,
                "capabilities": capabilities or {},
            },
        )
        self.tell("initialized", {})
        if ready:
            await self.status("Normal")
        return result["capabilities"]

    async def status(self, kind: str) -> Message:
        """The next status of this kind."""
        return await self.note(
            lambda m: m["method"] == "qcoder/status" and m["params"]["kind"] == kind
        )

    def open(self, path: Path, text: str, language: str = "python") -> str:
        """Open a document; its URI."""
        item = {"uri": path.as_uri(), "languageId": language, "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": item})
        return path.as_uri()

    def change(self, uri: str, text: str, start: tuple[int, int] | None = None) -> None:
        """Insert at a place, or replace the whole text."""
        self._version += 1
        change: Message = {"text": text}
        if start is not None:
            place = {"line": start[0], "character": start[1]}
            change["range"] = {"start": place, "end": place}
        document = {"uri": uri, "version": self._version}
        params = {"textDocument": document, "contentChanges": [change]}
        self.tell("textDocument/didChange", params)

    def inline(
        self, uri: str, line: int, column: int, invoked: bool = False
    ) -> tuple[int, asyncio.Future[Message]]:
        """Ask for ghost text; the request's id and its whole answer, later."""
        params = {
            "textDocument": {"uri": uri},
            "position": {"line": line, "character": column},
            "context": {"triggerKind": 1 if invoked else 2},
        }
        return self.begin("textDocument/inlineCompletion", params)

    def _handle(self, message: Message) -> None:
        self.server.protocol.handle_message({"jsonrpc": "2.0", **message})


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Editor]:
    """An editor before the handshake; the engine answers `compute(1)`."""
    monkeypatch.setenv("QCODER_ENGINE", "fake:compute(1)")
    opened = Editor()
    yield opened
    opened.server.session.stop()

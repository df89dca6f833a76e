"""The real `qcoder-lsp --stdio` process, driven over its pipes."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server.framing import next_length
from qcoder.lsp_server.rpc_client import Client, ServerGone

pytestmark = pytest.mark.e2e

AUTOMATIC = 2
LEAK = "def load(path):\n    handle = open(path)\n    return handle.read()\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "leaky.py").write_text(LEAK)
    return folder


@pytest.fixture
def client(root: Path) -> Iterator[Client]:
    with Client(root, {"QCODER_ENGINE": "fake:compute(1)"}) as started:
        started.initialize()
        started.wait_for(is_status("Normal"))
        yield started


def is_status(kind: str) -> Any:
    return lambda m: m["method"] == "qcoder/status" and m["params"]["kind"] == kind


def is_diagnostics(uri: str) -> Any:
    return lambda m: (
        m["method"] == "textDocument/publishDiagnostics"
        and m["params"]["uri"] == uri
        and m["params"]["diagnostics"]
    )


def inline(client: Client, uri: str, line: int, column: int, trigger: int = 1) -> Any:
    return client.request(
        "textDocument/inlineCompletion",
        {
            "textDocument": {"uri": uri},
            "position": {"line": line, "character": column},
            "context": {"triggerKind": trigger},
        },
        timeout_s=20,
    )


def change(client: Client, uri: str, version: int, start: tuple[int, int], text: str) -> None:
    at = {"line": start[0], "character": start[1]}
    edit = {"range": {"start": at, "end": at}, "text": text}
    document = {"uri": uri, "version": version}
    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [edit]})


def test_inline_completion_is_answered_with_an_edit_at_the_cursor(client: Client) -> None:
    uri = client.open(client.root / "a.py", "total = \n")
    item = inline(client, uri, 0, 8)["items"][0]
    assert item["insertText"] == "compute(1)"
    assert item["range"]["start"] == {"line": 0, "character": 8}


@pytest.mark.parametrize("odd", ["\f", "\v", "\x1c", "\x85", "\u2028", "😀", ""])
def test_edits_after_odd_characters_land_on_their_line(client: Client, odd: str) -> None:
    uri = client.open(client.root / "a.py", f"# {odd} page\nx = 1\ntotal = \n")
    change(client, uri, 2, (2, 8), "x + ")
    item = inline(client, uri, 2, 12)["items"][0]
    assert item["range"]["start"] == {"line": 2, "character": 12}


def test_positions_count_utf16_units_unless_agreed_otherwise(client: Client) -> None:
    uri = client.open(client.root / "a.py", "s = '😀'; y = \n")
    item = inline(client, uri, 0, 14)["items"][0]
    assert item["range"]["start"]["character"] == 14


def test_places_where_nothing_belongs_get_no_suggestion(client: Client) -> None:
    assert inline(client, (client.root / "none.py").as_uri(), 0, 0) is None
    uri = client.open(client.root / "a.py", "total = other\n")
    assert inline(client, uri, 0, 3, trigger=AUTOMATIC)["items"] == []
    assert inline(client, uri, 99, 0)["items"] == []


def test_every_request_of_a_burst_is_answered(client: Client) -> None:
    uri = client.open(client.root / "a.py", "x = \n")
    for number in range(100):
        change(client, uri, number + 2, (0, 4 + number), "a")
        if number % 10 == 0:
            inline(client, uri, 0, 5 + number)
    assert client.request("qcoder/ping", {}) is None


def test_malformed_parameters_are_answered_with_an_error(client: Client) -> None:
    with pytest.raises(ServerGone, match="do not fit the protocol"):
        client.request("textDocument/completion", {"bogus": 1}, timeout_s=10)
    assert client.request("qcoder/ping", {}) is None


def test_review_finds_the_planted_leak(client: Client) -> None:
    uri = client.open(client.root / "leaky.py")
    message = client.wait_for(is_diagnostics(uri), timeout_s=20)
    assert [d["code"] for d in message["params"]["diagnostics"]] == ["resource-leak"]


def test_code_action_writes_a_docstring_and_resolve_tolerates_missing_data(client: Client) -> None:
    uri = client.open(client.root / "a.py", "def add(first, second):\n    return first\n")
    at = {"line": 0, "character": 5}
    (action,) = client.request(
        "textDocument/codeAction",
        {
            "textDocument": {"uri": uri},
            "range": {"start": at, "end": at},
            "context": {"diagnostics": []},
        },
    )
    resolved = client.request("codeAction/resolve", action)
    assert '"""' in resolved["edit"]["changes"][uri][0]["newText"]
    assert client.request("codeAction/resolve", {"title": "x"})["title"] == "x"


def actions_at(client: Client, uri: str, line: int) -> list[dict[str, Any]]:
    at = {"line": line, "character": 0}
    where = {"textDocument": {"uri": uri}, "range": {"start": at, "end": at}}
    found: list[dict[str, Any]] | None = client.request(
        "textDocument/codeAction", {**where, "context": {"diagnostics": []}}
    )
    return found or []


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """The text after edits of one version, whose columns count UTF-16 units."""
    lines = [line.encode("utf-16-le") for line in text.split("\n")]
    for edit in sorted(edits, key=lambda e: list(e["range"]["start"].values()), reverse=True):
        start, end = edit["range"]["start"], edit["range"]["end"]
        head = lines[start["line"]][: 2 * start["character"]]
        tail = lines[end["line"]][2 * end["character"] :]
        new = head + edit["newText"].encode("utf-16-le") + tail
        lines[start["line"] : end["line"] + 1] = [
            row.encode("utf-16-le") for row in new.decode("utf-16-le").split("\n")
        ]
    return "\n".join(line.decode("utf-16-le") for line in lines)


def test_an_unsaved_file_is_documented_in_one_edit_and_mended_when_it_drifts(
    client: Client,
) -> None:
    text = "def add(first, second): s = '😀'; return first\n\n\nclass Store:\n    size = 1\n"
    uri = client.open(client.root / "new.py", text)
    titles = [action["title"] for action in actions_at(client, uri, 0)]
    assert titles == ["Generate docstring for add", "Document this file (2 definitions)"]
    resolved = client.request("codeAction/resolve", actions_at(client, uri, 0)[1])
    text = applied(text, resolved["edit"]["changes"][uri])
    compile(text, "new.py", "exec")
    assert text.count('"""') == 6
    assert "'😀'; return first" in text
    text = text.replace("second): ", "third):").replace("second):", "third):")
    document = {"uri": uri, "version": 2}
    whole = [{"text": text}]
    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": whole})
    line = next(at for at, row in enumerate(text.split("\n")) if "second:" in row)
    (action,) = actions_at(client, uri, line)
    assert action["title"] == "Update docstring of add"
    resolved = client.request("codeAction/resolve", action)
    mended = applied(text, resolved["edit"]["changes"][uri])
    assert mended == text.replace("second:", "third:")


def test_bad_settings_are_reported_once_and_the_server_goes_on(root: Path) -> None:
    with Client(root, {"QCODER_ENGINE": "fake:1"}) as client:
        client.initialize({"completion": {"maxTokens": "many"}, "nonsense": 1})
        shown = client.wait_for(lambda m: m["method"] == "window/showMessage")
        assert "max" in shown["params"]["message"].lower()
        client.wait_for(is_status("Normal"))
        assert client.request("qcoder/ping", {}) is None


def test_missing_model_is_an_error_status_and_the_server_answers(root: Path) -> None:
    with Client(root) as client:
        client.initialize({"model": {"name": "/no/such/model"}})
        status = client.wait_for(is_status("Error"))
        assert "/no/such/model" in status["params"]["message"]
        uri = client.open(root / "leaky.py")
        assert inline(client, uri, 0, 0) is None
        client.wait_for(is_diagnostics(uri), timeout_s=20)


def test_corrupt_index_and_hostile_files_do_not_stop_the_server(root: Path, tmp_path: Path) -> None:
    (root / "minified.js").write_text("x" * 2_000_000)
    (root / "binary.py").write_bytes(b"\0\1\2" * 1000)
    (root / "dangling.py").symlink_to(root / "missing.py")
    for _ in range(2):
        with Client(root, {"QCODER_ENGINE": "fake:1"}) as client:
            client.initialize()
            client.wait_for(is_status("Normal"))
        for file in (tmp_path / "cache").rglob("*"):
            if file.is_file():
                file.write_bytes(b"garbage" + file.read_bytes()[20:])


def test_exit_is_prompt(root: Path) -> None:
    client = Client(root, {"QCODER_ENGINE": "fake:1"})
    client.initialize()
    client.request("shutdown", None)
    client.notify("exit", None)
    assert client.process.wait(timeout=10) == 0
    for pipe in (client.process.stdin, client.process.stdout):
        assert pipe is not None
        pipe.close()


def test_version_loads_neither_torch_nor_pygls() -> None:
    program = (
        "import sys; from qcoder.lsp_server.lsp_cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'pygls', 'transformers'} & set(sys.modules), 'too much imported'"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("qcoder-lsp ")


def test_killed_server_leaves_a_usable_index(root: Path) -> None:
    for number in range(300):
        (root / f"m{number}.py").write_text(f"def f{number}():\n    return {number}\n" * 20)
    client = Client(root, {"QCODER_ENGINE": "fake:1"})
    client.initialize()
    client.wait_for(is_status("Busy"))
    client.process.kill()
    client.process.wait()
    for pipe in (client.process.stdin, client.process.stdout):
        assert pipe is not None
        pipe.close()
    with Client(root, {"QCODER_ENGINE": "fake:compute(1)"}) as again:
        again.initialize()
        again.wait_for(is_status("Normal"))
        uri = again.open(root / "new.py", "x = \n")
        assert inline(again, uri, 0, 4)["items"]


def test_indexing_shows_progress(root: Path) -> None:
    for number in range(400):
        (root / f"m{number}.py").write_text(f"def f{number}():\n    return {number}\n" * 60)
    with Client(root, {"QCODER_ENGINE": "fake:1"}) as client:
        client.initialize()
        begun = client.wait_for(lambda m: m["method"] == "$/progress")
        assert begun["params"]["value"]["kind"] == "begin"
        client.wait_for(
            lambda m: m["method"] == "$/progress" and m["params"]["value"]["kind"] == "end"
        )


def test_source_text_is_not_in_the_log(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    arguments = ["--log-file", str(log), "--log-level", "info"]
    with Client(root, {"QCODER_ENGINE": "fake:compute(1)"}, arguments) as client:
        client.initialize()
        client.wait_for(is_status("Normal"))
        uri = client.open(root / "a.py", "hush_hush = \n")
        assert inline(client, uri, 0, 12)["items"]
        with pytest.raises(ServerGone):
            client.request("textDocument/completion", {"text": "hush_hush"})
    assert "model name=fake" in log.read_text()
    assert "hush_hush" not in log.read_text()


def test_a_client_may_wait_at_a_unix_socket(root: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        check_transport(root, ["--pipe", str(tmp_path / "s")], lambda: listener.accept()[0])


def test_a_client_may_wait_at_a_local_port(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        check_transport(root, ["--socket", port], lambda: listener.accept()[0])


def test_the_server_may_wait_at_a_port(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def connect() -> socket.socket:
        end = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                assert time.monotonic() < end, "the server does not listen"

    check_transport(root, ["--tcp", f"127.0.0.1:{port}"], connect)


def check_transport(root: Path, arguments: list[str], connect: Any) -> None:
    """A server with these arguments answers over the connection, and ends properly."""
    command = [sys.executable, "-P", "-m", "qcoder.lsp_server.lsp_cli", *arguments]
    environment = {**os.environ, "QCODER_ENGINE": "fake:1"}
    with subprocess.Popen(command, cwd=root, env=environment) as process, connect() as peer:
        stream = peer.makefile("rwb")
        capabilities = {"processId": None, "rootUri": None, "capabilities": {}}
        for number, method in enumerate(("initialize", "shutdown", "exit"), start=1):
            params = capabilities if method == "initialize" else None
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            if method == "exit":
                del message["id"]
            body = json.dumps(message).encode()
            stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            stream.flush()
            while method != "exit":
                length = next_length(stream)
                assert length is not None
                if json.loads(stream.read(length)).get("id") == number:
                    break
        assert process.wait(timeout=30) == 0
        stream.close()

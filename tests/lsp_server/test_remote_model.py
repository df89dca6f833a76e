from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_server import Handler, choice, served

from qcoder.lsp_server import cli
from qcoder.lsp_server.remote_model import remote_engine
from qcoder.lsp_server.settings import RemoteSettings, Settings, resolve_settings
from qcoder.model.errors import RemoteError

PATIENCE_S = 20
CODE = "def total(items):\n    return "


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    with served() as running:
        yield running


def config(home: Path, url: str) -> None:
    """The user's own settings name a server."""
    folder = home / "xdg_config_home" / "qcoder"
    folder.mkdir(parents=True)
    (folder / "qcoder.toml").write_text(f'[remote]\nurl = "{url}"\n')


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `qcoder`."""
    code = cli.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_there_is_no_remote_engine_unless_an_address_is_set() -> None:
    assert remote_engine(Settings()) is None


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        'remote.url = "https://evil.example"',
        "[remote]\nallow_http = true",
        '[qcoder.remote]\nkind = "chat"',
    ],
)
def test_no_workspace_names_a_server(tmp_path: Path, text: str, trusted: bool) -> None:
    (tmp_path / "qcoder.toml").write_text(f"{text}\n")
    options = {"remote": {"url": "https://own.example/v1"}}
    settings, problems = resolve_settings(options=options, roots=[tmp_path], trusted=trusted)
    assert settings.remote == RemoteSettings(url="https://own.example/v1")
    assert len(problems) == 1
    assert "remote" in problems[0]


def test_a_key_that_is_not_set_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_KEY", raising=False)
    wanted = RemoteSettings(url="https://own.example/v1", api_key_env="TEAM_KEY")
    with pytest.raises(RemoteError, match="TEAM_KEY"):
        remote_engine(Settings(remote=wanted))


def test_the_key_comes_from_the_environment(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, handler = server
    monkeypatch.setenv("TEAM_KEY", "k-123\n")
    remote_engine(Settings(remote=RemoteSettings(url=url, api_key_env="TEAM_KEY")))
    assert handler.keys == ["Bearer k-123"]


def test_a_completion_comes_from_the_server_that_the_user_named(
    server: Any, own_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(choice("sum(items)", "stop", -0.1))
    config(own_folders, url)
    path = tmp_path / "a.py"
    path.write_text(CODE)
    code, out, _ = command(
        capsys, "complete", str(path), "--line", "2", "--column", "12", "--format", "json"
    )
    assert code == 0
    assert json.loads(out)["text"] == "sum(items)"
    (body,) = handler.bodies
    assert body["prompt"].endswith(f"<|fim_prefix|>{CODE}<|fim_suffix|><|fim_middle|>")
    assert 0 < json.loads(out)["prompt_tokens"] < len(body["prompt"]) / 2


def test_a_server_that_fails_ends_a_command_with_2(
    server: Any, own_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, handler = server
    handler.models = (401, {})
    config(own_folders, url)
    path = tmp_path / "a.py"
    path.write_text(CODE)
    code, _, err = command(capsys, "complete", str(path), "--line", "2", "--column", "12")
    assert code == 2
    assert "api_key_env" in err


@pytest.mark.parametrize(("status", "ok"), [(200, True), (401, False)])
def test_doctor_says_where_prompts_go(
    server: Any, own_folders: Path, capsys: pytest.CaptureFixture[str], status: int, ok: bool
) -> None:
    url, handler = server
    handler.models = (status, {"data": [{"id": "coder"}]})
    config(own_folders, url)
    _, out, _ = command(capsys, "doctor", "--format", "json")
    row = next(row for row in json.loads(out) if row["check"] == "remote")
    assert row["ok"] is ok
    assert url in row["detail"]


@pytest.mark.asyncio
async def test_a_server_that_cannot_be_reached_is_the_status(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QCODER_ENGINE")
    options = {"remote": {"url": "http://127.0.0.1:1/v1"}}
    await editor.start(tmp_path, options=options, ready=False)
    assert "cannot be reached" in (await editor.status("Error"))["params"]["message"]


@pytest.mark.asyncio
async def test_an_editor_gets_ghost_text_from_the_server_and_nothing_is_sent_unasked(
    server: Any, editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QCODER_ENGINE")
    url, handler = server
    handler.script = lambda h, body: h.stream(choice("sum(items)", "stop", -0.1))
    await editor.start(tmp_path, options={"remote": {"url": url}})
    uri = editor.open(tmp_path / "a.py", CODE)
    assert handler.bodies == []
    _, answer = editor.inline(uri, 1, 11)
    assert (await answer)["result"]["items"][0]["insertText"] == "sum(items)"
    assert len(handler.bodies) == 1
    hidden = editor.open(tmp_path / ".env", "KEY = \n")
    _, answer = editor.inline(hidden, 0, 6, invoked=True)
    assert not (await answer)["result"]["items"]
    assert len(handler.bodies) == 1


@pytest.mark.asyncio
async def test_a_keystroke_closes_the_connection_of_the_request_before(
    server: Any, editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QCODER_ENGINE")
    url, handler = server
    begun, closed = threading.Event(), threading.Event()

    def script(h: Handler, body: dict[str, Any]) -> None:
        if begun.is_set():
            h.stream(choice("len(items)", "stop", -0.1))
            return
        h.stream(choice("x", None, -0.1), done=False)
        begun.set()
        h.connection.settimeout(PATIENCE_S)
        if h.connection.recv(1) == b"":
            closed.set()

    handler.script = script
    await editor.start(tmp_path, options={"remote": {"url": url}})
    uri = editor.open(tmp_path / "a.py", CODE)
    _, first = editor.inline(uri, 1, 11)
    await editor.until(begun.is_set)
    editor.change(uri, "(", (1, 11))
    _, second = editor.inline(uri, 1, 12)
    assert (await first)["result"] is None
    await editor.until(closed.is_set)
    await second

import threading
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import session
from qcoder.model.fake import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="function")

PLAIN = "def add(first, second):\n    return first\n"
CANCELLED = -32800
AT = {"line": 0, "character": 5}


async def test_a_cancelled_command_does_not_edit(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def answer(_: Any) -> str:
        entered.set()
        go_on.wait(30)
        return "Add."

    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(answer))
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", PLAIN)
    command = {"command": "qcoder.generateDocstring", "arguments": [uri, 0]}
    number, answered = editor.begin("workspace/executeCommand", command)
    await editor.until(entered.is_set)
    editor.tell("$/cancelRequest", {"id": number})
    assert (await answered)["error"]["code"] == CANCELLED
    go_on.set()
    await editor.status("Normal")
    command["arguments"] = [uri, 99]
    assert await editor.ask("workspace/executeCommand", command) is False
    assert "workspace/applyEdit" not in [r["method"] for r in editor.requests]


async def test_an_answer_after_the_cancellation_does_no_harm(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", PLAIN)

    def cancel_first(_: Any) -> Any:
        editor.tell("$/cancelRequest", {"id": number})
        return {"applied": True}

    editor.replies["workspace/applyEdit"] = cancel_first
    command = {"command": "qcoder.generateDocstring", "arguments": [uri, 0]}
    number, answered = editor.begin("workspace/executeCommand", command)
    assert (await answered)["error"]["code"] == CANCELLED
    assert await editor.ask("qcoder/ping", None) is None


async def test_the_menu_item_replaces_the_typed_word_by_itself_and_the_rest(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(["pute(1)"]))
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", "é = 1; x = com\n")
    position = {"line": 0, "character": 14}
    params = {"textDocument": {"uri": uri}, "position": position}
    (item,) = (await editor.ask("textDocument/completion", params))["items"]
    assert item["label"] == item["filterText"] == item["textEdit"]["newText"] == "compute(1)"
    assert item["textEdit"]["range"]["start"] == {"line": 0, "character": 11}
    assert item["textEdit"]["range"]["end"] == position


@pytest.mark.parametrize(
    ("item", "mode"),
    [
        ({"insertTextModeSupport": {"valueSet": [1, 2]}}, 1),
        ({"insertTextModeSupport": {"valueSet": [2]}}, None),
        ({}, None),
    ],
)
async def test_the_lines_of_a_menu_item_are_not_indented_again(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: Any, mode: int | None
) -> None:
    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(["1\n    return x"]))
    capabilities = {"textDocument": {"completion": {"completionItem": item}}}
    options = {"completion": {"multiline": "always"}}
    await editor.start(tmp_path, capabilities=capabilities, options=options)
    uri = editor.open(tmp_path / "a.py", "def f():\n    x = \n")
    params = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 8}}
    (entry,) = (await editor.ask("textDocument/completion", params))["items"]
    assert entry["textEdit"]["newText"].endswith("1\n    return x")
    assert entry.get("insertTextMode") == mode


async def test_a_client_with_ghost_text_gets_no_menu_item(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path, capabilities={"textDocument": {"inlineCompletion": {}}})
    uri = editor.open(tmp_path / "a.py", "x = \n")
    params = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 4}}
    assert await editor.ask("textDocument/completion", params) is None


async def test_a_docstring_for_a_document_that_changed_meanwhile_is_not_inserted(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def answer(_: Any) -> str:
        entered.set()
        go_on.wait(30)
        return "Add."

    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(answer))
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", PLAIN)
    action = {"title": "x", "data": {"uri": uri, "line": 0}}
    _, answered = editor.begin("codeAction/resolve", action)
    await editor.until(entered.is_set)
    editor.change(uri, "\n", (0, 0))
    go_on.set()
    assert "edit" not in (await answered)["result"]


@pytest.mark.parametrize("data", [None, 5, {}, {"uri": "file:///none.py", "line": 0}])
async def test_an_action_without_usable_data_comes_back_as_it_was(
    editor: Any, tmp_path: Path, data: Any
) -> None:
    await editor.start(tmp_path)
    action = {"title": "x", "data": data}
    assert (await editor.ask("codeAction/resolve", action))["title"] == "x"

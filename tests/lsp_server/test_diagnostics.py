from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import diagnostics, session
from qcoder.lsp_server.snapshot import Finding

pytestmark = pytest.mark.asyncio(loop_scope="function")

LEAK = "def load(path):\n    handle = open(path)\n    return handle.read()\n"
PULLS = {
    "textDocument": {"diagnostic": {}, "publishDiagnostics": {}},
    "workspace": {"diagnostics": {"refreshSupport": True}},
}
OLD_PULLS = {"textDocument": {"diagnostic": {}, "publishDiagnostics": {}}}


async def pull(editor: Any, uri: str, known: str | None = None) -> Any:
    params = {"textDocument": {"uri": uri}, "previousResultId": known}
    return await editor.ask("textDocument/diagnostic", params)


def codes(items: list[Any]) -> list[str]:
    return [item["code"] for item in items]


def pushed(editor: Any, uri: str) -> list[list[str]]:
    return [
        codes(note["params"]["diagnostics"])
        for note in editor.notes
        if note["method"] == "textDocument/publishDiagnostics" and note["params"]["uri"] == uri
    ]


async def test_a_client_that_pulls_gets_the_same_findings_until_the_next_review(
    editor: Any, tmp_path: Path
) -> None:
    await editor.start(tmp_path, capabilities=PULLS)
    uri = editor.open(tmp_path / "a.py", LEAK)
    first = await pull(editor, uri)
    assert (first["kind"], codes(first["items"])) == ("full", ["resource-leak"])
    editor.change(uri, "", (0, 0))
    again = await pull(editor, uri, first["resultId"])
    assert (again["kind"], again["resultId"]) == ("unchanged", first["resultId"])
    editor.change(uri, "x = 1\n")
    editor.tell("textDocument/didSave", {"textDocument": {"uri": uri}})
    await editor.until(
        lambda: "workspace/diagnostic/refresh" in [r["method"] for r in editor.requests]
    )
    fixed = await pull(editor, uri, first["resultId"])
    assert (fixed["kind"], fixed["items"]) == ("full", [])


async def test_findings_of_the_rules_are_either_pulled_or_pushed(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await editor.start(tmp_path, capabilities=PULLS)
    uri = editor.open(tmp_path / "a.py", LEAK)
    assert codes((await pull(editor, uri))["items"]) == ["resource-leak"]
    hint = Finding("unlikely-name", "hint", "a.py", 0, 0, 0, 3, "odd", 0.9, "model", "f")
    monkeypatch.setattr("qcoder.lsp_server.review.model_hints", lambda *_: [hint])
    editor.tell("textDocument/didSave", {"textDocument": {"uri": uri}})
    await editor.note(lambda m: m["method"] == "textDocument/publishDiagnostics")
    assert pushed(editor, uri) == [["unlikely-name"]]


async def test_a_client_that_pulls_unasked_is_sent_everything(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", LEAK)
    await editor.note(lambda m: m["method"] == "textDocument/publishDiagnostics")
    assert pushed(editor, uri) == [["resource-leak"]]
    assert (await pull(editor, uri))["items"] == []


async def test_a_client_that_cannot_be_told_to_pull_again_is_not_to_pull(
    editor: Any, tmp_path: Path
) -> None:
    assert "diagnosticProvider" not in await editor.start(tmp_path, capabilities=OLD_PULLS)
    uri = editor.open(tmp_path / "a.py", LEAK)
    await editor.note(lambda m: m["method"] == "textDocument/publishDiagnostics")
    assert pushed(editor, uri) == [["resource-leak"]]


async def test_a_client_that_can_be_told_to_pull_again_pulls(editor: Any, tmp_path: Path) -> None:
    assert "diagnosticProvider" in await editor.start(tmp_path, capabilities=PULLS)


async def test_a_rule_that_is_switched_off_leaves_the_screen(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", LEAK)
    await editor.until(lambda: pushed(editor, uri) == [["resource-leak"]])
    settings = {"qcoder": {"review": {"disabledRules": ["resource-leak"]}}}
    editor.tell("workspace/didChangeConfiguration", {"settings": settings})
    await editor.until(lambda: pushed(editor, uri)[-1] == [])
    editor.tell("workspace/didChangeConfiguration", {"settings": {"qcoder": {}}})
    await editor.until(lambda: pushed(editor, uri)[-1] == ["resource-leak"])
    off = {"qcoder": {"review": {"enabled": False}}}
    editor.tell("workspace/didChangeConfiguration", {"settings": off})
    await editor.until(lambda: pushed(editor, uri)[-1] == [])


async def test_a_closed_document_shows_nothing(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", LEAK)
    await editor.until(lambda: pushed(editor, uri) == [["resource-leak"]])
    editor.tell("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert pushed(editor, uri)[-1] == []
    assert (await pull(editor, uri))["items"] == []


async def test_the_status_comes_back_to_idle_after_a_model_that_does_not_load(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = session.load_engine

    def bad(*_: Any) -> Any:
        raise RuntimeError("damaged")

    monkeypatch.setattr(session, "load_engine", bad)
    await editor.start(tmp_path, ready=False)
    assert "damaged" in (await editor.status("Error"))["params"]["message"]
    monkeypatch.setattr(session, "load_engine", good)
    await editor.ask("workspace/executeCommand", {"command": "qcoder.restartEngine"})
    await editor.status("Normal")


async def test_the_rules_look_again_when_typing_pauses(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "TYPING_PAUSE_S", 0)
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", "x = 1\n")
    await editor.until(lambda: pushed(editor, uri) == [[]])
    editor.change(uri, LEAK)
    await editor.until(lambda: pushed(editor, uri)[-1] == ["resource-leak"])


async def test_only_the_last_of_several_edits_is_reviewed(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[tuple[Any, ...]] = []
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", "x = 1\n")
    await editor.until(lambda: pushed(editor, uri) == [[]])
    monkeypatch.setattr(editor.server.loop, "call_later", lambda _, *call: later.append(call))
    editor.change(uri, "y = 1\n")
    editor.change(uri, LEAK)
    due = [call for call in later if call[0] is diagnostics.review_paused]
    reviewed: list[str] = []
    monkeypatch.setattr(diagnostics, "review_opened", lambda _, uri: reviewed.append(uri))
    for call, *arguments in due:
        call(*arguments)
    assert len(due) == 2
    assert reviewed == [uri]

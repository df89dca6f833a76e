import threading
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import session
from qcoder.model.fake import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="function")

TWO = "def add(first, second):\n    return first\n\n\nclass Store:\n    size = 1\n"
DRIFTED = 'def add(first, third):\n    """Add.\n\n    Args:\n        first: A.\n        second: B.\n    """\n'
PROGRESS = {"window": {"workDoneProgress": True}}


def replaced(text: str, edits: list[dict[str, Any]]) -> str:
    """The text after edits of a client, from the last to the first."""
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda e: e["range"]["start"]["line"], reverse=True):
        start, end = edit["range"]["start"], edit["range"]["end"]
        head = lines[start["line"]][: start["character"]]
        tail = lines[end["line"]][end["character"] :]
        lines[start["line"] : end["line"] + 1] = (head + edit["newText"] + tail).split("\n")
    return "\n".join(lines)


async def actions(editor: Any, uri: str, line: int, only: list[str] | None = None) -> Any:
    at = {"line": line, "character": 0}
    context: dict[str, Any] = {"diagnostics": []}
    if only is not None:
        context["only"] = only
    params = {"textDocument": {"uri": uri}, "range": {"start": at, "end": at}, "context": context}
    return await editor.ask("textDocument/codeAction", params)


async def test_one_definition_and_the_whole_file_are_offered(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", TWO)
    offered = await actions(editor, uri, 0)
    assert [a["title"] for a in offered] == [
        "Generate docstring for add",
        "Document this file (2 definitions)",
    ]
    assert [a["title"] for a in await actions(editor, uri, 1)] == [
        "Document this file (2 definitions)"
    ]


async def test_a_client_that_cannot_resolve_gets_commands(editor: Any, tmp_path: Path) -> None:
    literal = {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": []}}}
    await editor.start(tmp_path, capabilities={"textDocument": {"codeAction": literal}})
    uri = editor.open(tmp_path / "a.py", TWO)
    offered = await actions(editor, uri, 0)
    assert [(a["command"]["command"], a["command"]["arguments"]) for a in offered] == [
        ("qcoder.generateDocstring", [uri, 0]),
        ("qcoder.generateDocstring", [uri, None]),
    ]
    assert not any("data" in action for action in offered)


@pytest.mark.parametrize(
    ("only", "kinds"),
    [
        (["quickfix"], []),
        (["refactor"], ["refactor.rewrite"]),
        (["source"], ["source.documentFile"]),
        (["source.fixAll"], []),
    ],
)
async def test_only_the_kinds_that_a_client_asks_for_are_offered(
    editor: Any, tmp_path: Path, only: list[str], kinds: list[str]
) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", TWO)
    assert [a["kind"] for a in await actions(editor, uri, 0, only) or []] == kinds


async def test_the_whole_file_is_one_edit_of_the_unsaved_text(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    (tmp_path / "a.py").write_text("saved = 1\n")
    uri = editor.open(tmp_path / "a.py", TWO)
    offered = await actions(editor, uri, 0, ["source"])
    resolved = await editor.ask("codeAction/resolve", offered[0])
    assert list(resolved["edit"]["changes"]) == [uri]
    new = replaced(TWO, resolved["edit"]["changes"][uri])
    assert [line for line in new.split("\n") if line in TWO.split("\n") and line] == [
        line for line in TWO.split("\n") if line
    ]
    assert '"""Add.\n' in new
    assert '"""A store.\n' in new
    assert "saved" not in new


async def test_a_docstring_that_has_drifted_is_brought_in_line(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", DRIFTED)
    (offered,) = await actions(editor, uri, 5)
    assert offered["title"] == "Update docstring of add"
    resolved = await editor.ask("codeAction/resolve", offered)
    new = replaced(DRIFTED, resolved["edit"]["changes"][uri])
    assert new == DRIFTED.replace("second: B.", "third: B.")
    editor.change(uri, new)
    assert await actions(editor, uri, 5) is None


async def test_progress_is_shown_and_can_be_cancelled(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def answer(_: Any) -> str:
        entered.set()
        go_on.wait(30)
        return "Add."

    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(answer))
    await editor.start(tmp_path, capabilities=PROGRESS)
    uri = editor.open(tmp_path / "a.py", TWO)
    offered = await actions(editor, uri, 0, ["source"])
    _, answered = editor.begin("codeAction/resolve", offered[0])
    begun = await editor.note(is_progress("begin", "qcoder: writing docstrings"))
    assert begun["params"]["value"]["cancellable"]
    await editor.until(entered.is_set)
    editor.tell("window/workDoneProgress/cancel", {"token": begun["params"]["token"]})
    assert "edit" not in (await answered)["result"]
    go_on.set()
    ended = await editor.note(
        lambda m: (
            m["method"] == "$/progress"
            and m["params"]["token"] == begun["params"]["token"]
            and m["params"]["value"]["kind"] == "end"
        )
    )
    assert ended
    await editor.status("Normal")


def is_progress(kind: str, title: str) -> Any:
    return lambda m: (
        m["method"] == "$/progress"
        and m["params"]["value"]["kind"] == kind
        and m["params"]["value"].get("title") == title
    )

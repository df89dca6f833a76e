from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import session
from qcoder.model.fake import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="function")

GHOST = {"textDocument": {"inlineCompletion": {}}}


async def ask(editor: Any, uri: str, column: int, start: int, text: str) -> list[dict[str, Any]]:
    """Ghost text at a column of line 0 while an entry that replaces from `start` is chosen."""
    at = {"line": 0, "character": column}
    chosen = {"range": {"start": {"line": 0, "character": start}, "end": at}, "text": text}
    params = {
        "textDocument": {"uri": uri},
        "position": at,
        "context": {"triggerKind": 1, "selectedCompletionInfo": chosen},
    }
    items: list[dict[str, Any]] = (await editor.ask("textDocument/inlineCompletion", params))[
        "items"
    ]
    return items


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(["(1, 2)"]))


async def test_ghost_text_goes_on_behind_the_chosen_entry(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path, capabilities=GHOST)
    uri = editor.open(tmp_path / "a.py", "🙂 = com\n")
    items = await ask(editor, uri, 8, 5, "compute")
    assert items[0]["insertText"] == "pute(1, 2)"
    cursor = {"line": 0, "character": 8}
    assert items[0]["range"] == {"start": cursor, "end": cursor}


@pytest.mark.parametrize("text", ["calculate", "compute\n    pass"])
async def test_an_entry_that_rewrites_what_is_typed_is_passed_over(
    editor: Any, tmp_path: Path, text: str
) -> None:
    await editor.start(tmp_path, capabilities=GHOST)
    uri = editor.open(tmp_path / "a.py", "x = com\n")
    items = await ask(editor, uri, 7, 4, text)
    assert [item["insertText"] for item in items] == ["(1, 2)"]


@pytest.mark.parametrize(("capabilities", "menu"), [(GHOST, "always"), ({}, "auto")])
async def test_suggestions_are_in_the_menu_where_the_user_wants_them(
    editor: Any, tmp_path: Path, capabilities: Any, menu: str
) -> None:
    await editor.start(tmp_path, capabilities=capabilities, options={"completion": {"menu": menu}})
    uri = editor.open(tmp_path / "a.py", "x = com\n")
    params = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 7}}
    answer = await editor.ask("textDocument/completion", params)
    assert [item["label"] for item in answer["items"]] == ["com(1, 2)"]


async def test_the_menu_stays_empty_where_the_user_wants_that(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path, options={"completion": {"menu": "never"}})
    uri = editor.open(tmp_path / "a.py", "x = com\n")
    params = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 7}}
    assert await editor.ask("textDocument/completion", params) is None

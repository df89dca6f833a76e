from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import session
from qcoder.model.fake import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="function")

CODE, PROSE = 2, 1
CAPABILITIES = {"notebookDocument": {"synchronization": {}}}


def cell_uri(number: int) -> str:
    return f"vscode-notebook-cell:/w/work.ipynb#{number}"


def open_notebook(editor: Any, path: Path, *cells: tuple[int, str, str]) -> str:
    """Open a notebook with cells of (kind, language, text); its URI."""
    notebook = {
        "uri": path.as_uri(),
        "notebookType": "jupyter-notebook",
        "version": 1,
        "cells": [{"kind": kind, "document": cell_uri(n)} for n, (kind, _, _) in enumerate(cells)],
    }
    items = [
        {"uri": cell_uri(n), "languageId": language, "version": 1, "text": text}
        for n, (_, language, text) in enumerate(cells)
    ]
    editor.tell(
        "notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": items}
    )
    return str(notebook["uri"])


def change_cell(editor: Any, notebook: str, number: int, version: int, text: str, *at: int) -> None:
    """Insert into a cell."""
    place = {"line": at[0], "character": at[1]}
    content = {
        "document": {"uri": cell_uri(number), "version": version},
        "changes": [{"range": {"start": place, "end": place}, "text": text}],
    }
    editor.tell(
        "notebookDocument/didChange",
        {
            "notebookDocument": {"uri": notebook, "version": version},
            "change": {"cells": {"textContent": [content]}},
        },
    )


async def items(editor: Any, number: int, line: int, column: int) -> Any:
    _, answer = editor.inline(cell_uri(number), line, column, True)
    result = (await answer)["result"]
    return result and result["items"]


async def test_a_cell_is_completed_with_the_cells_around_it(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(["load_frame(1)"])
    monkeypatch.setattr(session, "load_engine", lambda *_: engine)
    result = await editor.start(tmp_path, capabilities=CAPABILITIES)
    assert result["notebookDocumentSync"]["notebookSelector"]
    notebook = open_notebook(
        editor,
        tmp_path / "work.ipynb",
        (CODE, "python", "def load_frame(n):\n    return n"),
        (PROSE, "markdown", "# not code"),
        (CODE, "sql", "select other"),
        (CODE, "python", "frame = "),
        (CODE, "python", "print(frame)"),
    )
    (item,) = await items(editor, 3, 0, 8)
    assert item["insertText"] == "load_frame(1)"
    assert item["range"]["start"] == {"line": 0, "character": 8}
    prompt = engine.tokenizer.decode(list(engine.requests[0].prompt.ids))
    assert "def load_frame(n):\n    return n\nframe =" in prompt
    assert "print(frame)" in prompt
    assert "not code" not in prompt
    assert "select" not in prompt
    change_cell(editor, notebook, 3, 2, "x + ", 0, 8)
    (item,) = await items(editor, 3, 0, 12)
    assert item["range"]["start"] == {"line": 0, "character": 12}


async def test_accepting_in_a_cell_is_seen(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine(["load_frame(1)"]))
    await editor.start(tmp_path, capabilities=CAPABILITIES)
    notebook = open_notebook(
        editor, tmp_path / "work.ipynb", (CODE, "python", "a = 1\nb = 2"), (CODE, "python", "c = ")
    )
    assert await items(editor, 1, 0, 4)
    change_cell(editor, notebook, 1, 2, "load_frame(1)", 0, 4)
    assert (await editor.ask("qcoder/statistics", None))["accepted"] == 1
    assert editor.server.completed_rows(notebook) == ["a = 1\n", "b = 2\n", "c = load_frame(1)"]


async def test_cells_without_code_and_closed_notebooks_get_nothing(
    editor: Any, tmp_path: Path
) -> None:
    await editor.start(tmp_path, capabilities=CAPABILITIES)
    notebook = open_notebook(
        editor, tmp_path / "work.ipynb", (PROSE, "markdown", "# title "), (CODE, "python", "x = ")
    )
    assert await items(editor, 0, 0, 8) is None
    assert await items(editor, 7, 0, 0) is None
    assert await items(editor, 1, 0, 4)
    closed = {
        "notebookDocument": {"uri": notebook},
        "cellTextDocuments": [{"uri": cell_uri(n)} for n in (0, 1)],
    }
    editor.tell("notebookDocument/didClose", closed)
    assert await items(editor, 1, 0, 4) is None
    assert notebook not in editor.server.session._open

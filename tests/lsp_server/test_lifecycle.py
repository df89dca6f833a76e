from pathlib import Path
from typing import Any

import pytest
from pygls.feature_manager import is_thread_function

from qcoder.lsp_server.lifecycle import read_options

pytestmark = pytest.mark.asyncio(loop_scope="function")

PULLS = {"workspace": {"configuration": True}}


def tokens(editor: Any) -> int:
    return int(editor.server.session.settings.completion.max_tokens)


def chars(editor: Any) -> int:
    return int(editor.server.session.settings.completion.min_chars)


async def test_no_handler_runs_in_the_pool_that_reads_stdin(editor: Any) -> None:
    manager = editor.server.protocol.fm
    handlers = [*manager.features.values(), *manager.commands.values()]
    assert handlers
    assert not any(is_thread_function(handler) for handler in handlers)


async def test_a_setting_that_the_editor_removes_has_its_default_again(
    editor: Any, tmp_path: Path
) -> None:
    given: Any = {"completion": {"maxTokens": 9}}
    editor.replies["workspace/configuration"] = lambda params: [given]
    await editor.start(tmp_path, options=given, capabilities=PULLS)
    assert tokens(editor) == 9
    for now, expected in (({"completion": {"minChars": 5}}, 5), ({}, 2)):
        given = now
        editor.tell("workspace/didChangeConfiguration", {"settings": None})
        await editor.until(lambda wanted=expected: chars(editor) == wanted)
        assert tokens(editor) == 48


@pytest.mark.parametrize("pulled", [None, {}])
async def test_a_client_that_pulls_nothing_keeps_its_initial_options(
    editor: Any, tmp_path: Path, pulled: Any
) -> None:
    editor.replies["workspace/configuration"] = lambda params: [pulled]
    options = {"completion": {"maxTokens": 9}}
    await editor.start(tmp_path, options=options, capabilities=PULLS)
    assert tokens(editor) == 9


@pytest.mark.parametrize("wrapped", [True, False])
async def test_settings_that_are_sent_replace_the_earlier_ones(
    editor: Any, tmp_path: Path, wrapped: bool
) -> None:
    await editor.start(tmp_path, options={"completion": {"minChars": 7}})
    sent: Any = {"completion": {"maxTokens": 11}}
    sent = {"qcoder": sent} if wrapped else sent
    editor.tell("workspace/didChangeConfiguration", {"settings": sent})
    await editor.until(lambda: tokens(editor) == 11)
    assert chars(editor) == 2
    editor.tell("workspace/didChangeConfiguration", {"settings": {"qcoder": None}})
    await editor.until(lambda: tokens(editor) == 48)


@pytest.mark.parametrize(
    ("trusted", "expected"), [(True, "other"), (False, "default"), ("yes", "default")]
)
async def test_only_a_trusted_workspace_chooses_the_model(
    editor: Any, tmp_path: Path, trusted: Any, expected: str
) -> None:
    (tmp_path / "qcoder.toml").write_text('[model]\nname = "other"\n')
    await editor.start(tmp_path, options={"trusted": trusted})
    assert editor.server.session.settings.model.name == expected


async def test_trust_comes_with_the_initialization_and_from_nowhere_else(
    editor: Any, tmp_path: Path
) -> None:
    (tmp_path / "qcoder.toml").write_text('[model]\nname = "other"\n')
    editor.replies["workspace/configuration"] = lambda params: [{"trusted": True}]
    await editor.start(tmp_path, capabilities=PULLS)
    assert editor.server.session.settings.model.name == "default"
    assert read_options({"trusted": True, "a": 1}) == ({"a": 1}, True)
    assert read_options(["not", "a", "table"]) == ({}, False)


async def test_a_problem_of_the_settings_is_told_once(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path, options={"nonsense": 1})
    for value in ({"nonsense": 2}, {"nonsense": 3, "nothing": 1}):
        editor.tell("workspace/didChangeConfiguration", {"settings": {"qcoder": value}})
    await editor.note(lambda m: "nothing" in str(m["params"]))
    told = [n["params"]["message"] for n in editor.notes if n["method"] == "window/showMessage"]
    assert len(told) == 2
    assert "nonsense" in told[0]
    assert "nothing" in told[1]
    assert "nonsense" not in told[1]


async def test_an_edited_qcoder_toml_counts_at_once(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    (tmp_path / "qcoder.toml").write_text("[completion]\nmax_tokens = 3\n")
    uri = (tmp_path / "qcoder.toml").as_uri()
    editor.tell("workspace/didChangeWatchedFiles", {"changes": [{"uri": uri, "type": 1}]})
    assert tokens(editor) == 3


def indexed(editor: Any, name: str) -> list[str]:
    """Folders whose index has a file."""
    return [
        folder.root.name
        for folder in editor.server.session.folders
        if folder.index is not None and folder.index.record(name) is not None
    ]


async def test_every_folder_of_a_workspace_is_indexed_and_may_come_and_go(
    editor: Any, tmp_path: Path
) -> None:
    roots = [tmp_path / name for name in ("one", "two", "three")]
    for root in roots:
        root.mkdir()
        (root / "a.py").write_text("x = 1\n")
    await editor.start(*roots[:2])
    assert sorted(indexed(editor, "a.py")) == ["one", "two"]
    folders = [{"uri": r.as_uri(), "name": r.name} for r in roots]
    event = {"added": folders[2:], "removed": folders[:1]}
    editor.tell("workspace/didChangeWorkspaceFolders", {"event": event})
    await editor.until(lambda: sorted(indexed(editor, "a.py")) == ["three", "two"])
    snapshot = editor.server.snapshot(editor.open(roots[2] / "sub" / "b.py", "y = 2\n"))
    assert (snapshot.root, snapshot.path) == (roots[2], "sub/b.py")
    outside = editor.server.snapshot(editor.open(roots[0] / "c.py", "z = 3\n"))
    assert (outside.root, outside.index, outside.path) == (None, None, "c.py")


async def test_the_inner_one_of_nested_folders_owns_a_file(editor: Any, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    await editor.start(tmp_path, inner)
    snapshot = editor.server.snapshot(editor.open(inner / "a.py", ""))
    assert (snapshot.root, snapshot.path) == (inner, "a.py")


async def test_renamed_and_deleted_files_are_followed(editor: Any, tmp_path: Path) -> None:
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    old.write_text("x = 1\n")
    operations = {"didRename": True, "didDelete": True, "didCreate": True}
    offered = await editor.start(
        tmp_path, capabilities={"workspace": {"fileOperations": operations}}
    )
    assert set(offered["workspace"]["fileOperations"]) == set(operations)
    old.rename(new)
    files = [{"oldUri": old.as_uri(), "newUri": new.as_uri()}]
    editor.tell("workspace/didRenameFiles", {"files": files})
    await editor.until(lambda: indexed(editor, "new.py") and not indexed(editor, "old.py"))
    new.unlink()
    editor.tell("workspace/didDeleteFiles", {"files": [{"uri": new.as_uri()}]})
    await editor.until(lambda: not indexed(editor, "new.py"))


async def test_paths_with_blanks_and_signs_are_the_same_document_however_quoted(
    editor: Any, tmp_path: Path
) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "b c+é.py", "x = \n")
    editor.change(uri, "y", (0, 4))
    snapshot = editor.server.snapshot(uri)
    assert (snapshot.document.text, snapshot.path) == ("x = y\n", "b c+é.py")


async def test_a_buffer_that_was_never_saved_has_the_language_of_the_editor(
    editor: Any, tmp_path: Path
) -> None:
    await editor.start(tmp_path)
    item = {"uri": "untitled:Untitled-1", "languageId": "go", "version": 1, "text": "x := \n"}
    editor.tell("textDocument/didOpen", {"textDocument": item})
    snapshot = editor.server.snapshot("untitled:Untitled-1")
    assert (snapshot.document.language, snapshot.path) == ("go", "Untitled-1")
    _, answer = editor.inline("untitled:Untitled-1", 0, 5)
    assert (await answer)["result"]["items"][0]["insertText"] == "compute(1)"


async def test_a_closed_document_is_answered_with_null(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "a.py", "x = \n")
    editor.tell("textDocument/didClose", {"textDocument": {"uri": uri}})
    _, answer = editor.inline(uri, 0, 4)
    assert (await answer)["result"] is None
    editor.change(uri, "late", (0, 0))
    assert editor.server.snapshot(uri) is None

"""Explanations and tests by a scripted model; a test runs when somebody asks for it, and only then."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qcoder.context.segments import Document
from qcoder.lsp_server import assist_actions, cli, session
from qcoder.lsp_server.asking import Asked, chat_template, code_in
from qcoder.lsp_server.assistance import Draft, definition_at, drafted, explained, run_test
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.fake import FakeEngine
from qcoder.model.request import CancelToken, Priority

SOURCE = "import os\n\n\ndef double(x):\n    return 2 * x\n"
GOOD = "```python\nfrom pkg import double\n\n\ndef test_double():\n    assert double(2) == 4\n```\n"
BAD = GOOD.replace("== 4", "== 5")


def chat_engine(folder: Path, answer: str) -> FakeEngine:
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    engine = FakeEngine([answer], max_context=100_000)
    engine.info = replace(engine.info, name="Coder-Instruct", path=str(folder), is_default=False)
    return engine


def asked(folder: Path, answer: str) -> Asked:
    engine = chat_engine(folder, answer)
    template = chat_template(engine)
    assert template is not None
    return Asked(engine, template, "review", Priority.EDIT, CancelToken())


def snapshot(root: Path | None, language: str = "python", path: str = "pkg.py") -> Snapshot:
    return Snapshot(Document("file:///pkg.py", 1, language, SOURCE), path, root, None, Settings())


def test_an_explanation_is_the_answer_about_the_lines(tmp_path: Path) -> None:
    to = asked(tmp_path, " It doubles. ")
    assert explained(to, snapshot(None), 3, 4) == "It doubles."
    prompt = bytes(to.engine.requests[0].prompt.ids).decode()  # type: ignore[attr-defined]
    assert "return 2 * x" in prompt
    assert "import os" not in prompt


@pytest.mark.parametrize(
    ("answer", "taken"),
    [(GOOD, True), ("I would rather not.", False), ("```python\ndef test_double(:\n```", False)],
)
def test_only_code_that_names_the_definition_is_a_test(
    tmp_path: Path, answer: str, taken: bool
) -> None:
    definition = definition_at(snapshot(None).document, 4)
    assert definition is not None
    draft = drafted(asked(tmp_path, answer), snapshot(None), definition)
    assert (draft is not None) == taken


def test_tests_lie_where_the_workspace_has_them(tmp_path: Path) -> None:
    definition = definition_at(snapshot(None).document, 4)
    assert definition is not None
    to = asked(tmp_path / "model", GOOD)
    beside = drafted(to, snapshot(tmp_path, path="a/pkg.py"), definition)
    (tmp_path / "tests").mkdir()
    below = drafted(to, snapshot(tmp_path, path="a/pkg.py"), definition)
    assert beside is not None
    assert below is not None
    assert (beside.path, below.path) == ("a/test_pkg_double.py", "tests/test_pkg_double.py")


@pytest.mark.parametrize(("text", "passes"), [(GOOD, True), (BAD, False), ("exit(", False)])
def test_a_run_says_whether_the_test_passes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, passes: bool
) -> None:
    monkeypatch.setattr(
        "qcoder.lsp_server.assistance.python_of", lambda _: __import__("sys").executable
    )
    (tmp_path / "pkg.py").write_text(SOURCE)
    outcome = run_test(Draft("tests/test_x.py", code_in(text), "double", "python"), tmp_path)
    assert outcome.passed == passes
    assert not (tmp_path / "tests").exists()


def test_a_program_that_cannot_run_fails_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcoder.lsp_server.assistance.python_of", lambda _: str(tmp_path / "none"))
    outcome = run_test(Draft("test_x.py", GOOD, "double", "python"), tmp_path)
    assert not outcome.passed
    assert "could not be run" in outcome.output


def test_the_command_writes_once_and_runs_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(
        "qcoder.lsp_server.cli_assist.load_engine", lambda _: chat_engine(tmp_path / "m", BAD)
    )
    monkeypatch.setattr(
        "qcoder.lsp_server.cli_assist.run_test", lambda d, r: ran.append(d.path) or run_test(d, r)
    )
    monkeypatch.setattr(
        "qcoder.lsp_server.assistance.python_of", lambda _: __import__("sys").executable
    )
    (tmp_path / ".git").mkdir()
    (tmp_path / "pkg.py").write_text(SOURCE)
    command = ["test", str(tmp_path / "pkg.py"), "--symbol", "double"]
    assert cli.main([*command, "--write"]) == 0
    assert (tmp_path / "test_pkg_double.py").read_text() == code_in(BAD) + "\n"
    assert ran == []
    assert cli.main([*command, "--write"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert cli.main([*command, "--run", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert cli.main(["test", str(tmp_path / "pkg.py"), "--symbol", "none"]) == 2


def test_a_model_that_follows_no_instructions_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qcoder.lsp_server.cli_assist.load_engine", lambda _: FakeEngine([""]))
    (tmp_path / "pkg.py").write_text(SOURCE)
    assert cli.main(["explain", str(tmp_path / "pkg.py")]) == 2
    assert "does not follow instructions" in capsys.readouterr().err


RESOURCES = {"workspace": {"applyEdit": True}}


async def offered(editor: Any, uri: str) -> list[Any]:
    place = {"line": 4, "character": 0}
    params = {
        "textDocument": {"uri": uri},
        "range": {"start": place, "end": place},
        "context": {"diagnostics": [], "only": [assist_actions.KIND]},
    }
    return await editor.ask("textDocument/codeAction", params) or []


@pytest.mark.asyncio(loop_scope="function")
async def test_a_small_model_offers_nothing(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine([""]))
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "pkg.py", SOURCE)
    assert await offered(editor, uri) == []


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize(
    ("trusted", "choice", "runs"), [(True, "Run it", 1), (True, None, 0), (False, "Run it", 0)]
)
async def test_a_test_is_an_edit_and_runs_when_the_user_says_so(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, choice: str | None, runs: int
) -> None:  # fmt: skip
    ran: list[str] = []
    monkeypatch.setattr(session, "load_engine", lambda *_: chat_engine(tmp_path / "m", GOOD))
    monkeypatch.setattr(
        assist_actions,
        "run_test",
        lambda d, r: ran.append(d.path) or assist_actions.Outcome(True, "1 passed"),
    )
    editor.replies["workspace/applyEdit"] = lambda params: {"applied": True}
    editor.replies["window/showMessageRequest"] = lambda _: {"title": choice} if choice else None
    await editor.start(tmp_path, options={"trusted": trusted})
    uri = editor.open(tmp_path / "pkg.py", SOURCE)
    explain, write = await offered(editor, uri)
    assert (explain["title"], write["title"]) == ("Explain double", "Write a test for double")
    assert await editor.ask("workspace/executeCommand", write["command"]) is True
    (edit,) = [r["params"] for r in editor.requests if r["method"] == "workspace/applyEdit"]
    create, insert = edit["edit"]["documentChanges"]
    assert create["kind"] == "create"
    assert create["uri"].endswith("/test_pkg_double.py")
    assert insert["edits"][0]["newText"] == code_in(GOOD) + "\n"
    assert len(ran) == runs


@pytest.mark.asyncio(loop_scope="function")
async def test_an_explanation_is_shown(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session, "load_engine", lambda *_: chat_engine(tmp_path / "m", "It doubles.")
    )
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / "pkg.py", SOURCE)
    explain, _ = await offered(editor, uri)
    assert await editor.ask("workspace/executeCommand", explain["command"]) == "It doubles."
    shown = await editor.note(lambda m: m["method"] == "window/showMessage")
    assert shown["params"]["message"] == "It doubles."

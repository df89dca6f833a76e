import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import review_changes, session
from qcoder.lsp_server.review_changes import summary
from qcoder.model.fake import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="function")

CLEAN = "def load(path):\n    return path\n"
LEAK = "\n\ndef read(path):\n    handle = open(path)\n    return handle.read()\n"
COMMAND = {"command": "qcoder.reviewSinceCommit", "arguments": []}


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "load_engine", lambda *_: FakeEngine([]))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with an old leak in one file and two clean ones."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "old.py").write_text(LEAK)
    (root / "new.py").write_text(CLEAN)
    (root / "same.py").write_text(CLEAN)
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Change")


def published(editor: Any, path: Path) -> list[list[str]]:
    """Codes of the findings that were sent about a file, message by message."""
    return [
        [item["code"] for item in note["params"]["diagnostics"]]
        for note in editor.notes
        if note["method"] == "textDocument/publishDiagnostics"
        and note["params"]["uri"] == path.as_uri()
    ]


async def test_changed_lines_of_unopened_files_are_reviewed(editor: Any, checkout: Path) -> None:
    (checkout / "new.py").write_text(CLEAN + LEAK)
    (checkout / "old.py").write_text(LEAK + "\n\nLIMIT = 3\n")
    await editor.start(checkout)
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 2, "files_with_findings": 1, "findings": 1}
    assert published(editor, checkout / "new.py") == [["resource-leak"]]
    assert published(editor, checkout / "old.py") == []
    said = await editor.note(lambda note: note["method"] == "window/showMessage")
    assert said["params"]["message"] == "1 finding in 1 of 2 changed files."


async def test_findings_are_taken_back_by_opening_and_by_asking_again(
    editor: Any, checkout: Path
) -> None:
    new, old = checkout / "new.py", checkout / "old.py"
    new.write_text(CLEAN + LEAK)
    old.write_text(LEAK + LEAK.replace("read", "again"))
    await editor.start(checkout)
    await editor.ask("workspace/executeCommand", COMMAND)
    editor.open(new, CLEAN + LEAK)
    await editor.until(lambda: len(published(editor, new)) == 3)
    assert published(editor, new) == [["resource-leak"], [], ["resource-leak"]]
    commit(checkout)
    await editor.ask("workspace/executeCommand", COMMAND)
    assert published(editor, old) == [["resource-leak"], []]


async def test_what_may_not_be_read_is_not_reviewed(editor: Any, checkout: Path) -> None:
    (checkout / "new.py").write_text(CLEAN + LEAK)
    (checkout / "qcoder.toml").write_text('[privacy]\nexclude = ["new.py"]\n')
    await editor.start(checkout)
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 0, "files_with_findings": 0, "findings": 0}


async def test_a_folder_outside_of_git_does_not_hide_another(
    editor: Any, checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (checkout / "new.py").write_text(CLEAN + LEAK)
    await editor.start(tmp_path_factory.mktemp("plain"), checkout)
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 1, "files_with_findings": 1, "findings": 1}


async def test_unsaved_text_of_an_open_file_counts(editor: Any, checkout: Path) -> None:
    (checkout / "new.py").write_text(CLEAN + "\nLIMIT = 3\n")
    await editor.start(checkout)
    editor.open(checkout / "new.py", CLEAN + LEAK)
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 1, "files_with_findings": 1, "findings": 1}


async def test_an_open_file_in_a_folder_with_signs_counts_as_open(
    editor: Any, checkout: Path
) -> None:
    path = checkout / "c# %41" / "new.py"
    path.parent.mkdir()
    path.write_text(CLEAN)
    commit(checkout)
    path.write_text(CLEAN + "\nLIMIT = 3\n")
    await editor.start(checkout)
    editor.open(path, CLEAN + LEAK)
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 1, "files_with_findings": 1, "findings": 1}
    assert not editor.server.unopened_findings


async def test_files_that_nobody_has_added_yet_are_reviewed(editor: Any, checkout: Path) -> None:
    (checkout / "sub").mkdir()
    (checkout / "sub" / "fresh.py").write_text(LEAK)
    (checkout / "ignored.py").write_text(LEAK)
    (checkout / ".gitignore").write_text("ignored.py\n")
    await editor.start(checkout / "sub")
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 1, "files_with_findings": 1, "findings": 1}
    assert published(editor, checkout / "sub" / "fresh.py") == [["resource-leak"]]


async def test_asking_again_ends_the_review_that_runs(
    editor: Any, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old.py", "new.py", "same.py"):
        (checkout / name).write_text(CLEAN + LEAK)
    begun, go_on = threading.Event(), threading.Event()
    review = review_changes.review_document
    seen: list[str] = []

    def slow(snapshot: Any, *arguments: Any) -> Any:
        seen.append(snapshot.path)
        begun.set()
        assert go_on.wait(30)
        return review(snapshot, *arguments)

    monkeypatch.setattr(review_changes, "review_document", slow)
    await editor.start(checkout)
    _, first = editor.begin("workspace/executeCommand", COMMAND)
    await editor.until(begun.is_set)
    _, second = editor.begin("workspace/executeCommand", COMMAND)
    go_on.set()
    assert (await first)["result"] is None
    assert (await second)["result"] == {"files": 3, "files_with_findings": 2, "findings": 2}
    assert seen == ["new.py", "new.py", "old.py", "same.py"]
    said = [note for note in editor.notes if note["method"] == "window/showMessage"]
    assert [note["params"]["message"] for note in said] == ["2 findings in 2 of 3 changed files."]


async def test_a_file_whose_review_fails_is_not_called_clean(
    editor: Any, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("new.py", "same.py"):
        (checkout / name).write_text(CLEAN + LEAK)
    review = review_changes.review_document

    def failing(snapshot: Any, *arguments: Any) -> Any:
        if snapshot.path == "new.py":
            raise OSError("no")
        return review(snapshot, *arguments)

    monkeypatch.setattr(review_changes, "review_document", failing)
    await editor.start(checkout)
    counts = await editor.ask("workspace/executeCommand", COMMAND)
    assert counts == {"files": 2, "files_with_findings": 1, "findings": 1, "failed": 1}
    said = await editor.note(lambda note: note["method"] == "window/showMessage")
    message = said["params"]["message"]
    assert message == "1 finding; 1 file could not be reviewed, see the log."


async def test_a_folder_outside_of_git_is_told_so(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    assert await editor.ask("workspace/executeCommand", COMMAND) is None
    said = await editor.note(lambda note: note["method"] == "window/showMessage")
    assert "git" in said["params"]["message"]


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((0, 0, 0), "Nothing has changed since the last commit."),
        ((1, 0, 0), "Nothing to say about 1 changed file."),
        ((3, 2, 5), "5 findings in 2 of 3 changed files."),
    ],
)
async def test_the_summary_is_one_sentence(counts: tuple[int, ...], sentence: str) -> None:
    names = ("files", "files_with_findings", "findings")
    assert summary(dict(zip(names, counts, strict=True))) == sentence


async def test_models_are_listed(editor: Any, tmp_path: Path) -> None:
    await editor.start(tmp_path)
    answer = await editor.ask("qcoder/models", None)
    assert answer["current"] == "default"
    assert answer["models"][0] == {"name": "default", "description": "shipped"}

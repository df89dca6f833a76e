import json
import os
import subprocess
from pathlib import Path

import pytest

from qcoder.lsp_server import changes
from qcoder.lsp_server.changes import lines_since_head, parse_diff, since, staged
from qcoder.lsp_server.cli import main

LEAK = "def load(path):\n    handle = open(path)\n    return handle.read()\n"
CLEAN = "def load(path):\n    with open(path) as handle:\n        return handle.read()\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    (tmp_path / "a.py").write_text(CLEAN)
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first")
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


@pytest.mark.parametrize(
    ("source", "options", "code"),
    [
        (LEAK, [], 1),
        (CLEAN, [], 0),
        (LEAK, ["--fail-on", "error"], 0),
        (LEAK, ["--fail-on", "never"], 0),
    ],
)
def test_exit_code_follows_the_rules(
    repository: Path, source: str, options: list[str], code: int
) -> None:
    (repository / "b.py").write_text(source)
    assert main(["review", "b.py", *options]) == code


def test_staged_reviews_the_index_and_not_the_working_tree(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "a.py").write_text(LEAK)
    git("add", "a.py")
    (repository / "a.py").write_text(CLEAN)
    assert main(["review", "--staged", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(f["rule"], f["path"], f["line"]) for f in found] == [("resource-leak", "a.py", 2)]


def test_only_changed_lines_count_against_a_base(repository: Path) -> None:
    (repository / "old.py").write_text(LEAK)
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "second")
    (repository / "old.py").write_text(LEAK + "\nx = 1\n")
    assert main(["review", "--diff-base", "HEAD"]) == 0


def test_baseline_hides_known_findings(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "b.py").write_text(LEAK)
    main(["review", "b.py", "--format", "json"])
    (repository / "base.json").write_text(capsys.readouterr().out)
    (repository / "b.py").write_text("import os\n\n" + LEAK)
    assert main(["review", "b.py", "--baseline", "base.json"]) == 0


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github", "rdjson"])
def test_every_format_names_the_finding(
    repository: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    (repository / "b.py").write_text(LEAK)
    main(["review", "b.py", "--format", form])
    out = capsys.readouterr().out
    assert "resource-leak" in out
    if form in ("json", "sarif", "rdjson"):
        json.loads(out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["review", "missing.py"],
        ["docstring", "a.py", "--style", "baroque", "--model", "none"],
        ["docstring", "a.py", "--symbol", "nobody", "--model", "none"],
        ["review", "--diff-base", "no-such-revision"],
        ["review", "a.py", "--baseline", "a.py"],
        ["complete", "missing.py", "--line", "1", "--column", "1"],
        ["complete", "a.py", "--line", "99", "--column", "1"],
        ["complete", "a.py", "--line", "1", "--column", "99"],
        ["complete", "a.py", "--line", "1", "--column", "1", "--model", "/no/such/model"],
        ["index", "missing"],
    ],
)
def test_wrong_input_ends_with_2_and_says_why(
    repository: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"qcoder {arguments[0]}: ")
    assert captured.out == ""


def test_diff_gives_the_new_sides_lines() -> None:
    diff = "--- a/x.py\n+++ b/x.py\n@@ -1,0 +2,3 @@\n+a\n@@ -9 +12 @@\n-b\n+c\n+++ /dev/null\n@@ -1 +0,0 @@\n"
    assert parse_diff(diff) == {"x.py": frozenset({1, 2, 3, 11})}


def test_an_added_line_is_not_taken_for_a_header() -> None:
    diff = (
        "--- a/x.py\n+++ b/x.py\n@@ -0,0 +1,2 @@\n+++ b/y.py\n+@@ -1 +9 @@\n@@ -4 +7 @@\n-a\n+b\n"
    )
    assert parse_diff(diff) == {"x.py": frozenset({0, 1, 6})}


def test_quoted_paths_are_read() -> None:
    assert list(parse_diff('+++ "b/a\\"b\\tc.py"\n@@ -1 +1 @@\n')) == ['a"b\tc.py']


def test_without_a_choice_the_changes_since_head_are_reviewed(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review"]) == 0
    (repository / "a.py").write_text(LEAK)
    assert main(["review"]) == 1
    git("config", "diff.mnemonicPrefix", "true")
    git("config", "diff.noprefix", "true")
    assert main(["review"]) == 1


def test_outside_a_checkout_review_wants_to_know_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main(["review"]) == 2
    assert "--all" in capsys.readouterr().err


def test_a_moved_submodule_is_no_obstacle(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for commit in ("1" * 40, "2" * 40):
        git("update-index", "--add", "--cacheinfo", f"160000,{commit},vendored")
        assert main(["review", "--staged"]) == 0
        git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "move")
    (repository / "a.py").write_text(LEAK)
    git("add", "a.py")
    git("update-index", "--cacheinfo", f"160000,{'3' * 40},vendored")
    assert main(["review", "--staged", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["findings"]
    assert [finding["path"] for finding in found] == ["a.py"]
    assert main(["review", "--diff-base", "HEAD~1"]) == 1


def test_new_files_are_reviewed_since_head_as_the_index_would_read_them(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sub dir/ä.py", "ignored.py", "left_out.py", "secrets.py", "node_modules/a.py"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(LEAK)
    (repository / "large.py").write_text(LEAK + "x = 1\n" * 200_000)
    (repository / "link.py").symlink_to("sub dir/ä.py")
    (repository / ".gitignore").write_text("ignored.py\n")
    (repository / ".qcoderignore").write_text("left_out.py\n")
    assert main(["review", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(f["path"], f["line"]) for f in found] == [("sub dir/ä.py", 2)]
    assert main(["review", "--diff-base", "HEAD~0"]) == 0


def test_a_changed_file_that_qcoderignore_names_is_not_reviewed(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "a.py").write_text(LEAK)
    assert main(["review"]) == 1
    (repository / ".qcoderignore").write_text("a.py\n")
    assert main(["review"]) == 0
    assert "a.py: left out" in capsys.readouterr().err


def test_excluded_files_are_not_reviewed(repository: Path) -> None:
    (repository / "qcoder.toml").write_text('[privacy]\nexclude = ["b.py"]\n')
    (repository / "b.py").write_text(LEAK)
    assert main(["review", "b.py"]) == 0
    assert main(["review", "--all"]) == 0


def test_a_time_budget_ends_the_run_with_4(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "b.py").write_text(CLEAN)
    assert main(["review", "--all", "--max-seconds", "1e-9", "--format", "json"]) == 4
    captured = capsys.readouterr()
    assert json.loads(captured.out)["stats"] == {"files": 0, "complete": False}
    assert "stopped" in captured.err


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github", "rdjson"])
def test_equal_input_gives_equal_output(
    repository: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    (repository / "b.py").write_text(LEAK)
    (repository / "c.go").write_text("package c\nfunc f(x []int) int { return x[len(x)] }\n")
    outputs = []
    for _ in range(2):
        assert main(["review", "--all", "--format", form]) == 1
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "go-past-the-end" in outputs[0]


def test_rules_that_hint_are_silent_unless_asked(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "b.py").write_text("import os\nif not os.path.exists(p):\n    os.mkdir(p)\n")
    assert main(["review", "b.py"]) == 0
    assert "hint" not in capsys.readouterr().out
    assert main(["review", "b.py", "--hints"]) == 0
    assert "remove-before-check" in capsys.readouterr().out


def test_an_ignore_that_silences_nothing_is_reported_and_fails_nothing(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "b.py").write_text("x = 1  # qcoder: ignore[resource-leak]\n")
    assert main(["review", "b.py"]) == 0
    assert "b.py:1:8: info: resource-leak finds nothing here" in capsys.readouterr().out


def test_staged_with_paths_and_nothing_staged_reviews_whole_files(repository: Path) -> None:
    (repository / "old.py").write_text(LEAK)
    git("add", ".")
    assert main(["review", "--staged", "a.py"]) == 0
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "second")
    assert main(["review", "--staged"]) == 0
    assert main(["review", "--staged", "a.py"]) == 0
    assert main(["review", "--staged", "a.py", "old.py"]) == 1


def test_a_review_with_a_shared_model_goes_behind_the_editors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[int] = []
    monkeypatch.setattr("os.nice", given.append, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("one = 1\n")
    assert main(["review", "a.py"]) == 0
    assert given == []
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "qcoder"
    config.mkdir(parents=True, exist_ok=True)
    (config / "qcoder.toml").write_text("[model]\nshared = true\n")
    assert main(["review", "a.py"]) == 0
    assert len(given) == 1


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (CLEAN, set()),
        ("import os\n" + CLEAN, {0}),
        (CLEAN.replace("path", "file"), {0, 1}),
        (CLEAN + "x = 1\n", {3}),
        (CLEAN.replace("    with", "    # why\n    with"), {1}),
        ("", set()),
    ],
)
def test_lines_that_the_last_commit_has_not(repository: Path, text: str, changed: set[int]) -> None:
    assert lines_since_head(repository, "a.py", text) == changed


def test_a_line_that_comes_or_goes_changes_no_other_one(repository: Path) -> None:
    rows = [f"value_{number} = {number}" for number in range(5000)]
    (repository / "long.py").write_text("\n".join(rows))
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "second")
    more = [*rows[:100], "value = 1", *rows[100:]]
    assert lines_since_head(repository, "long.py", "\n".join(more)) == {100}
    assert lines_since_head(repository, "long.py", "\n".join(["value = 1", *rows])) == {0}
    assert lines_since_head(repository, "long.py", "\n".join([*rows, "value = 1"])) == {5000}
    fewer = [*rows[:100], *rows[101:]]
    assert lines_since_head(repository, "long.py", "\n".join(fewer)) == set()
    assert lines_since_head(repository, "long.py", "\n".join(rows)) == set()


def test_of_a_large_change_all_lines_count(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_COMPARED", 0)
    both_ends = "first\n" + CLEAN + "last\n"
    assert lines_since_head(repository, "a.py", both_ends) == set(range(5))


def test_what_no_commit_has_is_new_as_a_whole(repository: Path, tmp_path: Path) -> None:
    assert lines_since_head(repository, "b.py", CLEAN) is None
    assert lines_since_head(Path("/"), "a.py", CLEAN) is None


def test_without_any_commit_all_files_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(CLEAN)
    git("add", "a.py")
    found = since(tmp_path, "HEAD", lambda path: path.endswith(".py"))
    assert [file.path for file in found] == ["a.py", "b.py"]
    assert all(file.lines >= set(range(CLEAN.count("\n"))) for file in found)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that leaves a mark beside itself when it runs."""
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    program.chmod(0o755)
    return program


def test_a_commit_of_some_files_is_reviewed_by_its_own_index(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository / ".git" / "next-index"))
    git("read-tree", "HEAD")
    (repository / "a.py").write_text(LEAK)
    git("add", "a.py")
    assert [file.path for file in staged(repository)] == ["a.py"]
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert staged(repository) == []


def test_filters_of_a_repository_are_not_run(repository: Path, program: Path) -> None:
    (repository / ".gitattributes").write_text("*.py filter=x\n")
    git("config", "filter.x.clean", str(program))
    git("config", "filter.x.process", str(program))
    (repository / "a.py").write_text(f"{CLEAN}more = 1\n")
    (found,) = since(repository, "HEAD", lambda path: path == "a.py")
    assert found.lines == {CLEAN.count("\n")}
    assert not (program.parent / "ran").exists()


def test_missing_content_of_the_last_commit_is_not_fetched(repository: Path, program: Path) -> None:
    listed = subprocess.run(["git", "rev-parse", "HEAD:a.py"], capture_output=True, check=True)
    blob = listed.stdout.decode().strip()
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for name, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(repository),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": str(program),
    }.items():
        git("config", name, value)
    assert lines_since_head(repository, "a.py", CLEAN) is None
    assert not (program.parent / "ran").exists()

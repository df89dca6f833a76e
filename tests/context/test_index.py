"""The index equals what a fresh one would say: after edits, overlays, restarts and kills."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from language_samples import CASES

from qcoder.context import index as index_module
from qcoder.context import membership, workspace
from qcoder.context.index import Index
from qcoder.context.record import analyse
from qcoder.context.segments import Document

SAMPLE = '''import os
from pkg.b import beta

class Alpha:
    """Holds things."""

    def run(self, value: int) -> int:
        return beta(value)

def alpha_main():
    def hidden():
        pass
    return Alpha().run(1)
'''


def state(index: Index) -> object:
    """Everything that a reader can see, without what depends on when files were read."""
    facts = {path: record.facts for path in index.paths() if (record := index.record(path))}
    return facts, index.maps()


def fresh(root: Path, cache: Path) -> Index:
    index = Index.open(root, cache)
    index.refresh()
    return index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "a.py").write_text(SAMPLE)
    (root / "pkg" / "b.py").write_text("def beta(x):\n    return x\n")
    (root / "notes.md").write_text("# Notes\nbeta is a function.\n")
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_refresh_finds_definitions_mentions_and_imports(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    assert index.paths() == ("notes.md", "pkg/a.py", "pkg/b.py")
    (beta,) = index.definitions("beta")
    assert (beta.path, beta.kind, beta.text) == ("pkg/b.py", "function", "def beta(x):")
    assert index.definitions("hidden") == ()
    assert index.resolve("pkg/b", "pkg/a.py") == ("pkg/b.py",)
    assert set(index.users("beta", 10)) == {"notes.md", "pkg/a.py", "pkg/b.py"}
    report = index.report()
    assert report.files == 3
    assert report.languages == {"markdown": 1, "python": 2}
    assert report.lines == 17
    assert report.symbols == 6


def test_keys_of_data_files_are_no_definitions(root: Path, cache: Path) -> None:
    (root / "beta.json").write_text('{"beta": 1}\n')
    index = fresh(root, cache)
    assert [segment.path for segment in index.definitions("beta")] == ["pkg/b.py"]
    record = index.record("beta.json")
    assert record is not None
    assert [symbol.name for symbol in record.facts.symbols] == ["beta"]


def test_header_is_read_as_what_it_says(root: Path, cache: Path) -> None:
    (root / "a.h").write_text("class Engine {\n public:\n  void start();\n};\n")
    (root / "b.h").write_text("struct engine { int a; };\nvoid start(void);\n")
    index = fresh(root, cache)
    assert index.report().languages["cpp"] == 1
    assert index.report().languages["c"] == 1
    assert [segment.kind for segment in index.definitions("Engine")] == ["class"]


def test_second_start_parses_nothing_and_knows_the_same(root: Path, cache: Path) -> None:
    first = fresh(root, cache)
    second = Index.open(root, cache)
    assert state(second) == state(first)
    for path in root.rglob("*.*"):
        os.utime(path, ns=(1, 1))  # stat says changed, the content says not
    assert second.refresh().parsed == 0


def test_edit_of_equal_size_is_seen(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    (root / "pkg" / "b.py").write_text("def bete(x):\n    return x\n")
    index.refresh()
    assert index.definitions("beta") == ()
    assert len(index.definitions("bete")) == 1


def test_random_updates_equal_a_full_rebuild(root: Path, cache: Path, tmp_path: Path) -> None:
    rng = random.Random(11)
    index = fresh(root, cache)
    names = [f"name_{i}" for i in range(12)]
    for step in range(60):
        path = rng.choice(["pkg/a.py", "pkg/b.py", "c.py", "d/e.go", "f.md", ".env"])
        full = root / path
        if full.exists() and rng.random() < 0.3:
            full.unlink()
        else:
            full.parent.mkdir(exist_ok=True)
            body = "".join(
                f"def {rng.choice(names)}(x):\n    return {rng.choice(names)}(x)\n"
                for _ in range(rng.randint(0, 6))
            )
            full.write_text(body)
        index.update(path)
        if step % 10 == 9:
            assert state(index) == state(fresh(root, tmp_path / f"cache{step}"))


def test_update_of_a_folder_or_an_ignore_file_looks_at_everything(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    (root / "pkg").rename(root / "moved")
    index.update("pkg")
    index.update("moved")
    assert index.paths() == ("moved/a.py", "moved/b.py", "notes.md")
    (root / ".gitignore").write_text("moved/\n")
    index.update(".gitignore")
    assert index.paths() == (".gitignore", "notes.md")


def test_many_updates_at_once_equal_a_rebuild(root: Path, cache: Path, tmp_path: Path) -> None:
    index = fresh(root, cache)
    for i in range(63):
        (root / "pkg" / f"new_{i}.py").write_text(f"def made_{i}(): pass\n")
    (root / "pkg" / "a.py").unlink()
    (root / ".env").write_text("KEY=1\n")
    changed = [f"pkg/new_{i}.py" for i in range(63)]
    index.update_all([*changed, "pkg/a.py", ".env", "never/was.py"])
    assert state(index) == state(fresh(root, tmp_path / "other"))


def test_more_updates_than_one_by_one_look_at_everything(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = fresh(root, cache)
    monkeypatch.setattr(index_module, "MAX_UPDATES", 1)
    (root / "pkg" / "new.py").write_text("def new(): pass\n")
    index.update_all(["notes.md", "pkg/b.py"])
    assert len(index.definitions("new")) == 1


def test_update_keeps_out_what_the_rules_keep_out(root: Path, cache: Path) -> None:
    (root / ".gitignore").write_text("*.gen.py\n")
    index = fresh(root, cache)
    (root / "x.gen.py").write_text("def generated(): pass\n")
    (root / ".env").write_text("KEY=1\n")
    index.update("x.gen.py")
    index.update(".env")
    assert index.definitions("generated") == ()
    assert index.text("x.gen.py") is None
    assert index.text(".env") is None


def test_overlay_wins_over_the_disk_until_it_is_dropped(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    before = state(index)
    document = Document("file:///x", 2, "python", "def gamma(y):\n    pass\n")
    index.overlay("pkg/b.py", document)
    assert index.text("pkg/b.py") == document.text
    assert index.definitions("beta") == ()
    (root / "pkg" / "b.py").write_text("def delta(z):\n    pass\n")
    index.update("pkg/b.py")
    assert index.definitions("delta") == ()
    assert len(index.definitions("gamma")) == 1
    index.drop_overlay("pkg/b.py")
    assert len(index.definitions("delta")) == 1
    (root / "pkg" / "b.py").write_text("def beta(x):\n    return x\n")
    index.update("pkg/b.py")
    assert state(index) == before


def test_overlay_of_a_new_file_is_indexed_and_never_saved(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    index.overlay("new.py", Document("untitled:1", 1, "python", "def fresh_one(): pass\n"))
    assert len(index.definitions("fresh_one")) == 1
    index.save()
    assert "new.py" not in Index.open(root, cache).paths()


def test_saved_buffer_is_not_parsed_again(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    text = "def saved_one(): pass\n"
    index.overlay("pkg/b.py", Document("file:///x", 2, "python", text))
    (root / "pkg" / "b.py").write_text(text)
    index.update("pkg/b.py")
    overlaid = index.record("pkg/b.py")
    index.drop_overlay("pkg/b.py")
    on_disk = index.record("pkg/b.py")
    assert overlaid is not None
    assert on_disk is not None
    assert on_disk.facts is overlaid.facts
    assert len(index.definitions("saved_one")) == 1


def test_buffer_in_another_language_says_nothing_of_the_file(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    text = "def saved_one(): pass\n"
    index.overlay("pkg/b.py", Document("file:///x", 2, "ruby", text))
    (root / "pkg" / "b.py").write_text(text)
    index.update("pkg/b.py")
    index.drop_overlay("pkg/b.py")
    record = index.record("pkg/b.py")
    assert record is not None
    assert record.facts.language == "python"


def test_private_overlays_stay_out(root: Path, cache: Path) -> None:
    (root / ".gitignore").write_text("local/\n")
    index = fresh(root, cache)
    token = "gh" + "p_" + "a1B2" * 9
    for path, text in {
        ".env": "def leak(): pass\n",
        "pkg/b.py": f"def leak(): return '{token}'\n",
        "local/x.py": "def leak(): pass\n",
    }.items():
        index.overlay(path, Document("file:///x", 1, "python", text))
        assert index.definitions("leak") == (), path
        assert index.text(path) is None, path


def init_git(folder: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def leak(index: Index, path: str) -> bool:
    """Whether an open buffer reaches the definitions that other files' prompts are made of."""
    index.overlay(path, Document("file:///x", 1, "python", "def leak(): pass\n"))
    return index.definitions("leak") != ()


def test_open_file_that_only_git_ignores_stays_out(root: Path, cache: Path) -> None:
    init_git(root)
    (root / ".git" / "info" / "exclude").write_text("secret.py\n")
    (root / "secret.py").write_text("")
    index = fresh(root, cache)
    assert not leak(index, "secret.py")
    assert leak(index, "open.py")


def test_rules_above_the_workspace_hold_for_open_files(tmp_path: Path, cache: Path) -> None:
    init_git(tmp_path)
    (tmp_path / ".gitignore").write_text("secret.py\n")
    app = tmp_path / "packages" / "app"
    app.mkdir(parents=True)
    for name in ("secret.py", "main.py"):
        (app / name).write_text("x = 1\n")
    assert not leak(fresh(app, cache), "secret.py")


@pytest.mark.parametrize("in_git", [True, False])
def test_open_file_goes_when_a_rule_comes(root: Path, cache: Path, in_git: bool) -> None:
    if in_git:
        init_git(root)
    index = fresh(root, cache)
    assert leak(index, "pkg/b.py")
    (root / ".qcoderignore").write_text("pkg/b.py\n")
    index.update(".qcoderignore")
    assert index.definitions("leak") == ()
    assert index.text("pkg/b.py") is None
    assert not leak(index, "pkg/b.py")
    (root / ".qcoderignore").unlink()
    index.update(".qcoderignore")
    assert leak(index, "pkg/b.py")


def test_new_buffer_goes_when_it_is_saved_where_git_ignores_it(root: Path, cache: Path) -> None:
    init_git(root)
    (root / ".git" / "info" / "exclude").write_text("scratch/\n")
    index = fresh(root, cache)
    leak(index, "scratch/a.py")
    (root / "scratch").mkdir()
    (root / "scratch" / "a.py").write_text("def leak(): pass\n")
    index.update_all(["scratch/a.py"])
    assert index.definitions("leak") == ()
    assert not leak(index, "scratch/a.py")


def test_typing_asks_git_once(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_git(root)
    index = fresh(root, cache)
    (root / "later.py").write_text("")
    questions = []
    ask = workspace.git_output
    monkeypatch.setattr(
        workspace, "git_output", lambda *words: (questions.append(words), ask(*words))[1]
    )
    for _ in range(3):
        assert leak(index, "later.py")
    assert len(questions) == 1


def test_what_is_built_where_rules_ignore_it_asks_nobody_and_scans_nothing(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_git(root)
    (root / ".gitignore").write_text("build/\n*.log\n")
    index = fresh(root, cache)
    (root / "build" / "deep").mkdir(parents=True)
    built = [f"build/deep/f{i}.py" for i in range(1500)]
    for path in [*built, "run.log", "build/.gitignore"]:
        (root / path).write_text("x = 1\n")
    monkeypatch.setattr(workspace, "git_output", None)
    monkeypatch.setattr(index, "refresh", None)
    changed = ["build", "build/deep", "run.log", "build/.gitignore", *built]
    assert not index.update_all(changed)
    shutil.rmtree(root / "build")
    assert not index.update_all(changed)
    assert "run.log" not in index.paths()


def test_ignore_file_counts_though_it_ignores_itself(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    (root / ".qcoderignore").write_text(".qcoderignore\npkg/b.py\n")
    assert index.update_all([".qcoderignore"])
    assert index.paths() == ("notes.md", "pkg/a.py")


def test_file_under_a_private_buffer_comes_back_when_that_is_closed(
    root: Path, cache: Path
) -> None:
    index = fresh(root, cache)
    before = state(index)
    secret = "key = 'gh" + "p_" + "a1B2" * 9 + "'\n"
    for text in (secret, "x" * 50_000, "x = 1\n" * 200_000):
        index.overlay("pkg/b.py", Document("file:///x", 1, "python", text))
        assert index.record("pkg/b.py") is None
        assert index.definitions("beta") == ()
        assert "pkg/b.py" not in index.paths()
        assert index.num_files() == 2
        index._unsaved += 1
        index.save()
        assert "pkg/b.py" in Index.open(root, cache).paths()
        index.drop_overlay("pkg/b.py")
        assert state(index) == before


def test_bad_files_are_counted_and_the_rest_is_indexed(root: Path, cache: Path) -> None:
    (root / "binary.py").write_bytes(b"\0\1\2")
    (root / "min.js").write_text("var a=1;" * 5000)
    (root / ".env").write_text("A=1")
    with open(root / "huge.py", "wb") as file:
        file.truncate(50_000_000)
    (root / "broken.py").symlink_to("/nonexistent/elsewhere.py")
    (root / "bad.py").write_bytes(b"def caf\xe9(): pass\ndef fine(): pass\n")
    (root / "feed.py").write_text("def one(): pass\n\x0c\ndef two(): pass\n")
    index = fresh(root, cache)
    assert dict(index.report().skipped) == {
        "binary": 1,
        "minified": 1,
        "secret by name": 1,
        "symlink out of the workspace": 1,
        "too large": 1,
    }
    assert index.definitions("two")[0].span.start_line == 2
    assert len(index.definitions("fine")) == 1
    again = Index.open(root, cache)
    assert dict(again.refresh().skipped) == dict(index.report().skipped)


def test_spans_point_into_the_text(root: Path, cache: Path) -> None:
    (root / "u.py").write_text("# ü€\ndef größe():\r\n    pass\r\n", newline="")
    index = fresh(root, cache)
    for name in ("größe", "Alpha", "beta"):
        (segment,) = index.definitions(name)
        text = index.text(segment.path)
        assert text is not None
        shown = text.encode()[segment.span.start_byte : segment.span.end_byte].decode()
        assert name in shown.splitlines()[0]


def test_text_of_a_changed_file_is_none(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    record = index.record("pkg/b.py")
    assert record is not None
    assert index.text_of(record) == "def beta(x):\n    return x\n"
    (root / "pkg" / "b.py").write_text("changed\n")
    assert index.text_of(record) is None
    assert index.text("pkg/b.py") == "changed\n"


def test_stopped_refresh_keeps_what_it_has(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    (root / "pkg" / "b.py").write_text("def later(): pass\n")
    index.refresh(stop=lambda: True)
    assert index.paths() == ("notes.md", "pkg/a.py", "pkg/b.py")
    index.refresh()
    assert len(index.definitions("later")) == 1


def test_progress_reaches_the_total(root: Path, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    Index.open(root, cache).refresh(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_names_and_paths_that_are_no_unicode_survive_a_restart(root: Path, cache: Path) -> None:
    (root / "package.json").write_text('{"name": "half\\ud800", "exports": {"\\udfff": "x"}}')
    odd = os.fsdecode(b"caf\xe9.py")
    (root / odd).write_text("def odd_one(): pass\n")
    first = fresh(root, cache)
    second = Index.open(root, cache)
    assert odd in second.paths()
    assert len(second.definitions("odd_one")) == 1
    assert state(second) == state(first)
    assert second.refresh().parsed == 0


def test_nothing_new_is_not_written_again(root: Path, cache: Path) -> None:
    for path in root.rglob("*.*"):
        os.utime(path, ns=(1, 1))  # too young a file is looked at twice
    fresh(root, cache)
    (file,) = cache.rglob("index.bin")
    before = file.stat().st_ino
    again = Index.open(root, cache)
    assert again.refresh().cache_bytes == file.stat().st_size
    again.save()
    again.close()
    assert file.stat().st_ino == before
    other = Index.open(root, cache, exclude=["*.md"])
    other.refresh()
    other.close()
    assert file.stat().st_ino != before
    assert other.paths() == ("pkg/a.py", "pkg/b.py")


def corrupt_flip(data: bytearray) -> bytes:
    data[len(data) // 2] ^= 0x40
    return bytes(data)


def corrupt_version(data: bytearray) -> bytes:
    data[8] += 1
    return bytes(data)


CORRUPTIONS = {
    "flipped byte": corrupt_flip,
    "other version": corrupt_version,
    "cut off": lambda data: bytes(data[: len(data) // 2]),
    "empty": lambda _: b"",
    "other magic": lambda data: b"X" + bytes(data[1:]),
    "trailing bytes": lambda data: bytes(data) + b"x",
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_bad_cache_costs_one_log_line_and_a_rebuild(
    root: Path, cache: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = fresh(root, cache)
    (file,) = cache.rglob("index.bin")
    file.write_bytes(CORRUPTIONS[kind](bytearray(file.read_bytes())))
    with caplog.at_level(logging.WARNING):
        index = Index.open(root, cache)
    assert len(caplog.records) == 1
    assert "indexed anew" in caplog.text
    assert index.paths() == ()
    index.refresh()
    assert state(index) == state(good)
    caplog.clear()
    assert state(Index.open(root, cache)) == state(good)
    assert not caplog.records


def test_records_of_another_shape_cost_one_log_line(
    root: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = fresh(root, cache)
    index_module.store.save(index._store_file, {"files": [["a"]], "facts": 3, "exclude": []})
    again = Index.open(root, cache)
    assert again.paths() == ()
    assert len(caplog.records) == 1


def test_cache_that_cannot_be_written_costs_one_log_line(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    index = fresh(root, blocked)
    assert len(index.paths()) == 3
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) >= 1


def test_file_that_vanishes_after_the_listing_is_counted(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_files = membership.list_files

    def list_and_lose(*args: object) -> object:
        listing = list_files(*args)
        (root / "pkg" / "b.py").unlink(missing_ok=True)
        return listing

    monkeypatch.setattr(membership, "list_files", list_and_lose)
    index = fresh(root, cache)
    assert index.paths() == ("notes.md", "pkg/a.py")
    assert dict(index.report().skipped) == {"missing": 1}
    monkeypatch.undo()
    assert dict(index.refresh().skipped) == {}


def test_folders_linked_in_a_circle_end(root: Path, cache: Path) -> None:
    (root / "pkg" / "again").symlink_to(root, target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    assert fresh(root, cache).paths() == ("notes.md", "pkg/a.py", "pkg/b.py")


def test_half_written_file_is_looked_at_again(root: Path, cache: Path) -> None:
    text = "def first(): pass\ndef second(): pass\n"
    (root / "pkg" / "b.py").write_text(text[:21])
    index = fresh(root, cache)
    assert index.definitions("second") == ()
    (root / "pkg" / "b.py").write_text(text)
    index.update("pkg/b.py")
    assert len(index.definitions("second")) == 1


@pytest.mark.parametrize("language", ["python", "typescript", "go", "markdown"])
def test_typed_buffer_equals_the_same_text_read_at_once(
    root: Path, cache: Path, tmp_path: Path, language: str
) -> None:
    rng = random.Random(8)
    text = CASES[language][0] * 3
    path = {"python": "t.py", "typescript": "t.ts", "go": "t.go", "markdown": "t.md"}[language]
    index = fresh(root, cache)
    lines = CASES[language][0].splitlines(keepends=True)
    for version in range(40):
        at = text.find("\n", rng.randrange(len(text))) + 1
        text = text[:at] + "".join(rng.choices(lines, k=2)) + text[at:]
        index.overlay(path, Document("file:///t", version, language, text))
    record = index.record(path)
    assert record is not None
    assert record.facts.words == analyse(text, language).words


CHILD = """
import sys
from pathlib import Path
from qcoder.context import index as index_module
from qcoder.context import membership, workspace
index_module.SAVE_EVERY_FILES = 20

def progress(done, total):
    if done == 50:
        print("half", flush=True)
        sys.stdin.read()  # stays here until it is killed

index_module.Index.open(Path(sys.argv[1]), Path(sys.argv[2])).refresh(progress)
"""


def test_killed_refresh_leaves_a_usable_index(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for i in range(80):
        (root / f"m{i:03}.py").write_text(f"def function_{i}():\n    return {i}\n")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"half"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    index = Index.open(root, cache)
    assert len(index.paths()) == 40
    report = index.refresh()
    assert report.parsed == 40
    assert state(index) == state(fresh(root, tmp_path / "other"))


def test_two_indexes_on_one_root_do_not_harm_each_other(root: Path, cache: Path) -> None:
    first, second = Index.open(root, cache), Index.open(root, cache)
    first.refresh()
    second.refresh()

    def save(index: Index) -> None:
        for _ in range(10):
            index.save()

    threads = [threading.Thread(target=save, args=(index,)) for index in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state(Index.open(root, cache)) == state(first)
    (file,) = cache.rglob("index.bin")
    assert list(file.parent.iterdir()) == [file]


def test_readers_and_writers_may_run_at_once(root: Path, cache: Path) -> None:
    index = fresh(root, cache)
    failures: list[BaseException] = []

    def edit() -> None:
        try:
            for i in range(30):
                text = f"def name_{i}():\n    pass\n"
                index.overlay("pkg/b.py", Document("file:///x", i, "python", text))
                index.drop_overlay("pkg/b.py")
                index.refresh()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=edit) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for path in index.paths():
            index.record(path)
        index.definitions("beta")
    assert failures == []
    assert state(index) == state(fresh(root, cache))

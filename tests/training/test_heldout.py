"""Held-out repositories: what counts, what is scored, what cannot be had."""

import sys
import zipfile
from pathlib import Path

import pytest

from qcoder.training import heldout
from qcoder.training.corpus import HELD_OUT
from qcoder.training.heldout import (
    DEVELOPMENT,
    HeldOutError,
    Pinned,
    development,
    fetch,
    listed,
    read_repository,
    sample,
)

SOURCE = "def add(first, second):\n    return first + second\n\n\n" * 10


def write(root: Path, path: str, text: str = SOURCE) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_tests_and_generated_and_tiny_files_are_no_part_of_a_repository(tmp_path: Path) -> None:
    for path in ("pkg/a.py", "pkg/tests/b.py", "pkg/c_test.go", "pkg/d.d.ts", "pkg/notes.xyz"):
        write(tmp_path, path)
    write(tmp_path, "pkg/tiny.py", "x = 1\n")
    write(tmp_path, "pkg/wide.py", "x = '" + "a" * 2000 + "'\n")
    (tmp_path / "pkg" / "binary.py").write_bytes(b"\xff\xfe" * 400)
    assert [file.path for file in read_repository("pkg", tmp_path)] == ["pkg/a.py"]


def test_list_names_repository_and_file(tmp_path: Path) -> None:
    write(tmp_path, "one/src/a.py")
    write(tmp_path, "one/src/b.py")
    write(tmp_path, "two/main.go", "package main\n" * 40)
    names = tmp_path / "files.txt"
    names.write_text("one/src/a.py\n\ntwo/main.go\none/missing.py\none/src/a.py\n")
    held_out = listed(tmp_path, names)
    assert [(f.repository, f.path) for f in held_out.scored] == [
        ("one", "src/a.py"), ("two", "main.go"),
    ]  # fmt: skip
    assert held_out.languages == ("python", "go")
    assert [f.path for f in held_out.others(held_out.scored[0])] == ["src/b.py"]
    assert any("one/missing.py" in note for note in held_out.notes)


def test_nearest_files_of_the_same_language_come_first(tmp_path: Path) -> None:
    for path in ("a/b/open.py", "a/b/near.py", "a/far.py", "a/b/other.go", "c/d/e.py"):
        write(tmp_path, f"one/{path}")
    names = tmp_path / "files.txt"
    names.write_text("one/a/b/open.py\n")
    held_out = listed(tmp_path, names)
    assert [f.path for f in held_out.others(held_out.scored[0])] == [
        "a/b/near.py", "a/far.py", "c/d/e.py", "a/b/other.go",
    ]  # fmt: skip


def test_list_without_any_source_says_so(tmp_path: Path) -> None:
    names = tmp_path / "files.txt"
    names.write_text("one/missing.py\n")
    with pytest.raises(HeldOutError, match=r"files\.txt: no line names"):
        listed(tmp_path, names)


def test_sample_takes_turns_between_repositories(tmp_path: Path) -> None:
    for name in ("big/a.py", "big/b.py", "big/c.py", "small/a.py"):
        write(tmp_path, name)
    files = [f for name in ("big", "small") for f in read_repository(name, tmp_path / name)]
    chosen = [file.repository for file in sample(files, 1)]
    assert chosen == ["big", "small", "big", "big"]
    assert sample(files, 1) == sample(files, 1)


def test_what_cannot_be_fetched_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip, npm = Pinned("a", "python", "pip", ("a==1",)), Pinned("b", "go", "npm", ("b@2",))
    monkeypatch.setattr(heldout, "DEVELOPMENT", (pip, npm))
    write(tmp_path, "a-1/a/code.py")
    monkeypatch.setitem(heldout.DOWNLOADS, "npm", lambda name: ("no-such-program", name))
    held_out = development(tmp_path)
    assert [file.path for file in held_out.scored] == ["a/code.py"]
    assert any("b@2 needs no-such-program" in note for note in held_out.notes)


def test_package_is_fetched_once_and_its_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = "import zipfile; zipfile.ZipFile('a-1.whl', 'w').writestr('a/code.py', 'x = 1')"
    monkeypatch.setitem(heldout.DOWNLOADS, "pip", lambda name: (sys.executable, "-c", make))
    pinned = Pinned("a", "python", "pip", ("a==1",))
    root = fetch(pinned, tmp_path)
    assert (root / "a" / "code.py").read_text() == "x = 1"
    monkeypatch.setitem(heldout.DOWNLOADS, "pip", lambda name: (sys.executable, "-c", "exit(3)"))
    assert fetch(pinned, tmp_path) == root
    with pytest.raises(HeldOutError, match="cannot be fetched"):
        fetch(Pinned("b", "python", "pip", ("b==1",)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a-1"]
    assert not zipfile.is_zipfile(root / "a" / "code.py")


def test_development_packages_by_name_are_refused_by_the_corpus() -> None:
    """Debian's packages are never given to the corpus; pip's and npm's it refuses itself."""
    names = {p.name for p in DEVELOPMENT if p.registry in ("pip", "npm")}
    assert names <= set(HELD_OUT)

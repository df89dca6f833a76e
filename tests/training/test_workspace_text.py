"""What `qcoder train` reads of a workspace, and how it is split."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from qcoder.training import workspace_text
from qcoder.training.items import Source
from qcoder.training.workspace_text import Drawn, read_workspace, split_files, without_copies

FUNCTION = "def name_{0}(first_argument, second_argument_{0}):\n    return first_argument * {0}\n\n"


def code(seed: int, functions: int = 5) -> str:
    """Functions that no other seed has."""
    return "".join(FUNCTION.format(1000 * seed + number) for number in range(functions))


def source(path: str, text: str = "") -> Source:
    return Source("w", path, text or code(hash(path) % 977))


def test_only_source_code_that_passes_the_gate_is_read(tmp_path: Path) -> None:
    files = {
        "a.py": code(1),
        "sub/b.go": code(2),
        "README.md": code(3),
        "short.py": "x = 1\n",
        "made.py": "# This file is auto-generated, do not edit\n" + code(4),
        "key.py": code(5) + "KEY = '-----BEGIN PRIVATE KEY-----'\n",
        "credentials.py": code(6),
        "customers/c.py": code(7),
        "skipped.py": code(8),
        "copy_of_a.py": code(1).replace("\n", "\r\n"),
        "/".join(["deep" * 20] * 6 + ["d.py"]): code(9),
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode())
    (tmp_path / ".qcoderignore").write_text("skipped.py\n")
    found = read_workspace(tmp_path, ["customers/"])
    assert [file.path for file in found.files] == ["a.py", "sub/b.go"]
    assert found.files[0].text == code(1)
    assert found.lines == 30
    assert found.skipped == {
        "not source code": 2,
        "too short": 1,
        "path too long": 1,
        "generated": 1,
        "secret in content": 1,
        "secret by name": 1,
        "excluded by settings": 1,
        "ignored": 1,
        "copy of another file": 1,
    }


def test_of_a_large_workspace_a_sample_over_all_folders_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        path = tmp_path / f"part_{number // 10}" / f"file_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code(number))
    monkeypatch.setattr(workspace_text, "MAX_TOTAL_CHARACTERS", 20 * len(code(10)))
    found = read_workspace(tmp_path)
    paths = [file.path for file in found.files]
    assert len(paths) + found.skipped["beyond the limit of all text"] == 40
    assert 18 <= len(paths) <= 22
    assert paths == sorted(paths)
    assert {path[:6] for path in paths} == {"part_0", "part_1", "part_2", "part_3"}


def test_a_file_that_shares_most_telling_lines_with_an_earlier_one_is_a_copy() -> None:
    original, changed = code(1, 10), code(1, 8) + code(2, 2)
    other = code(1, 3) + code(3, 7)
    files = [source("a.py", original), source("b.py", changed), source("c.py", other)]
    assert [file.path for file in without_copies(files)] == ["a.py", "c.py"]


def test_held_out_files_are_spread_over_the_folders_and_never_trained_on() -> None:
    files = [source(f"{folder}/{n}.py") for folder in "abcd" for n in range(16)]
    split = split_files(files, seed=3)
    held_out = [*split.choosing, *split.reporting]
    assert {file.path for file in held_out}.isdisjoint(file.path for file in split.trained)
    assert len(split.trained) + len(held_out) == len(files)
    assert (len(split.choosing), len(split.reporting)) == (4, 4)
    assert {file.path[0] for file in held_out} == set("abcd")
    assert split == split_files(files[::-1], seed=3)
    assert any(split != split_files(files, seed=seed) for seed in (4, 5, 6))


def test_few_files_still_give_both_halves_something() -> None:
    split = split_files([source(f"{n}.py") for n in range(20)], seed=0)
    assert (len(split.trained), len(split.choosing), len(split.reporting)) == (17, 1, 2)


def test_files_are_drawn_by_length_and_neighbours_are_near() -> None:
    files = [
        source("a/long.py", code(1, 90)), source("a/near.py", code(1, 10)),
        source("b/far.py", code(3, 10)), source("a/other.go", code(1, 10)),
    ]  # fmt: skip
    drawn, rng = Drawn(files), random.Random(0)
    seen = [drawn.draw(rng) for _ in range(400)]
    share = sum(file is files[0] for _, file in seen) / len(seen)
    assert 0.65 < share < 0.85
    assert {language for language, _ in seen} == {"python", "go"}
    near = [drawn.neighbour("python", files[0], rng) for _ in range(60)]
    assert sum(file is files[1] for file in near) > 40
    alone = Drawn(files[:1])
    assert alone.neighbour("python", files[0], rng) is files[0]

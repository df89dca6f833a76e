"""The review benchmark scores any repository, with its own mutants or those of somebody else."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "review_recall.py"
CLEAN = """import threading
import time


def load(path):
    with open(path) as file:
        data = file.read()
    return data


async def wait(flag):
    while not flag.is_set():
        await pause(flag)


async def pause(flag):
    flag.count = 1
"""


def run(*arguments: str, cwd: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), "--format", "json", "--no-peers", "--model", "none", *arguments],
        cwd=cwd, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_bugs_are_injected_and_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CLEAN)
    first = run("--root", str(tmp_path), cwd=tmp_path)
    figures = first["figures"]
    assert isinstance(figures, dict)
    assert figures["qcoder recall with-open-removed %"] == 100
    assert figures["qcoder recall await-removed-local %"] == 100
    assert figures["findings per thousand untouched lines"] == 0
    assert run("--root", str(tmp_path), cwd=tmp_path)["figures"] == figures


def test_mutants_of_another_author_are_scored(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CLEAN)
    rows = [
        {"class": "leak", "path": "a.py", "start_line": 6, "end_line": 7}
        | {"lines": ["    file = open(path)", "    data = file.read()"]},
        {"class": "logic", "path": "a.py", "line": 1, "text": CLEAN.replace("= 1", "= 2")},
    ]
    (tmp_path / "mutants.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    answer = run("--root", ".", "--mutants", "mutants.jsonl", cwd=tmp_path)
    figures = answer["figures"]
    assert isinstance(figures, dict)
    assert figures["qcoder recall leak %"] == 100
    assert figures["qcoder recall leak and concurrency %"] == 100
    assert figures["qcoder recall logic %"] == 0


@pytest.fixture
def recall(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("review_recall")


def test_hostile_comments_are_comments_and_nothing_else(recall: ModuleType) -> None:
    text, numbers = recall.hostile(CLEAN)
    assert text.count("# ") == 6
    assert recall.same_strings(CLEAN, text)
    lines, before = text.split("\n"), CLEAN.split("\n")
    assert all(lines[numbers[n]] == line for n, line in enumerate(before))


def test_changed_lines_of_both_sides(recall: ModuleType) -> None:
    before, after = recall.changed_lines("a\nb\nc\nd", "a\nx\nd")
    assert (before, after) == ({1, 2}, {1})


@pytest.mark.parametrize(
    ("kind", "logic"),
    [
        ("off-by-one", True), ("Variable misuse", True), ("argument_swap", True), ("lock-removed", False),
        ("async-with-made-plain", False), ("leak", False), ("logic", True),
    ],
)  # fmt: skip
def test_classes_of_others_are_told_apart_by_name(
    recall: ModuleType, kind: str, logic: bool
) -> None:
    assert recall.is_logic(kind) == logic

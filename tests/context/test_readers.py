"""Reading in processes gives what reading here gives, and survives processes that do not."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from qcoder.context import readers
from qcoder.context.privacy import exclude_spec
from qcoder.context.readers import read_files, read_record
from qcoder.context.reading import Request
from qcoder.context.record import FileRecord, analyse

# A worker that does something else when it gets to a file named so.
BROKEN_WORKER = """
import os, sys, threading
from qcoder.context import worker
read = worker.read

def broken(root, path, exclude, known_hash):
    if path.endswith("crash.py"):
        os._exit(11)
    if path.endswith("hang.py"):
        threading.Event().wait()
    return read(root, path, exclude, known_hash)

row_of = worker.row_of

def lying(path, outcome):
    return ["other.py", "binary"] if path.endswith("lie.py") else row_of(path, outcome)

worker.read, worker.row_of = broken, lying
worker.main()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(63):
        (tmp_path / f"m{i:02}.py").write_text(f"def function_{i}(x):\n    return call_{i}(x)\n")
    (tmp_path / "binary.py").write_bytes(b"\0")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("def odd(): pass\n")
    return tmp_path


def requests_of(root: Path) -> list[Request]:
    return [Request(path.name, 40) for path in sorted(root.glob("*.py"))]


def outcomes(root: Path, requests: Sequence[Request], processes: int) -> dict[str, object]:
    found = dict(read_files(root, requests, (), lambda: False, processes))
    return {
        path: outcome.facts if isinstance(outcome, FileRecord) else outcome
        for path, outcome in found.items()
    }


def test_processes_read_what_this_one_reads(root: Path) -> None:
    requests = requests_of(root)
    here = outcomes(root, requests, 1)
    assert len(here) == 66
    assert here["binary.py"] == "binary"
    assert outcomes(root, requests, 3) == here


def test_known_content_is_not_sent_back(root: Path) -> None:
    known = analyse((root / "m00.py").read_text(), "python")
    requests = [Request("m00.py", 40, known), Request("m01.py", 40, known)]
    found = dict(read_files(root, requests, (), lambda: False, 2))
    first, second = found["m00.py"], found["m01.py"]
    assert isinstance(first, FileRecord)
    assert first.facts is known
    assert isinstance(second, FileRecord)
    assert [symbol.name for symbol in second.facts.symbols] == ["function_1"]


@pytest.mark.parametrize("name", ["a_crash.py", "z_crash.py", "hang.py"])
def test_file_that_ends_a_parser_becomes_plain_text(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readers, "COMMAND", (sys.executable, "-P", "-c", BROKEN_WORKER))
    monkeypatch.setattr(readers, "SILENCE_S", 2.0)
    (root / name).write_text("def dangerous():\n    pass\n")
    requests = requests_of(root)
    with caplog.at_level(logging.WARNING):
        found = dict(read_files(root, requests, (), lambda: False, 2))
    assert len(found) == len(requests)
    spoiled, fine = found[name], found["m07.py"]
    assert isinstance(spoiled, FileRecord)
    assert isinstance(fine, FileRecord)
    assert spoiled.facts.language == "text"
    assert spoiled.facts.symbols == ()
    assert "dangerous" in spoiled.facts.identifiers
    assert [symbol.name for symbol in fine.facts.symbols] == ["function_7"]
    assert [name in record.getMessage() for record in caplog.records] == [True]
    # Nor does the next version of that text come near a parser in this process.
    (root / name).write_text("def dangerous_too():\n    pass\n")
    again = read_record(root, Request(name, 40, spoiled.facts), exclude_spec(()))
    assert isinstance(again, FileRecord)
    assert again.facts.language == "text"


def test_message_that_makes_no_sense_costs_no_other_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "COMMAND", (sys.executable, "-P", "-c", BROKEN_WORKER))
    requests = requests_of(root)
    here = outcomes(root, requests, 1)
    (root / "m63_lie.py").write_text("def odd():\n    pass\n")
    found = outcomes(root, [*requests, Request("m63_lie.py", 40)], 2)
    assert found.pop("m63_lie.py") == analyse("def odd():\n    pass\n", "text")
    assert found == here


@pytest.mark.parametrize(
    "command", [("/nonexistent/python",), (sys.executable, "-c", "raise SystemExit(3)")]
)
def test_files_are_read_here_when_no_process_comes_up(
    root: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_of(root)
    here = outcomes(root, requests, 1)
    monkeypatch.setattr(readers, "COMMAND", command)
    assert outcomes(root, requests, 2) == here


def test_stop_ends_early(root: Path) -> None:
    for processes in (1, 2):
        assert list(read_files(root, requests_of(root), (), lambda: True, processes)) == []

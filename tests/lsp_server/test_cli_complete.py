import json
from pathlib import Path

import pytest

from qcoder.lsp_server import cli_complete
from qcoder.lsp_server.cli import main
from qcoder.model.engine import Engine
from qcoder.model.fake import FakeEngine

COMPLETE_KEYS = {
    "text", "tokens", "finish_reason", "confidence", "prompt_tokens", "reused_tokens",
    "temperature", "sources", "segments", "timings_ms",
}  # fmt: skip
TIMINGS = {"index", "pack", "prefill", "decode", "post", "total"}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "shapes.py").write_text("def area(width, height):\n    return width * height\n")
    (tmp_path / "main.py").write_text("from shapes import area\n\ntotal = \n")
    return tmp_path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine of the commands answers "area(2, 3)"."""
    fake = FakeEngine(["area(2, 3)\n"])
    monkeypatch.setattr(cli_complete, "load_engine", lambda name: fake)
    return fake


def complete(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main(["complete", "main.py", "--line", "3", "--column", "9", *options]) == 0
    return capsys.readouterr().out


def test_a_model_that_cannot_fill_in_is_wrong_input(
    workspace: Path,
    engine: FakeEngine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    special = {name: i for name, i in engine.tokenizer.special.items() if "suffix" not in name}
    monkeypatch.setattr(type(engine.tokenizer), "special", special)
    assert main(["complete", "main.py", "--line", "3", "--column", "9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qcoder complete: tokenizer.json has no <|fim_suffix|>")
    assert error.count("\n") == 1


def test_text_is_the_completion_alone(
    workspace: Path, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(capsys) == "area(2, 3)\n"


def test_json_has_the_documented_keys(
    workspace: Path, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(complete(capsys, "--format", "json"))
    assert set(found) >= COMPLETE_KEYS
    assert set(found["timings_ms"]) >= TIMINGS
    assert found["text"] == "area(2, 3)"
    assert found["sources"] == {"model": found["tokens"], "ngram": 0}
    segments = [s for s in found["segments"] if s["path"] == "shapes.py"]
    assert segments
    assert all(set(s) >= {"path", "start_line", "end_line", "tokens", "reason"} for s in segments)
    assert min(s["start_line"] for s in segments) == 1


def test_nothing_to_say_is_an_answer_with_the_same_keys(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_complete, "load_engine", lambda name: FakeEngine([""]))
    found = json.loads(complete(capsys, "--format", "json"))
    assert set(found) >= COMPLETE_KEYS
    assert (found["text"], found["reason"]) == ("", "empty")
    assert main(["complete", "main.py", "--line", "3", "--column", "9"]) == 0
    said = capsys.readouterr()
    assert said.out == "\n"
    assert "main.py:3:9: the model wrote nothing" in said.err


def test_what_was_filtered_is_said(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_complete, "load_engine", lambda name: FakeEngine(["<|endoftext|>"]))
    found = json.loads(complete(capsys, "--format", "json"))
    assert (found["reason"], found["filters"]) == ("filtered", ["special tokens"])


def test_refused_file_ends_with_2_before_the_model_is_loaded(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str | None) -> Engine:
        raise AssertionError("the model must not be loaded")

    monkeypatch.setattr(cli_complete, "load_engine", load)
    (workspace / ".env").write_text("KEY=1\n")
    (workspace / "k.py").write_text("k = '''-----BEGIN PRIVATE KEY-----'''\n")
    (workspace / "qcoder.toml").write_text('[privacy]\nexclude = ["main.py"]\n')
    for name in (".env", "k.py", "main.py"):
        assert main(["complete", name, "--line", "1", "--column", "1"]) == 2
        assert "refused" in capsys.readouterr().err


def test_internal_error_ends_with_3_and_a_hint(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str | None) -> Engine:
        raise RuntimeError("boom")

    monkeypatch.setattr(cli_complete, "load_engine", load)
    assert main(["complete", "main.py", "--line", "3", "--column", "9"]) == 3
    assert "qcoder doctor" in capsys.readouterr().err

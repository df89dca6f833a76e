"""The peers of the default model fill the same holes as it does, with what they may know."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.request import TokenOut
from qcoder.model.tokenizer import Tokenizer
from qcoder.training.heldout import HeldOut, SourceFile
from qcoder.training.holes import Hole
from qcoder.training.left_to_right import COPY, NESTED, TRAINED, surroundings
from qcoder.training.peers import CountTable

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from filling import peers, server

TOKENIZER = Tokenizer.load(DEFAULT_FOLDER)
LINE = "    return self.connection.request(method, url, headers=headers)"
OTHER = f"def fetch(self, method, url, headers):\n{LINE}\n\n\ndef close(self):\n    pass\n"
TEXT = f"def again(self, method, url, headers):\n{LINE}\n\n\ndef end(self):\n    pass\n"


def source(path: str, text: str) -> SourceFile:
    return SourceFile("repo", Path("/nowhere"), path, "python", text)


FILE = source("a.py", TEXT)


def filled(at: int, others: tuple[SourceFile, ...], trained: CountTable | None) -> dict[str, str]:
    end = TEXT.index("\n", at)
    hole = Hole(FILE, "rest_of_line", at, TEXT[at:end])
    around = surroundings(HeldOut((FILE,), {"repo": others}, ()), FILE, TOKENIZER.encode)
    return peers.fill(hole, peers.Opened.of(around), peers.Peers.of(TOKENIZER, trained))


@pytest.mark.parametrize("begins", ["return self.", "nection.request", "(method", "headers)"])
def test_a_line_that_the_workspace_has_is_found_by_all_of_them(begins: str) -> None:
    at = TEXT.index(begins)
    trained = CountTable.build([TOKENIZER.encode("x = 1\n")], 4)
    found = filled(at, (FILE, source("b.py", OTHER)), trained)
    assert found == dict.fromkeys((COPY, NESTED, TRAINED), TEXT[at : TEXT.index("\n", at)])


def test_the_file_that_misses_the_line_does_not_help() -> None:
    at = TEXT.index("nection.request")
    found = filled(at, (FILE, source("b.py", "x = 1\n" * 9)), None)
    assert set(found) == {COPY, NESTED}
    assert TEXT[at : TEXT.index("\n", at)] not in found.values()


def test_text_behind_the_hole_counts() -> None:
    text = f"def again(self):\n{LINE}\n" * 2
    file = source("a.py", text)
    at = text.index("nection.request")
    hole = Hole(file, "rest_of_line", at, text[at : text.index("\n", at)])
    found = peers.fill(hole, peers.Opened(None, []), peers.Peers.of(TOKENIZER, None))
    assert found == dict.fromkeys((COPY, NESTED), hole.truth)


def test_a_place_where_the_server_asks_nothing_has_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "prepare", lambda *_: None)
    monkeypatch.setattr(server, "complete", lambda *_, **__: None)
    engine: Any = server.Recorder(SimpleNamespace(tokenizer=TOKENIZER))  # type: ignore[arg-type]
    engine.outs = [TokenOut(1, "of the hole before", 0.0, "model")]
    index: Any = SimpleNamespace(overlay=lambda *_: None)
    at = TEXT.index("return self.")
    hole = Hole(FILE, "rest_of_line", at, TEXT[at : TEXT.index("\n", at)])
    filled = server.fill(hole, server.Opened(FILE, index, None), engine)
    assert (filled.text, filled.ended, filled.shown) == ("", False, "")

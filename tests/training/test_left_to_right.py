"""Figures of teacher-forced prediction."""

from pathlib import Path

import numpy as np
import pytest

from qcoder.model.line_ends import LineEnds
from qcoder.training.heldout import HeldOut, SourceFile
from qcoder.training.left_to_right import (
    Predicted,
    figures,
    follow,
    head,
    line_masks,
    surroundings,
)
from qcoder.training.peers import Probabilities
from qcoder.training.traces import token_starts


class Always:
    """Predicts one token with probability 1/2 and all of four alike with the rest."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.pushed: list[int] = []

    def probabilities(self) -> Probabilities:
        probabilities = np.full(4, 0.125)
        probabilities[self.token] += 0.5
        return probabilities

    def push(self, token: int) -> None:
        self.pushed.append(token)


def test_every_predictor_is_told_the_true_tokens() -> None:
    one = Always(1)
    truth, right, right_text = follow(one, [1, 2, 2], LineEnds([b"a", b"b", b"c", b"d"], ()))
    assert one.pushed == [1, 2, 2]
    assert truth.tolist() == [0.625, 0.125, 0.125]
    assert right.tolist() == right_text.tolist() == [True, False, False]


def test_it_does_not_matter_which_token_ends_a_line() -> None:
    ends = LineEnds([b"a", b")\n", b")\n\n", b"\n"], {0})
    _, right, right_text = follow(Always(1), [1, 2, 3], ends)
    assert right.tolist() == [True, False, False]
    assert right_text.tolist() == [True, True, False]


def test_tokens_begin_in_characters() -> None:
    class Tokens:
        def token_bytes(self, token_id: int) -> bytes:
            return (b"a", "é".encode()[:1], "é".encode()[1:] + b"b", "語\n".encode(), b"c")[
                token_id
            ]

    # a é b 語 \n c: the letter in the middle belongs to two tokens.
    assert token_starts(Tokens(), [0, 1, 2, 3, 4]).tolist() == [0, 1, 1, 3, 5]
    assert token_starts(Tokens(), []).tolist() == []


def test_lines_are_masked_from_their_first_word_to_their_end() -> None:
    text = "if a:\n    go = b\n\nx\n"
    # Tokens: "if", " a", ":\n", "   ", " go", " =", " b", "\n\n", "x", "\n"
    starts = np.array([0, 2, 4, 6, 9, 12, 14, 16, 18, 19])
    masks = [(whole.tolist(), rest.tolist()) for whole, rest in line_masks(text, starts)]
    assert masks == [([0, 1, 2], [1, 2]), ([4, 5, 6], [5, 6])]


def test_figures_count_tokens_bits_and_lines() -> None:
    text = "a b\nc d\n"
    right = np.array([True, True, True, False, True, True])
    predicted = Predicted(
        text,
        np.array([0, 1, 3, 4, 5, 7]),
        {"p": np.full(6, 0.25)},
        {"p": right},
        {"p": right},
    )
    values = figures([predicted])["p"]
    assert values["token_accuracy"] == pytest.approx(5 / 6)
    assert values["bits_per_byte"] == pytest.approx(12 / 8)
    assert values["whole_line_exact"] == 0.5
    assert values["rest_of_line_exact"] == 1.0


def test_all_predictors_see_the_same_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcoder.training.left_to_right.WORKSPACE_TOKENS", 9)
    paths = ("p/a.py", "p/b.py", "q/c.py", "r/d.py")
    files = tuple(SourceFile("one", Path("/x"), path, "python", path) for path in paths)
    held_out = HeldOut(files[:1], {"one": files}, ())
    around = surroundings(held_out, files[0], lambda text: list(text.encode()))
    assert [bytes(ids).decode() for ids in around.workspace] == ["p/b.py", "q/c"]
    assert [bytes(ids).decode() for ids in around.folder] == ["p/b.py"]
    table = around.suffix_table()
    assert table is not None
    assert table.ids.tolist() == list(b"p/b.pyq/c")
    assert [counts.num_tokens for counts in around.count_tables()] == [9, 6]


def test_head_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcoder.training.left_to_right.MAX_CHARACTERS", 7)
    assert head("ab\ncd\nefgh\n") == "ab\ncd\n"
    assert head("ab\n") == "ab\n"

"""Holes are cut where they should be, and what fills them is scored right."""

from pathlib import Path

import pytest

from qcoder.training.heldout import SourceFile
from qcoder.training.holes import (
    PER_FILE,
    Filled,
    Hole,
    curve,
    cut_holes,
    figures,
    parses,
    threshold_for,
)

TEXT = "def total(values):\n    result = sum(values)   \n\n    return result * 2\n" * 9


def source(text: str = TEXT, path: str = "a.py") -> SourceFile:
    return SourceFile("repo", Path("/nowhere"), path, "python", text)


def filled(text: str, confidence: float = 0.9, *, truth: str = "sum(values)") -> Filled:
    at = TEXT.index(truth)
    shown = text if confidence >= 0.5 else ""
    return Filled(
        Hole(source(), "rest_of_line", at, truth), text, True, True, text, confidence, shown, 0.1
    )


def test_holes_are_seeded_and_of_both_kinds() -> None:
    files = [source(path="a.py"), source(path="b.py")]
    holes = cut_holes(files, 15, 3)
    assert holes == cut_holes(files, 15, 3)
    assert holes != cut_holes(files, 15, 4)
    assert [h.kind for h in holes].count("whole_line") == 7
    assert max(sum(h.file.path == p and h.kind == "whole_line" for h in holes) for p in "ab") <= (
        PER_FILE
    )


def test_hole_ends_with_its_line_and_nothing_else_is_lost() -> None:
    for hole in cut_holes([source()], 10, 1):
        assert hole.prefix + hole.truth + hole.suffix == TEXT
        assert hole.suffix.lstrip(" ").startswith("\n")
        line = TEXT.split("\n")[hole.line]
        assert line[hole.column :].rstrip() == hole.truth
        if hole.kind == "whole_line":
            assert not line[: hole.column].strip()
        else:
            assert line[: hole.column].strip()


def test_exact_ignores_trailing_blanks_only() -> None:
    assert filled("sum(values)  ").exact
    assert not filled(" sum(values)").exact
    assert not filled("sum(values) + 1").exact


def test_stopping_is_judged_on_texts_that_agree() -> None:
    scored = figures(
        [filled("sum(values)"), filled("sum(va"), filled("sum(values) + 1"), filled("x")]
    )
    assert scored["exact"] == 0.25
    assert scored["stop_right"] == pytest.approx(1 / 3)
    assert scored["shown_begins_right"] == 0.5


def test_text_that_breaks_the_syntax_does_not_parse() -> None:
    hole = filled("").hole
    assert parses(hole, "sum(values)")
    assert parses(hole, "max(values)")
    assert not parses(hole, "sum(values))) def")
    assert not parses(hole, "sum(")


def test_figures_of_what_is_shown_leave_out_what_is_not() -> None:
    scored = figures([filled("sum(values)", 0.9), filled("wrong", 0.1), filled("also wrong", 0.2)])
    assert scored["coverage"] == pytest.approx(1 / 3)
    assert scored["shown_right"] == 1
    assert scored["p50_ms"] == pytest.approx(100)
    assert figures([]) == {}


def test_curve_and_threshold_count_from_the_surest_on() -> None:
    some = [
        filled("sum(values)", 0.9),
        filled("wrong", 0.8),
        filled("wrong", 0.7),
        filled("sum(values)", 0.6),
        filled("wrong", 0.5),
        filled("", 0.0),
    ]
    assert curve(some, (0.85, 0.5)) == [(1 / 6, 1.0), (5 / 6, 0.4)]
    assert threshold_for(some, 0.5) == 0.6
    assert threshold_for(some, 1.0) == 0.9
    assert threshold_for([filled("wrong")], 0.5) == 1.0

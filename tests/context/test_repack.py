from dataclasses import replace
from pathlib import Path

import pytest

from qcoder.context.index import Index
from qcoder.context.pack import WINDOW_SLACK, pack
from qcoder.context.repack import repack
from qcoder.context.segments import Document, PackedContext

BUDGET = 300
FILES = {
    "shapes.py": "class Circle:\n    def area(self) -> float:\n        return 3.0\n" * 8,
    "tools.py": "def scale(shape, factor):\n    return shape.area() * factor\n" * 8,
}
HEAD = "from shapes import Circle\nfrom tools import scale\n\n\ndef main() -> None:\n    "
TAIL = "\n    print('done')\n\n\nmain()\n"


def count(text: str) -> int:
    return len(text.split(" ")) + text.count("\n")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    index = Index.open(tmp_path, tmp_path / "cache")
    index.refresh()
    return index


def document(typed: str, rest: str = "", tail: str = TAIL) -> Document:
    return Document("file:///main.py", 1, "python", HEAD + typed + rest + tail)


def packed(index: Index, typed: str) -> PackedContext:
    place = (5, 4 + len(typed))
    return pack(index, document(typed), "main.py", *place, BUDGET, count)


def again(
    last: PackedContext, before: str, now: Document, typed: str, line: int = 5
) -> PackedContext | None:
    return repack(last, HEAD + before, now, line, 4 + len(typed), count, WINDOW_SLACK)


@pytest.mark.parametrize("typed", ["s", "scale(Cir", "scale(Circle(), 2"])
def test_typing_on_in_a_line_keeps_every_segment(index: Index, typed: str) -> None:
    last = packed(index, "")
    assert last.segments
    kept = again(last, "", document(typed), typed)
    assert kept is not None
    assert kept.segments is last.segments
    assert kept.window.prefix.endswith(f"    {typed}")
    assert kept.window.suffix == last.window.suffix
    assert kept.tokens + 2 * len(kept.segments) <= BUDGET - WINDOW_SLACK


def test_what_an_editor_closes_behind_the_cursor_is_in_the_window(index: Index) -> None:
    kept = again(packed(index, ""), "", document("scale(", ")"), "scale(")
    assert kept is not None
    assert kept.window.suffix.startswith(")\n    print")


def test_deleting_in_the_line_keeps_it_too(index: Index) -> None:
    assert again(packed(index, "scale"), "scale", document("sc"), "sc") is not None


def test_a_dot_asks_for_something_else(index: Index) -> None:
    assert again(packed(index, "Circle"), "Circle", document("Circle."), "Circle.") is None


def test_another_line_is_another_place(index: Index) -> None:
    last = packed(index, "x")
    now = replace(document("x"), text=HEAD + "x\n    y" + TAIL)
    assert again(last, "x", now, "y", line=6) is None


@pytest.mark.parametrize("changed", ["above", "below"])
def test_changed_lines_around_are_seen(index: Index, changed: str) -> None:
    last, now = packed(index, "x"), document("xy")
    edits = {"above": ("import scale", "import other"), "below": ("'done'", "'over'")}
    now = replace(now, text=now.text.replace(*edits[changed]))
    assert again(last, "x", now, "xy") is None


def test_a_line_that_outgrows_the_budget_is_packed_anew(index: Index) -> None:
    typed = "a " * BUDGET
    assert again(packed(index, ""), "", document(typed), typed) is None

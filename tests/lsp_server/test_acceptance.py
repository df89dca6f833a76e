from collections.abc import Callable

import pytest

from qcoder.context.segments import CursorWindow, PackedContext
from qcoder.lsp_server.acceptance import ENOUGH, Acceptance, share_kept
from qcoder.lsp_server.completion_cache import Place
from qcoder.lsp_server.documents import rows_of
from qcoder.lsp_server.snapshot import Suggestion, TextEdit
from qcoder.lsp_server.usage import Usage

URI = "file:///a.py"
EMPTY = PackedContext((), CursorWindow("a.py", "python", "", "", 0), 0)


class Editor:
    """One document, a clock, and what is to be called later."""

    def __init__(self, marked: str) -> None:
        self.usage = Usage()
        self.now = 0.0
        self.document = marked.replace("‸", "")
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.open = True
        self.acceptance = Acceptance(
            self.usage,
            lambda uri: rows_of(self.document) if self.open else None,
            lambda seconds, call: self.due.append((self.now + seconds, call)),
            lambda: self.now,
        )

    def place(self, at: int) -> Place:
        head, tail = self.document[:at], self.document[at:]
        return Place(head, tail, head.count("\n"), len(head) - head.rfind("\n") - 1)

    def show(self, at: int, *texts: str, covered: int = 0) -> None:
        place = self.place(at)
        edits = [
            TextEdit(place.line, place.column, place.line, place.column + covered, t) for t in texts
        ]
        shown = [Suggestion(e.new_text, e, 0.9, 3, "stop", 9, 0, 0.2, {}, EMPTY) for e in edits]
        self.acceptance.shown(URI, place, shown)

    def edit(self, start: int, end: int, text: str) -> None:
        rows = [self.document[:at].count("\n") for at in (start, end)]
        self.document = self.document[:start] + text + self.document[end:]
        self.acceptance.moved(URI, *rows, text.count("\n"))
        self.acceptance.changed(URI, self.document)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due, self.due = self.due, []
        for at, call in sorted(due, key=lambda one: one[0]):
            if at <= self.now:
                call()
            else:
                self.due.append((at, call))

    def counts(self) -> dict[str, float]:
        (day,) = self.usage.take().values() or ({},)
        return {name: count for name, count in day.items() if "checked" not in name}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["compute(1)"], {"accepted": 1, "accepted_characters": 10, "seen": 1}),
        (list("compute(1)"), {"typed": 1, "seen": 1}),
        (["c", "o", "mpute(1)"], {"accepted": 1, "accepted_characters": 8, "seen": 1}),
        (["compute", "(1)"], {"accepted": 1, "accepted_characters": 10, "seen": 1}),
        (["compute", "x"], {"partially_accepted": 1, "accepted_characters": 7, "seen": 1}),
        (["other"], {"rejected": 1, "seen": 1}),
        (["c", "x"], {"rejected": 1, "seen": 1}),
    ],
)
def test_edits_say_what_became_of_a_suggestion(keys: list[str], expected: dict[str, int]) -> None:
    editor = Editor("x = \n")
    editor.show(4, "compute(1)")
    editor.wait(1)
    at = 4
    for key in keys:
        editor.edit(at, at, key)
        at += len(key)
    assert editor.counts() == {"shown": 1, **expected}


def test_pairs_that_the_editor_closes_are_no_rejection() -> None:
    editor = Editor("x = \n")
    editor.show(4, "f(1)")
    editor.edit(4, 4, "f")
    editor.edit(5, 5, "()")
    editor.show(6, "1)", covered=1)
    editor.edit(6, 7, "1)")
    assert editor.counts() == {"shown": 1, "seen": 1, "typed": 1}


def test_an_alternative_may_be_accepted() -> None:
    editor = Editor("x = \n")
    editor.show(4, "one(1)", "two(2)")
    editor.edit(4, 4, "two(2)")
    assert editor.counts()["accepted"] == 1


def test_what_nobody_had_time_to_see_is_not_rejected() -> None:
    editor = Editor("x = \n")
    editor.show(4, "compute(1)")
    editor.wait(0.2)
    editor.edit(4, 4, "y")
    assert editor.counts() == {"shown": 1}


def test_the_rest_of_a_suggestion_is_no_new_one() -> None:
    editor = Editor("x = \n")
    editor.show(4, "compute(1)")
    editor.edit(4, 4, "c")
    editor.show(5, "ompute(1)")
    assert editor.counts() == {"shown": 1}


@pytest.mark.parametrize(
    ("start", "end", "text", "expected"),
    [
        (0, 0, "import a\nimport b\n", {"retained_30": 1, "unchanged_30": 1}),
        (4, 14, "", {"changed_30": 1.0}),
        (12, 13, "23", {"retained_30": 1, "changed_30": 0.2}),
        (0, 4, "", {"retained_30": 1, "unchanged_30": 1}),
    ],
)
def test_accepted_text_is_looked_for_where_it_went(
    start: int, end: int, text: str, expected: dict[str, float]
) -> None:
    editor = Editor("x = \n# compute(9)\n")
    editor.show(4, "compute(1)")
    editor.edit(4, 4, "compute(1)")
    editor.edit(start, end, text)
    editor.usage.take()
    editor.document = editor.document.replace("# compute(9)\n", "")
    editor.wait(30)
    assert editor.counts() == pytest.approx(expected)


def test_it_is_looked_for_three_times_unless_the_document_is_closed() -> None:
    for closed in (False, True):
        editor = Editor("x = \n")
        editor.show(4, "compute(1)")
        editor.edit(4, 4, "compute(1)")
        if closed:
            editor.acceptance.forget(URI)
        editor.usage.take()
        editor.wait(600)
        assert bool(editor.usage.take()) is not closed
        assert not editor.due


def test_how_much_is_rewritten_is_known_after_some_suggestions() -> None:
    editor = Editor("")
    for number in range(ENOUGH):
        assert editor.acceptance.rewritten is None
        at = len(editor.document)
        editor.show(at, f"line_{number}(1)\n")
        editor.edit(at, at, f"line_{number}(1)\n")
        if number % 2:
            editor.edit(at, len(editor.document), "\n")
        editor.wait(31)
    assert editor.acceptance.rewritten == pytest.approx(0.5, abs=0.01)


def test_share_kept_is_of_the_text_and_not_of_what_stands_around() -> None:
    assert share_kept("compute(1)", "y = 3\nx = compute(1)\n" * 9) == 1.0
    assert share_kept("compute(first)", "x = compute(second)") == pytest.approx(8 / 14)
    assert share_kept("compute(1)", "") == 0.0

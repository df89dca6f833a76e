import random
from dataclasses import replace

import pytest

from qcoder.context.segments import CursorWindow, PackedContext
from qcoder.lsp_server.completion_cache import (
    ENTRIES_A_DOCUMENT,
    CompletionCache,
    Found,
    Place,
    place_at,
)
from qcoder.lsp_server.snapshot import Suggestion, TextEdit

URI, BASIS = "file:///a.py", "settings"
EMPTY = PackedContext((), CursorWindow("a.py", "python", "", "", 0), 0)


def place(marked: str) -> Place:
    """The place at the mark of a text."""
    head, tail = marked.split("‸")
    return Place(head, tail, head.count("\n"), len(head) - head.rfind("\n") - 1)


def suggestion(at: Place, text: str, replaced: int = 0) -> Suggestion:
    edit = TextEdit(at.line, at.column, at.line, at.column + replaced, text)
    return Suggestion(text, edit, 0.9, 3, "stop", 9, 0, 0.2, {}, EMPTY)


def applied(at: Place, found: Found) -> str:
    """The document with what was found in it."""
    assert found.suggestion is not None
    edit = found.suggestion.edit
    assert (edit.start_line, edit.start_column) == (at.line, at.column)
    assert edit.new_text == found.suggestion.text
    return at.head + edit.new_text + at.tail[edit.end_column - edit.start_column :]


def check(marked: str, text: str, later: str, rest: str | None, replaced: int = 0) -> None:
    """A suggestion at one place leaves `rest` at a later one (None: nothing is known)."""
    cache, first, then = CompletionCache(), place(marked), place(later)
    made = suggestion(first, text, replaced)
    cache.put(URI, first, BASIS, 0, made)
    found = cache.find(URI, then, BASIS, 0)
    if rest is None:
        assert found is None
    else:
        assert found is not None
        assert found.suggestion is not None
        assert found.suggestion.text == rest
        assert applied(then, found) == applied(first, Found(made))


@pytest.mark.parametrize(
    ("marked", "text", "later", "rest"),
    [
        ("x = ‸\n", "compute(1)", "x = ‸\n", "compute(1)"),
        ("x = ‸\n", "compute(1)", "x = com‸\n", "pute(1)"),
        ("x = ‸\n", "compute(1)", "x = compute(‸)\n", "1)"),
        ("x = ‸\n", "compute(1)", "x = compute(1)‸\n", None),
        ("x = ‸\n", "compute(1)", "x = cow‸\n", None),
        ("x = ‸\n", "compute(1)", "x =‸\n", None),
        ("x = ‸\n", "compute(1)", "y = com‸\n", None),
        ("x = ‸\n", "compute(1)", "x = com‸\ny\n", None),
        ("x = ‸\n", "compute(1)", "x = com‸]\n", None),
        ("x = ‸\ny", "compute(1)", "x = com‸\n", None),
        ("def f():‸\n", "\n    return 1", "def f():\n    ‸\n", "return 1"),
        ("s = ‸", "'a'", "s = '‸'", "a'"),
        ("é = ‸\n", "😀é()", "é = 😀‸\n", "é()"),
    ],
)
def test_what_is_left_leads_to_the_same_document(
    marked: str, text: str, later: str, rest: str | None
) -> None:
    check(marked, text, later, rest)


@pytest.mark.parametrize(
    ("later", "rest"), [("f(a‸)", ", b)"), ("f(a, b‸)", ")"), ("f(a, b)‸", None), ("f(a‸", ", b)")]
)
def test_the_replaced_rest_of_the_line_stays_replaced(later: str, rest: str | None) -> None:
    check("f(‸)", "a, b)", later, rest, replaced=1)


def test_what_leaves_syntax_errors_is_known_at_its_own_place_only() -> None:
    cache, at = CompletionCache(), place("x = (‸\n")
    cache.put(URI, at, BASIS, False, replace(suggestion(at, "1, 2"), errors=1))
    assert cache.find(URI, at, BASIS, False) is not None
    for later in ("x = (1‸\n", "x = (‸2\n"):
        assert cache.find(URI, place(later), BASIS, False) is None


def test_nothing_to_suggest_is_known_of_that_place_only() -> None:
    cache = CompletionCache()
    cache.put(URI, place("x = ‸\n"), BASIS, False, None)
    assert cache.find(URI, place("x = ‸\n"), BASIS, False) == Found(None)
    assert cache.find(URI, place("x = y‸\n"), BASIS, False) is None
    assert cache.find(URI, place("x = ‸)\n"), BASIS, False) is None


def test_an_explicit_request_is_not_served_by_an_automatic_answer() -> None:
    cache, at = CompletionCache(), place("x = ‸\n")
    cache.put(URI, at, BASIS, False, None)
    assert cache.find(URI, at, BASIS, 1) is None
    cache.put(URI, at, BASIS, 1, suggestion(at, "one"))
    for invoked in (True, False):
        found = cache.find(URI, at, BASIS, invoked)
        assert found is not None
        assert found.suggestion is not None


def test_answers_hold_for_their_document_and_basis() -> None:
    cache, at = CompletionCache(), place("x = ‸\n")
    cache.put(URI, at, BASIS, False, None)
    assert cache.find(URI, at, "other settings", False) is None
    assert cache.find("file:///b.py", at, BASIS, False) is None
    cache.forget(URI)
    cache.forget(URI)
    assert cache.find(URI, at, BASIS, False) is None


def test_old_answers_make_room() -> None:
    cache = CompletionCache()
    for number in range(ENTRIES_A_DOCUMENT + 1):
        cache.put(URI, place(f"x{number}‸"), BASIS, False, None)
    assert cache.find(URI, place("x0‸"), BASIS, False) is None
    assert cache.find(URI, place("x1‸"), BASIS, False) == Found(None)


def test_random_edits_are_served_only_with_the_same_document() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        head, tail = ("".join(rng.choices("ab(\n", k=rng.randrange(4))) for _ in range(2))
        first = Place(head, tail, head.count("\n"), len(head) - head.rfind("\n") - 1)
        made = suggestion(first, "".join(rng.choices("ab()\n", k=rng.randint(1, 5))))
        cache = CompletionCache()
        cache.put(URI, first, BASIS, 0, made)
        typed = "".join(rng.choices("ab()", k=rng.randrange(3)))
        then = place(f"{head}{typed}‸{rng.choice(['', ')', 'a'])}{tail}")
        found = cache.find(URI, then, BASIS, 0)
        if found is not None:
            assert applied(then, found) == applied(first, Found(made))


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [(0, 0, ("", "ab\n\nc")), (0, 2, ("ab", "\n\nc")), (2, 1, ("ab\n\nc", "")), (1, 0, None)],
)
def test_a_place_splits_the_text(line: int, column: int, expected: tuple[str, str] | None) -> None:
    found = place_at("ab\n\nc", line, column)
    assert found is not None
    assert (found.head, found.tail) == (expected or ("ab\n", "\nc"))


@pytest.mark.parametrize(("line", "column"), [(0, 3), (3, 0), (1, 1), (99, 0)])
def test_a_place_outside_of_the_text_is_none(line: int, column: int) -> None:
    assert place_at("ab\n\nc", line, column) is None

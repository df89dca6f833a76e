import pytest

from qcoder.lsp_server.review_slots import Places, places_of


def told(source: str, language: str = "python") -> list[tuple[str, str, tuple[str, ...]]]:
    data = source.encode()
    places = places_of(source, language)
    return [(s.kind, data[s.start : s.end].decode(), s.alternatives) for s in places.slots]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a, b):\n    return g(a) + h(a)\n", [("name", "a", ("b",)), ("operator", "+", ("-",)), ("name", "a", ("b",))]),
        ("def f(a, b):\n    return g(a, b)\n", []),
        ("def f(a, _, b):\n    return g(a, b)\n", [("arguments", "a, b", ("b, a",))]),
        ("def f(b, a):\n    return g(a, b)\n", [("order", "a, b", ("b, a",))]),
        ("def f(b, a):\n    return g(x.a, y.b)\n", [("order", "x.a, y.b", ("y.b, x.a",))]),
        ("def f(a):\n    b = a\n    return a\n", [("name", "a", ("b",))]),
        ("def f(a, _b):\n    return a, a\n", []),
        ("def f(x):\n    for i in range(len(x) + 1):\n        pass\n", [("bound", "len(x) + 1", ("len(x)",)), ("operator", "+", ("-",))]),
        ("def f(x):\n    return x[len(x)]\n", [("bound", "len(x)", ("len(x) - 1",))]),
        ("def f(x):\n    return x is not None\n", [("operator", "is not", ("is",))]),
        ("def f(x):\n    return self.x(k=x, x=k)\n", []),
        ("x = 1 < 2\n", []),
        ("def f(ü, é):\n    return h(é, ü)\n", [("order", "é, ü", ("ü, é",))]),
    ],
)  # fmt: skip
def test_slots_of_python(source: str, expected: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert told(source) == expected


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("javascript", "function f(b, a) { if (a < b) { g(a, b); } }"),
        ("typescript", "function f(a: number, b: number) { if (a < b) { g(a, b); } }"),
        ("go", "func f(a int, b int) { if a < b { g(a, b) } }"),
        ("java", "class A { void f(int a, int b) { if (a < b) { g(a, b); } } }"),
        ("rust", "fn f(a: i32, b: i32) { if a < b { g(a, b); } }"),
        ("c", "void f(int a, int b) { if (a < b) { g(a, b); } }"),
    ],
)
def test_slots_of_other_languages(language: str, source: str) -> None:
    assert told(source, language) == [
        ("operator", "<", ("<=", ">")),
        ("order" if language == "javascript" else "arguments", "a, b", ("b, a",)),
    ]


def test_comments_are_taken_with_their_blanks_or_their_line() -> None:
    source = "x = 1  # one\n    # alone\ny = '# no comment'\n"
    places = places_of(source, "python")
    assert [source[a:b] for a, b in places.comments] == ["  # one", "    # alone\n"]


def test_lines_of_a_slot_that_goes_over_two() -> None:
    places = places_of("def f(a, _, b):\n    g(a,\n      b)\n", "python")
    assert [list(places.lines(slot)) for slot in places.slots] == [[1, 2]]


@pytest.mark.parametrize("source", ["", "\0", "def f(:\n", "f(" * 3000, "é = ü\n"])
def test_odd_sources_never_raise(source: str) -> None:
    places_of(source, "python")


def test_a_language_without_grammar_has_no_places() -> None:
    assert places_of("x = 1\n", "nonsense") == Places()

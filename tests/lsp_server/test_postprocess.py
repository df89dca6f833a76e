import pytest

from qcoder.lsp_server.postprocess import Around, Cleaned, clean, errors, may_complete_here


def split(text: str, language: str = "python") -> Around:
    """The text around the cursor mark."""
    prefix, suffix = text.split("‸")
    return Around(prefix, suffix, language)


@pytest.mark.parametrize(
    ("source", "raw", "expected"),
    [
        ("x = ‸\n", "compute(1)", "compute(1)"),
        ("x = compute(‸)\n", "1, 2)", "1, 2"),
        ("x = compute(‸)\n", "1, 2", "1, 2"),
        ("x = [‸]\n", "1, (2, 3)]", "1, (2, 3)"),
        ("for i in ‸:\n    pass\n", "range(3):", "range(3)"),
        ("return ‸\n", "return value", " value"),
        ("def f():\n    ‸\n", "return 1\n\ndef g():\n    return 2", "return 1"),
        ("a = 1\nb = ‸\nc = 3\nd = 4\n", "2\nc = 3\nd = 4", "2"),
        ("a = first(1)\n‸\n", "a = first(1)", ""),
        ("x = ‸\n", "foo(bar, " * 6, "foo(bar,"),
        ("x = ‸\n", "", ""),
        ("x = ‸\n", "   \n", ""),
        ("def f(a):\n    if a:\n        ‸\n", "return a\n    return (", "return a"),
        ("s = '‸'\n", "text'", "text"),
        ("x = ‸\n", "1\r\n", "1"),
    ],
)
def test_chain(source: str, raw: str, expected: str) -> None:
    around = split(source)
    cleaned = clean(raw, around)
    inserted = around.prefix + cleaned.text + around.suffix[cleaned.replaced :]
    wanted = around.prefix + expected + around.suffix
    assert inserted == wanted
    assert errors(inserted, "python") <= errors(around.prefix + around.suffix, "python")


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("x = ‸\n", True),
        ("f(‸)\n", True),
        ("f(‸):\n", True),
        ("f(‸'):\n", True),
        ("f(‸ other)\n", False),
        ("na‸me = 1\n", False),
        ("‸", True),
    ],
)
def test_only_closers_may_follow_on_the_line(source: str, allowed: bool) -> None:
    assert may_complete_here(split(source)) == allowed


def test_language_without_grammar_is_left_alone() -> None:
    assert clean("a ( b", split("x ‸\n", "text")) == Cleaned("a ( b")

import pytest

from qcoder.lsp_server.around import Around
from qcoder.lsp_server.postprocess import (
    Cleaned,
    clean,
    errors,
    indent_step,
    may_complete_here,
    next_line_indent,
)


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
        ("return ‸\n", "return value", "value"),
        ("import ‸\n", "importlib", "importlib"),
        ("import‸\n", "import os", " os"),
        ("def f():\n    return ‸\n", "return_code", "return_code"),
        ("def ‸\n    pass\n", "default_name():", "default_name():"),
        ("value = ‸\n", "value == 1", "value == 1"),
        ("def f(a):\n    ‸\n    return a\n", "if a:\n        return a", "if a:\n        return a"),
        ("def f():\n    ‸\n", "return 1\n\ndef g():\n    return 2", "return 1"),
        ("a = 1\nb = ‸\nc = 3\nd = 4\n", "2\nc = 3\nd = 4", "2"),
        ("a = first(1)\n‸\n", "a = first(1)", ""),
        ("x = ‸\n", "foo(bar, " * 6, "foo(bar,"),
        ("x = ‸\n", "", ""),
        ("x = ‸\n", "   \n", ""),
        ("def f(a):\n    if a:\n        ‸\n", "return a\n    return (", "return a"),
        ("s = '‸'\n", "text'", "text"),
        ("x = ‸\n", "1\r\n", "1"),
        ("def f():\n    log.e‸\n", "xception(", "xception"),
        ("x = ‸\n", "1<|endoftext|> 2", "1"),
        ("def f():\n    ‸\n", "return 1\n```\nThat is all", "return 1"),
        ("foo(\n    a,\n    ‸\n)\n", "b)", "b"),
        ("foo(\n    [\n        ‸\n    ]\n)\n", "b])", "b"),
        ("def f():\n‸\n", "    return 1\nx = 2", "    return 1"),
        ("a = 1\n‸\nresult = compute(first, second)\n", "result = compute(first, secand)", ""),
        ("import a\n‸\nimport c\n", "import b", "import b"),
        ("def f():\n    ‸\n    return 2\n", "x = 1\n    y = (", "x = 1"),
        ("x = f(‸)\n", "a)\nprint(x", "a"),
        ("if ‸:\n    pass\n", "x == 1:\n        y", "x == 1"),
        ("return_value = ‸\n", "ab ab ab ab ab ab ab", "ab ab"),
        ("def f():\n    ‸\n", "    return 1", "return 1"),
        ("def f():\n  x = 1\n ‸\n", "  return 1", " return 1"),
        ("if a:\n    if b:\n        x\n    ‸\n", "    y = 2", "    y = 2"),
        ("if a:\n\tx = 1\n‸\n", "    y = 2\n    z = 3", "\ty = 2\n\tz = 3"),
        ("if a:\n  x = 1\n‸\n", "\ty = 2\n\tz = 3", "  y = 2\n  z = 3"),
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


def test_no_suggestion_makes_a_correct_file_wrong() -> None:
    """Every prefix of a correct line, inserted in its place, keeps the file correct."""
    whole = (
        "def f(a, b):\n    if a and (b or g(a)):\n        return {'k': [a, b]}\n    return None\n"
    )
    for line in range(4):
        rows = whole.split("\n")
        truth = rows[line]
        for column in range(len(truth) + 1):
            rows[line] = truth[:column]
            text = "\n".join(rows)
            at = len("\n".join(rows[: line + 1]))
            around = Around(text[:at], text[at:], "python")
            for size in range(len(truth) - column + 1):
                cleaned = clean(truth[column : column + size], around)
                inserted = around.prefix + cleaned.text + around.suffix[cleaned.replaced :]
                assert errors(inserted, "python") <= errors(text, "python")


def test_two_statements_on_one_line_are_an_error() -> None:
    """The grammar marks the missing line break without a node of its own."""
    source = "def f():\n    found =‸ parse(git(root, '--cached'))\n    return found\n"
    around = split(source)
    assert around.error_count == 0
    assert around.errors_with(" os.join(prefix, 'x').strip()", 0) is None
    assert errors("x = a(b, 'c').strip() d(e('f'))\nreturn 1\n", "python") > 0


@pytest.mark.parametrize(
    ("source", "raw", "filters"),
    [
        ("x = ‸\n", "compute(1)", ()),
        ("x = ‸\n", "1<|endoftext|> 2", ("special tokens",)),
        ("return ‸\n", "return value", ("copy of the line",)),
        ("def f():\n    ‸\n", "return 1\n\ndef g():\n    return 2", ("indentation",)),
        ("x = ‸\n", "foo(bar, " * 6, ("repetition",)),
        ("a = 1\nb = ‸\nc = 3\nd = 4\n", "2\nc = 3\nd = 4", ("following lines",)),
        ("a = first(1)\n‸\n", "a = first(1)", ("duplicate",)),
        ("x = compute(‸)\n", "1, 2)", ("rest of the line",)),
    ],
)
def test_filters_that_changed_the_text_are_named(
    source: str, raw: str, filters: tuple[str, ...]
) -> None:
    assert clean(raw, split(source)).filters == filters


@pytest.mark.parametrize(
    ("language", "source", "raw", "expected"),
    [
        ("javascript", "function f() {\n    ‸\n}\n", "return 1;\n}\n\nfunction g() {", "return 1;"),
        ("javascript", "foo(function () {\n  ‸\n});\n", "return 1;\n});", "return 1;"),
        ("javascript", "const a = {\n  b: ‸\n};\n", "1,\n  c: 2,\n};", "1,\n  c: 2,"),
        ("javascript", "if (x) {‸}\n", " return 1; }", " return 1; "),
        ("typescript", "const x = foo(‸);\n", "a, b);", "a, b"),
        ("python", "print(shelf.‸)\n", "add(item, amount)", "add(item, amount)"),
        ("python", "print(shelf(‸))\n", "add(item))", "add(item)"),
        ("typescript", "if (‸) {\n}\n", "x === 1) {", "x === 1"),
        ("go", "func f() int {\n\tx := ‸\n}\n", "one(1)\n\treturn x\n}\n", "one(1)\n\treturn x"),
        ("rust", "fn f() {\n    let x = vec![‸];\n}\n", "1, 2];", "1, 2"),
        ("java", "class A {\n    void f() {\n        ‸\n    }\n}\n", "g();\n    }\n", "g();"),
        ("c", "int main() {\n  printf(‸\n}\n", '"hi");', '"hi");'),
        ("c", "void f() {\n    int ‸\n}\n", "interval = 5;", "interval = 5;"),
        ("javascript", "let ‸\n", "letters = [];", "letters = [];"),
        (
            "c",
            "int count(int *a, int n)\n{\n    int c = 0;\n‸\n}\n",
            "    for (int i = 0; i < n; i++) {\n        c += a[i];\n    }\n    return c;",
            "    for (int i = 0; i < n; i++) {\n        c += a[i];\n    }\n    return c;",
        ),
        (
            "javascript",
            "function f(a) {\n  ‸\n}\n",
            "for (const b of a) {\n    g(b);\n  }\n}\n\nfunction g(b) {",
            "for (const b of a) {\n    g(b);\n  }",
        ),
        (
            "c",
            "/*\n * Copyright\n */\nint f(int a)\n{\n\tint b = 1;\n‸\n}\n",
            "\tif (a)\n\t\tb = 2;\n\treturn b;",
            "\tif (a)\n\t\tb = 2;\n\treturn b;",
        ),
    ],
)
def test_blocks_and_lines_end_as_the_language_has_it(
    language: str, source: str, raw: str, expected: str
) -> None:
    around = split(source, language)
    cleaned = clean(raw, around)
    inserted = around.prefix + cleaned.text + around.suffix[cleaned.replaced :]
    assert inserted == around.prefix + expected + around.suffix
    assert errors(inserted, language) <= errors(around.prefix + around.suffix, language)


@pytest.mark.parametrize(
    ("text", "step", "below"),
    [
        ("/*\n * Copyright\n */\n", "", "    "),
        ("/*\n * Copyright\n */\nvoid f()\n{\n\tg();\n", "\t", "\t"),
        ("/**\n   * Copyright\n   */\nclass A {\n  b = 1\n", "  ", "  "),
    ],
)
def test_a_comment_does_not_say_how_a_file_is_indented(text: str, step: str, below: str) -> None:
    assert indent_step(text) == step
    assert next_line_indent("if (a) {", text) == below

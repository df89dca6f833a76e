"""Text around a cursor: what an insertion does to its syntax, with little parsing."""

import random

import pytest

from qcoder.context.parse import encode, error_count, parse
from qcoder.lsp_server import known_syntax
from qcoder.lsp_server.around import Around
from qcoder.lsp_server.known_syntax import KnownSyntax

FUNCTIONS = "".join(f"def f{n}(a, b):\n    return a + b\n\n\n" for n in range(60))
SOURCES = {
    "python": FUNCTIONS
    + "@cached\ndef g():\n    try:\n        x = [1,\n  2]\n    except E:\n        y = 2\n\n\n",
    "javascript": "".join(
        f"const a{n} = (x) => {{\n  return x + `b${{x}}`;\n}};\n\nif (a{n}) {{\n  f();\n}} else {{\n  g();\n}}\n"
        for n in range(30)
    ),
    "go": "package a\n\n"
    + "".join(f"func f{n}(a int) int {{\n\treturn a\n}}\n\n" for n in range(50)),
    "lua": "".join(f"function f{n}(a)\n  return a\nend\n-- more\nx = f{n}(1)\n" for n in range(40)),
    "shellscript": "".join(f"f{n}() {{\n  cat <<EOF\n$1\nEOF\n}}\n\nf{n} a\n" for n in range(40)),
}
PIECES = (
    "",
    "x",
    "(",
    ")",
    "[1, 2]",
    '"',
    "\n    y = 1",
    "\nreturn a",
    "if a:",
    "{",
    "}",
    "\n",
    "else",
    " = f(",
)


def split(text: str, language: str = "python") -> Around:
    """The text around a cursor written as `‸`."""
    prefix, suffix = text.split("‸")
    return Around(prefix, suffix, language)


def here(before: str, earlier: KnownSyntax | None = None) -> Around:
    """A cursor in a line of a function in the middle of a long file."""
    head = f"{FUNCTIONS}def here(value, entry):\n    {before}"
    return Around(head, f"\n    return value\n\n\n{FUNCTIONS}", "python", earlier)


def errors(text: str, language: str) -> int:
    """Syntax errors of a text, parsed whole and from nothing."""
    tree = parse(text, language)
    assert tree is not None
    return error_count(tree)


def wholes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every text that is parsed from now on."""
    parsed: list[bytes] = []
    for name in ("parse_bytes", "reparse_bytes"):
        real = getattr(known_syntax, name)

        def noted(data: bytes, *rest: object, real: object = real) -> object:
            parsed.append(data)
            return real(data, *rest)  # type: ignore[operator]

        monkeypatch.setattr(known_syntax, name, noted)
    return parsed


@pytest.mark.parametrize("language", SOURCES)
def test_what_a_few_statements_allow_the_whole_text_does(language: str) -> None:
    text, rng = SOURCES[language], random.Random(7)
    assert errors(text, language) == 0
    known = KnownSyntax.of(encode(text), language)
    refused = 0
    for _ in range(150):
        start = rng.randrange(len(text))
        end = min(len(text), start + rng.choice((0, 0, 1, 5, 20)))
        typed, added = rng.choice(PIECES), rng.choice(PIECES) + rng.choice(PIECES)
        around = Around(text[:start] + typed, text[end:], language, known)
        before, after = (
            errors(around.prefix + more + around.suffix, language) for more in ("", added)
        )
        found = around.errors_with(added, 0)
        if found is None:
            refused += after <= before
        else:
            assert after <= before, (around.line_prefix, added, around.line_suffix)
    assert refused <= 3  # of 150, for what needs statements further away


def test_the_next_key_needs_no_parse_of_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    first = here("")
    assert first.known is not None
    assert first.known.errors == 0
    earlier, parsed = first.known, wholes(monkeypatch)
    for typed in ("x", "x = f", "x = f(", "x = f(value", "x = f(value, ent"):
        around = here(typed, earlier)
        rest = "x = f(value, entry)"[len(typed) :]
        assert around.errors_with(rest, 0) == 0
        earlier = around.known
    assert here("x = 1", earlier).errors_with(" = = ", 0) is None
    assert parsed
    assert max(map(len, parsed)) < 200


def test_an_open_bracket_is_decided_by_the_statements_that_it_reaches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    around = here("x = f(", here("").known)
    parsed = wholes(monkeypatch)
    found = around.errors_with("value, entry", 0)
    assert max(map(len, parsed)) < 600
    assert found == around.error_count > 0


def test_the_whole_text_decides_where_an_open_bracket_reaches_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = FUNCTIONS + "def here(value):\n    "
    before = Around(head, "\n    return value\n", "python")
    around = Around.of(head + "x = f(", before.suffix, "python", before)
    assert before.known is not None
    parsed = wholes(monkeypatch)
    assert around.errors_with("value, value", 0) == around.error_count > 0
    assert encode(around.prefix + "value, value" + around.suffix) in parsed


def test_errors_elsewhere_do_not_slow_down_what_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "x = = 1\n\n\ndef g(:\n    pass\n\n\n" + FUNCTIONS + "def here(value):\n    "
    before = Around(broken, "\n    return value\n\n\n" + FUNCTIONS + "y = (\n", "python")
    count = before.error_count
    assert count > 0
    parsed = wholes(monkeypatch)
    for typed in ("r", "ret = f", "ret = f(value"):
        around = Around.of(broken + typed, before.suffix, "python", before)
        assert around.errors_with("ret = f(value)"[len(typed) :], 0) == count
        if "(" not in typed:
            assert around.errors_with(" = = ", 0) is None
        before = around
    assert max(map(len, parsed)) < 600


@pytest.mark.parametrize("language", ["python", "javascript", "go", "lua"])
def test_in_a_text_with_errors_few_statements_allow_what_the_whole_text_does(language: str) -> None:
    rng = random.Random(3)
    rows = SOURCES[language].split("\n")
    del rows[len(rows) // 3], rows[-8]
    rows.insert(5, "= (")
    text = "\n".join(rows)
    known = KnownSyntax.of(encode(text), language)
    assert known is not None
    assert known.errors
    decided = 0
    for _ in range(100):
        at = rng.randrange(len(text))
        around = Around(text[:at], text[at:], language, known)
        added = rng.choice(PIECES) + rng.choice(PIECES)
        new = encode(around.prefix + added + around.suffix)
        decided += known.span_around(new) is not None
        if around.errors_with(added, 0) is not None:
            assert errors(new.decode(), language) <= known.errors, (around.line_prefix, added)
    assert decided > 40


def test_a_row_of_a_table_is_no_statement() -> None:
    rows = "TABLE = [\n" + "1, 2,\n" * 2000 + "]\n"
    at = rows.index("1, 2,", 6000)
    around = Around(rows[:at], rows[at + 5 :], "python")
    assert around.error_count == 0
    assert around.errors_with("1, 2", 0) is None  # right by itself, not in a list
    assert around.errors_with("1, 2,", 0) == 0


def test_what_means_something_else_alone_is_not_read_alone() -> None:
    text = "<?php\n" + "".join(f"function f{n}($a) {{\n  return $a;\n}}\n" for n in range(60))
    at = text.index("  return $a;", len(text) // 2)
    around = Around(text[:at], text[at:], "php")
    assert around.known is not None
    new = encode(text[:at] + "$b = (1;\n" + text[at:])
    assert around.known.span_around(new) is None
    assert around.errors_with("$b = (1;\n", 0) is None
    assert around.errors_with("$b = (1);\n", 0) == 0


def test_a_text_with_errors_is_parsed_from_the_tree_before() -> None:
    text = FUNCTIONS + "x = = 1\n" + FUNCTIONS
    earlier = Around(text[:20], text[20:], "python").known
    assert earlier is not None
    for at in range(0, len(text), 97):
        for typed in ("", "(", "b", "\n    "):
            alone = Around(text[:at] + typed, text[at:], "python")
            later = Around(text[:at] + typed, text[at:], "python", earlier)
            assert later == alone
            assert later.error_count == alone.error_count
            assert later.errors_with("f(2)", 0) == alone.errors_with("f(2)", 0)


def test_the_same_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    around = here("x = ", here("").known)
    parsed = wholes(monkeypatch)
    for _ in range(3):
        assert around.errors_with("value", 0) == 0
    assert sum(b"x = value" in data for data in parsed) == 1


def test_a_language_without_grammar_has_no_errors() -> None:
    around = split("a ( ‸\n", "text")
    assert (around.tree, around.known, around.error_count) == (None, None, 0)
    assert around.errors_with("b ]", 0) == 0


def test_the_line_above_is_the_nearest_that_says_something() -> None:
    assert split("a = 1\n  b = 2\n\n   \n‸").line_above == "  b = 2"
    assert split("a = 1‸\n").line_above == ""
    assert split("\n\n‸").line_above == ""

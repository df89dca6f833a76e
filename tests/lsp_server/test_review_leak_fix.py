import ast

import pytest

from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rules import rules_for
from qcoder.lsp_server.snapshot import TextEdit

LEAKS = [rule for rule in rules_for("python") if rule.name == "resource-leak"]


def leaks(text: str) -> list[TextEdit | None]:
    """Fixes of all leaks in a text, None for one without."""
    return [match.fix for _, match in matches(LEAKS, text, "python")]


def fixed(text: str) -> str:
    """A text with its only leak mended; it is code and has no leak any more."""
    (edit,) = leaks(text)
    assert edit is not None
    lines = text.split("\n")
    before = "\n".join([*lines[: edit.start_line], lines[edit.start_line][: edit.start_column]])
    after = "\n".join([lines[edit.end_line][edit.end_column :], *lines[edit.end_line + 1 :]])
    done = before + edit.new_text + after
    ast.parse(done)
    assert leaks(done) == []
    return done


def function(*body: str, indent: str = "    ") -> str:
    """A function with these lines."""
    return "def f(path, more):\n" + "".join(f"{indent}{line}\n" if line else "\n" for line in body)


def test_the_block_up_to_the_last_use_goes_into_the_with_statement() -> None:
    before = function(
        "a = 1; b = 2",
        "h = open(path)  # the é list",
        "first = h.readline()",
        "",
        "for line in h:",
        "    print(line)",
        "return first",
    )
    assert fixed(before) == function(
        "a = 1; b = 2",
        "with open(path) as h:  # the é list",
        "    first = h.readline()",
        "",
        "    for line in h:",
        "        print(line)",
        "return first",
    )


def test_blank_lines_before_the_code_shift_nothing() -> None:
    before = "\n\n  \n" + function("h = open(path)", "return json.load(h)")
    after = function("with open(path) as h:", "    return json.load(h)")
    assert fixed(before) == "\n\n  \n" + after


def test_uses_that_are_over_at_once_are_kept() -> None:
    body = ["print(more, h)", "rows = [int(line) for line in h]", "rest = list(h)"]
    after = ["with open(path) as h:", *(f"    {line}" for line in body), "return rows, rest"]
    assert fixed(function("h = open(path)", *body, "return rows, rest")) == function(*after)


def test_a_return_and_lines_of_brackets_are_kept() -> None:
    before = function("h = open(", "    path,", ")", "return json.load(", "    h", ")")
    after = function(
        "with open(", "    path,", ") as h:", "    return json.load(", "        h", "    )"
    )
    assert fixed(before) == after


def test_indentation_is_that_of_the_file() -> None:
    before = function("h = open(path)", "h.write(more)", indent="\t")
    assert fixed(before) == function("with open(path) as h:", "\th.write(more)", indent="\t")
    before = function("if more:", "  h = open(path)", "  h.write(more)", indent="  ")
    after = function("if more:", "  with open(path) as h:", "    h.write(more)", indent="  ")
    assert fixed(before) == after


def test_a_file_used_in_passing_gets_a_name() -> None:
    assert fixed("text = open('é').read()\n") == (
        "with open('é') as file:\n    text = file.read()\n"
    )
    assert fixed(function("return json.load(open(path))", indent="\t")) == function(
        "with open(path) as file:", "\treturn json.load(file)", indent="\t"
    )


@pytest.mark.parametrize(
    "body",
    [
        ["h = open(path)"],
        ["h = open(path); h.write(more)"],
        ["if more: h = open(path)", "h.write(more)"],
        ["h = open(path)", "h.write('''", "''')"],
        ["h = open(path)", "h.write(more)", "h = open(more)", "h.write(path)", "h.close()"],
        ["g = h = open(path)", "h.write(more)"],
        ["if more:", "    h = open(path)", "    h.write(more)", "print(h)"],
        ["h = open(path)", "return (line for line in h)"],
        ["h = open(path)", "rows = csv.reader(h)", "for row in rows:", "    print(row)"],
        ["h = open(path)", "rows = map(int, h)", "return sum(rows)"],
        ["h = open(path)", "read = h.read", "return read()"],
        ["h = open(path)", "data = numpy.load(h)", "return data"],
    ],
)
def test_what_with_would_change_is_only_told(body: list[str]) -> None:
    assert set(leaks(function(*body))) <= {None}


@pytest.mark.parametrize(
    "statement",
    [
        "file = json.load(open(path))",
        "rows = [json.load(open(p)) for p in more]",
        "value = more and json.load(open(path))",
        "if json.load(open(path)): pass",
        "text = open(path).read() + '''\n'''",
        "a = 1; text = open(path).read()",
        "f = lambda: open(path).read()",
        "text = make(path) + open(path).read()",
    ],
)
def test_a_use_in_passing_that_is_not_one_plain_statement_is_only_told(statement: str) -> None:
    assert leaks(f"{statement}\n") == [None]

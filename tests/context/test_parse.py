"""Parsing survives any text, counts errors, and reuses old trees."""

from __future__ import annotations

import logging
import random
from dataclasses import replace

import pytest
from language_samples import CASES

from qcoder.context import languages
from qcoder.context import parse as parse_module
from qcoder.context.extraction import extract
from qcoder.context.parse import error_count, outline, parse, reparse, syntax


def errors_of(text: str, language: str = "python") -> int:
    tree = parse(text, language)
    assert tree is not None
    return error_count(tree)


def test_errors_and_missing_nodes_are_counted() -> None:
    assert errors_of("def f(x):\n    return x\n") == 0
    assert errors_of("def f(x:\n    return (x\n") >= 1
    # A missing brace is a MISSING node, not an ERROR.
    assert errors_of("int f(void) { return 1;", "c") == 1


def test_more_errors_count_more() -> None:
    one = "x = 1\ny = = 2\n"
    assert errors_of(one * 3) == 3 * errors_of(one)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 20_000 + "]" * 20_000,
        "(" * 50_000,
        "{" * 50_000,
        "def f(:\n" * 3_000,
        "".join(" " * i + f"def f{i}():\n" for i in range(400)),
        "\0" * 500,
        "\ufeffdef f(): pass\n",
        "def f():\n    return '\ud800'\n",
        "\x0c\ndef f():\x0c\n    pass\n",
        "",
    ],
    ids=[
        "deep",
        "parens",
        "braces",
        "broken",
        "nested",
        "nul",
        "bom",
        "surrogate",
        "feed",
        "empty",
    ],
)
def test_hostile_texts_are_parsed_without_raising(text: str) -> None:
    tree = parse(text, "python")
    assert tree is not None
    error_count(tree)
    syntax(text, "python")


def test_deep_nesting_keeps_owners() -> None:
    depth = 60
    text = "".join(" " * i + f"class C{i}:\n" for i in range(depth)) + " " * depth + "x = 1\n"
    deepest = outline(text, "python")[-1]
    assert deepest.qualified_name == ".".join(f"C{i}" for i in range(depth))


def test_parse_past_its_time_gives_none_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse("x = 1\n" * 2000, "python", timeout_s=-1.0) is None
    assert [record.name for record in caplog.records] == [parse_module.__name__]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f():\n    return 1\n", "def f():\n    return 12\n"),
        ("def f():\n    pass\n", "# ü\ndef f():\n    pass\n"),
        ("def f():\n    pass\n", ""),
        ("aaa\n", "aaaa\n"),
        ("x = 1\n", "x = 1\n"),
    ],
)
def test_reparse_equals_parse(before: str, after: str) -> None:
    old, fresh = parse(before, "python"), parse(after, "python")
    assert old is not None
    assert fresh is not None
    again = reparse(after, "python", old, before)
    assert again is not None
    assert str(again.root_node) == str(fresh.root_node)
    assert again.root_node.end_byte == fresh.root_node.end_byte


def test_docstring_is_cleaned_and_f_strings_are_none() -> None:
    text = 'def f():\n    r"""First.\n\n    Flat.\n        Indented.\n    """\n\ndef g():\n    f"no {1}"\n'
    first, second = outline(text, "python")
    assert first.docstring == "First.\n\nFlat.\n    Indented."
    assert second.docstring is None


def test_comment_docs_stop_at_a_blank_line() -> None:
    text = "// License.\n\n// Runs.\nfunc Run() {}\n\n// Far away.\n\nfunc Other() {}\n"
    run, other = outline("package p\n\n" + text, "go")
    assert run.docstring == "Runs."
    assert other.docstring is None


def test_signature_ends_where_the_body_starts() -> None:
    text = "class A:\n    def m(\n        self,\n        x: int,\n    ) -> int:\n        # why\n        return x\n"
    method = outline(text, "python")[1]
    assert method.signature == "def m(\n        self,\n        x: int,\n    ) -> int:"
    assert method.body_span is not None
    assert method.body_span.end_line == 7


def test_wrapped_functions_are_functions() -> None:
    text = (
        "export const cached = memo((a) => { return a; });\n"
        "export const typed = (async (x) => { return 1; }) as Fn;\n"
        "const checked = ((a) => a) satisfies Fn;\n"
        "export const names = list.map((x) => x.name);\n"
        "const local = wrap(function (a) { return 2; });\n"
    )
    found = outline(text, "typescript")
    assert [definition.name for definition in found] == ["cached", "typed", "checked"]
    assert found[0].signature == "export const cached = memo((a) =>"


TYPEDEFS = """typedef struct node_s {
  int x;
} node_t;
typedef struct Same { int x; } Same, *SamePtr;
typedef enum color { RED } color_t;
typedef union { int a; } val_t, *val_p;
typedef union u { int a; } u_t;
typedef struct { int a; } *ptr_t;
typedef void *(*cb_t)(int);
typedef int fn_t(int), row_t[4];
typedef unsigned int u32, **u32_p;
typedef const struct node_s *cnode_t;
"""


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_typedef_gives_every_name_that_it_declares(language: str) -> None:
    found = [(d.qualified_name, d.kind) for d in syntax(TYPEDEFS, language).definitions]
    assert found == [
        *[("node_t", "struct"), ("node_s", "struct"), ("SamePtr", "struct"), ("Same", "struct")],
        *[("color_t", "enum"), ("color", "enum"), ("val_t", "struct"), ("val_p", "struct")],
        *[("u_t", "struct"), ("u", "struct"), ("ptr_t", "struct"), ("cb_t", "type")],
        *[("fn_t", "type"), ("row_t", "type"), ("u32", "type"), ("u32_p", "type")],
        ("cnode_t", "type"),
    ]


def test_members_belong_to_what_the_typedef_defines() -> None:
    source = (
        "typedef struct { void f(); } a, *b;\ntypedef struct t { void g(); } u;\n"
        "struct s { typedef T value_type; };\ntypedef std::vector<int> ints;\ntypedef int &ref;\n"
    )
    found = [d.qualified_name for d in syntax(source, "cpp").definitions]
    assert found == ["a", "b", "a.f", "u", "t", "t.g", "s", "s.value_type", "ints", "ref"]


def test_crlf_text_gives_the_same_names() -> None:
    text = 'class A:\n    """Doc."""\n    def m(self):\n        pass\n'
    names = [(d.qualified_name, d.line) for d in outline(text, "python")]
    assert [
        (d.qualified_name, d.line) for d in outline(text.replace("\n", "\r\n"), "python")
    ] == names


MARKED = [spec for spec in languages.LANGUAGES.values() if spec.marks]
ODD = """
if True:
    try:
        import a
    except ImportError: from b import c as \
        d
    class  A(list):
        @deco(lambda: [def_ for def_ in x])
        async  def f(self):
            type  X = int
            type	Y[T] = list[T]
            with g() as h: import k, l
            def inner(): return "def no(): pass"
match x:
    case 1:
        def m(): pass
"""


@pytest.mark.parametrize("spec", MARKED, ids=lambda spec: spec.id)
def test_marks_leave_nothing_out(spec: languages.LanguageSpec) -> None:
    rng = random.Random(13)
    query = languages.query(spec.id)
    assert query is not None
    samples = [CASES[spec.id][0], ODD, CASES[spec.id][0].replace("\n", "\n    ")]
    for number in range(120):
        text = rng.choice(samples)
        for _ in range(number % 4):
            at, to = sorted(rng.randint(0, len(text)) for _ in range(2))
            text = text[:at] + rng.choice(["", text[at:to] * 2, "(", '"""', "}"]) + text[to:]
        tree = parse(text, spec.id)
        assert tree is not None
        data = text.encode()
        found = extract(data, tree, spec, query)
        assert found == extract(data, tree, replace(spec, marks=()), query), text

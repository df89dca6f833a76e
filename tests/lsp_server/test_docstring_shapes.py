"""What is read from syntax trees, and how it is said, in every language."""

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from language_samples import CASES

from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.lsp_server.docstring import docstring_edits, drifts_in, shapes_of
from qcoder.lsp_server.docstring_convention import (
    COMMENT_STYLES,
    Convention,
    convention_for,
    project_convention,
)
from qcoder.lsp_server.docstring_python import MODULE, python_shapes
from qcoder.lsp_server.docstring_raises import covers
from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.postprocess import errors
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Snapshot


def shape_of(source: str, symbol: str, path: str = "a.py") -> Shape:
    document = Document("", 0, language_of(path), textwrap.dedent(source).lstrip("\n"))
    return next(s for s in shapes_of(document, path) if s.symbol == symbol)


def written(source: str, path: str = "a.py", symbol: str | None = None, style: str = "auto") -> str:
    text = textwrap.dedent(source).lstrip("\n")
    document = Document(f"file:///{path}", 1, language_of(path), text)
    edits = docstring_edits(
        Snapshot(document, path, None, None, Settings()), None, symbol=symbol, style=style
    )
    new = applied(text, [e.edit for e in edits])
    assert errors(new, document.language) <= errors(text, document.language)
    return new


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise ValueError", [("ValueError", "", "", False)]),
        ("if a < 0:\n    raise ValueError('too small')", [("ValueError", "a < 0", "too small", False)]),
        ("if a:\n    if b:\n        raise OSError", [("OSError", "a` and `b", "", False)]),
        ("if a:\n    pass\nelse:\n    raise OSError", [("OSError", "", "", False)]),
        ("for x in a:\n    if x:\n        raise OSError", [("OSError", "x", "", False)]),
        ("if a: raise OSError(1)\nif b: raise OSError(2)", [("OSError", "a` or `b", "", False)]),
        ("if a: raise OSError(1)\nraise OSError('x')", [("OSError", "", "", False)]),
        ("if a:\n    if b:\n        return b\n    raise OSError('x')", [("OSError", "", "x", False)]),
        ("if a:\n    b()\n    raise OSError('x')", [("OSError", "a", "x", False)]),
        ("raise m.n.Broken('x')", [("m.n.Broken", "", "x", False)]),
        ("try:\n    raise KeyError\nexcept LookupError:\n    pass", []),
        ("try:\n    raise KeyError\nexcept:\n    pass", []),
        ("try:\n    raise OSError\nexcept KeyError:\n    pass", [("OSError", "", "", False)]),
        ("try:\n    raise OSError\nfinally:\n    pass", [("OSError", "", "", False)]),
        ("try:\n    a()\nexcept KeyError:\n    raise", [("KeyError", "", "", True)]),
        ("try:\n    a()\nexcept (KeyError, OSError) as e:\n    b()\n    raise e",
         [("KeyError", "", "", True), ("OSError", "", "", True)]),
        ("try:\n    a()\nexcept Exception:\n    raise", []),
        ("try:\n    a()\nexcept struct.error:\n    raise", [("struct.error", "", "", True)]),
        ("try:\n    a()\nexcept ERRORS as e:\n    raise Wrapped(e) from e", [("Wrapped", "", "", False)]),
        ("try:\n    a()\nexcept KeyError:\n    try:\n        raise\n    except KeyError:\n        pass", []),
        ("e = OSError('x')\nif a:\n    raise e", [("OSError", "a", "", False)]),
        ("e = make()\nraise e", []),
        ("raise make_error(a)", []),
        ("def inner():\n    raise OSError\nreturn inner", []),
        ("assert a", []),
        ("raise ValueError(f'{a} is bad')", [("ValueError", "", "", False)]),
    ],
)  # fmt: skip
def test_exceptions_that_leave_a_body(
    body: str, expected: list[tuple[str, str, str, bool]]
) -> None:
    source = "def f(a, b):\n" + textwrap.indent(body, "    ") + "\n"
    found = shape_of(source, "f").raises
    assert [(r.name, r.condition, r.message, r.again) for r in found] == expected


def test_a_handler_covers_the_classes_below_its_own() -> None:
    assert covers("OSError", "FileNotFoundError")
    assert covers("Exception", "Anything")
    assert covers("m.Broken", "Broken")
    assert not covers("FileNotFoundError", "OSError")
    assert not covers("OSError", "Anything")


CLASS = '''
    class Store(Base):
        """There."""
        size: int = 3
        names = other = []
        _hidden = 1
        limit = 5
        """Documented here."""
        first, second = 1, 2

        def __init__(self, path: str, *args, retries=2, **options):
            if not path:
                raise ValueError("no path")
            super().__init__(*args, **options)

        def __call__(self, x):
            return x

        @property
        def is_open(self):
            return True

        @is_open.setter
        def is_open(self, value):
            pass
'''


def test_a_class_has_its_constructors_parameters_and_its_own_attributes() -> None:
    shape = shape_of(CLASS, "Store")
    assert [p.name for p in shape.parameters] == ["path", "args", "retries", "options"]
    assert [p.passed_to for p in shape.parameters] == [
        "",
        "super().__init__",
        "",
        "super().__init__",
    ]
    assert [(p.name, p.type, p.default) for p in shape.attributes] == [
        ("size", "int", "3"),
        ("names", "", ""),
        ("other", "", "[]"),
    ]
    assert [r.name for r in shape.raises] == ["ValueError"]
    public = [s.symbol for s in python_shapes(textwrap.dedent(CLASS)) if s.public]
    assert public == [MODULE, "Store", "Store.__call__", "Store.is_open"]


def test_a_file_that_documents_constructors_goes_on_doing_so() -> None:
    source = (
        CLASS
        + '''
    class Other:
        def __init__(self, a):
            """Make it."""
'''
    )
    shapes = {s.symbol: s for s in python_shapes(textwrap.dedent(source))}
    assert shapes["Store"].parameters == ()
    assert shapes["Store.__init__"].public
    assert next(p.name for p in shapes["Store.__init__"].parameters) == "path"


@pytest.mark.parametrize(
    ("source", "returns"),
    [
        ("def make():\n    return Store()", "The new store."),
        ("def load_all(a):\n    return a", "The result."),
        ("def load_users(a):\n    return a", "The users."),
        ("def save_users(a):\n    return a", "The result."),
        ("def from_path(a):\n    return a.b(a)", "The result."),
        ("def save_users(a):\n    return count", "The count."),
        ("def process(self):\n    return self", "The object itself."),
        ("def find(a) -> int | None:\n    return a.b", "The result, or None."),
        ("def check(a):\n    return True", "True if so, false otherwise."),
        ("def is_open(a) -> bool:\n    return a.b()", "True if it is open, false otherwise."),
        ("def compute():\n    total = 1\n    return total", "The total."),
        ("def compute():\n    if a:\n        return total\n    return None", "The total, or None."),
    ],
)
def test_what_is_returned_is_said_as_far_as_it_shows(source: str, returns: str) -> None:
    name = source.split("(")[0].removeprefix("def ")
    new = written(source + "\n", symbol=name)
    assert f"    Returns:\n        {returns}" in new.replace("int | None: ", "").replace(
        "bool: ", ""
    )


def test_what_makes_its_own_class_says_so() -> None:
    source = (
        "class Store:\n    @classmethod\n    def from_path(cls, path):\n        return cls(path)\n"
    )
    assert "        Returns:\n            The new store.\n" in written(source, symbol="from_path")


@pytest.mark.parametrize(
    ("head", "module"),
    [
        ("", '"""Provide `f`."""\n\n'),
        ("#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n", '"""Provide `f`."""\n\n'),
        ("# Licence\n\n# About f.\n", '"""Provide `f`."""\n\n'),
        ("\n\n", '"""Provide `f`."""\n\n'),
    ],
)
def test_a_modules_docstring_comes_before_its_first_statement(head: str, module: str) -> None:
    source = f"{head}from __future__ import annotations\n\ndef f(): pass\n"
    text = written(source, symbol=MODULE)
    namespace: dict[str, object] = {}
    exec(compile(text, "a.py", "exec"), namespace)
    assert namespace["__doc__"] == "Provide `f`."
    assert module in text


def test_a_package_says_what_it_hands_on() -> None:
    source = "from .a import One, Two as Three\nfrom os import path\n"
    assert written(source, "pack/__init__.py", MODULE).startswith(
        '"""Provide `One` and `Three`."""\n'
    )


def test_long_lines_are_filled_without_breaking_code() -> None:
    source = """
        def f(first_argument, **remaining_options):
            if first_argument is None and remaining_options == {} or not 1:
                raise ValueError("x")
            return run_something_with_a_very_long_name(**remaining_options)
    """
    new = written(source, symbol="f")
    assert max(map(len, new.split("\n"))) <= 88
    assert "passed on to\n            `run_something_with_a_very_long_name`." in new
    assert "If `first_argument is None and remaining_options == {} or not 1`." in new


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("a.js",
         "export async function* walk({ deep, from = 1 }, [a], root = './', ...rest) {\n"
         "  if (!root) throw new TypeError('no root')\n  yield 1\n}\n",
         ["Walk.", "", "@param {object} options - The options.", "@param {*} items - The items.",
          "@param {string} [root='./']", "@param {...*} rest - Further arguments.",
          "@yields {*} The next item.", "@throws {TypeError} If `!root`."]),
        ("a.ts",
         "export class Store<T> {\n  constructor(private readonly size: number) {}\n}\n"
         "export function find<T>(id: string, all?: boolean): T | undefined {\n"
         "  try { throw new RangeError('x') } catch (e) { return undefined }\n}\n",
         ["Find.", "", "@param id - The id.", "@param all - Whether all applies.",
          "@returns The result, or undefined."]),
        ("A.java",
         "public class A<T extends Base> {\n  /** There. */\n  public <U> A(final int size, String... names) {\n"
         "    if (size < 0 && names != null) { throw new IllegalStateException(\"no\"); }\n  }\n"
         "  private int hidden() { return 1; }\n  @Override public String toString() { return \"\"; }\n}\n",
         ["An a.", "", "@param <T> Any type that is a {@code Base}."]),
        ("a.rs",
         "impl Store {\n    pub unsafe fn load(&self, path: &str) -> Result<u8, Error> {\n"
         "        if path.is_empty() { return Err(Error::Empty); }\n        read(path)?;\n"
         "        Ok(self.x.unwrap())\n    }\n}\n",
         ["Load.", "", "# Errors", "",
          "Returns `Error::Empty` if `path.is_empty()`. Hands on the errors of what it calls.", "",
          "# Panics", "", "Panics when an assumption of its body fails.", "", "# Safety", "",
          "The caller keeps what the unsafe code inside relies on."]),
        ("a.go", "package a\n\nfunc (s *Store) HasKey(key string) bool {\n\treturn true\n}\n\nfunc hidden() {}\n",
         ["HasKey tells whether it has a key."]),
        ("a.cpp",
         "template <typename T>\nint *find(const std::string& name, int limit = 3, char *argv[] = nullptr) {\n"
         "  if (limit < 0) throw std::out_of_range(\"limit\");\n  return nullptr;\n}\nstatic int hidden(int a) { return a; }\n",
         ["Find.", "", "@tparam T Any type.", "@param name The name.",
          "@param limit Defaults to `3`.", "@param argv The argv, if any.",
          "@return The result, or nullptr.", "@throws std::out_of_range If `limit < 0`."]),
        ("a.php",
         "<?php\nfunction find(?string $name = null, int ...$ids): ?User {\n"
         "  throw new NotFound('x');\n}\n",
         ["Find.", "", "@param ?string $name The name, if any.", "@param int ...$ids Further arguments.",
          "@return ?User The result.", "@throws NotFound With the message \"x\"."]),
        ("a.cs",
         "public class A {\n  /// <summary>There.</summary>\n  public List<int> Find<T>(string name) {\n"
         "    throw new Missing(name);\n  }\n}\n",
         ["<summary>An a.</summary>"]),
    ],
)  # fmt: skip
def test_structure_of_other_languages(path: str, source: str, expected: list[str]) -> None:
    document = Document("", 1, language_of(path), source)
    edits = docstring_edits(Snapshot(document, path, None, None, Settings()), None)
    assert edits[-1 if path == "a.ts" else 0].docstring.split("\n") == expected
    written(source, path)
    for edit in edits:
        assert "hidden" not in edit.symbol
        assert "toString" not in edit.symbol


@pytest.mark.parametrize(
    ("path", "comment", "documented", "mendable"),
    [
        ("a.ts", "/** Adds. */", True, True),
        ("a.ts", "// Adds.", True, False),
        ("a.ts", "// eslint-disable-next-line no-undef", False, False),
        ("a.ts", "// @ts-expect-error", False, False),
        ("a.c", "/* Adds. */", True, False),
        ("a.c", "/// Adds.", True, True),
        ("a.go", "// Adds.", True, True),
        ("a.rs", "/// Adds.\n#[inline]", True, True),
    ],
)
def test_any_comment_that_says_something_keeps_a_second_one_away(
    path: str, comment: str, documented: bool, mendable: bool
) -> None:
    function = {"a.ts": "function add() {}", "a.c": "int add(int a) { return a; }",
                "a.go": "func Add() {}", "a.rs": "pub fn add() {}"}[path]  # fmt: skip
    head = "package a\n\n" if path == "a.go" else ""
    source = f"{head}{comment}\n{function}\n"
    (shape,) = shapes_of(Document("", 0, language_of(path), source), path)
    assert (shape.documented, shape.existing is not None) == (documented, mendable)


@pytest.mark.parametrize("language", sorted(COMMENT_STYLES))
def test_what_was_written_needs_no_second_time(language: str) -> None:
    source = CASES[language][0]
    document = Document("", 0, language, source)
    snapshot = Snapshot(document, "a", None, None, Settings())
    new = applied(source, [e.edit for e in docstring_edits(snapshot, None)])
    again = replace(snapshot, document=replace(document, text=new))
    assert docstring_edits(again, None, update=True) == []
    assert drifts_in(again) == []


def test_a_comment_goes_above_attributes() -> None:
    source = "#[derive(Debug)]\n#[must_use]\npub struct Store {\n    a: u8,\n}\n"
    assert written(source, "a.rs") == f"/// A store.\n{source}"


def test_only_what_others_see_is_documented_unasked() -> None:
    source = (
        "class A {\n  int a(int b);\npublic:\n  int c(int d);\nprivate:\n  int e(int f);\n};\n"
        "namespace {\nint g(int h) { return h; }\n}\nint A::c(int d) { return d; }\n"
    )
    shapes = shapes_of(Document("", 0, "cpp", source), "a.cpp")
    assert [s.symbol for s in shapes if s.public] == ["A", "A.c"]


def test_the_name_of_a_test_says_enough() -> None:
    source = "class TestStore:\n    def test_size(self): pass\n\ndef test_all(): pass\n\ndef make(): pass\n"
    document = Document("", 0, "python", source)
    assert [s.symbol for s in shapes_of(document, "test_store.py") if s.public] == [MODULE, "make"]
    assert sum(s.public for s in shapes_of(document, "store.py")) == 5
    go = "package a\n\nfunc TestAll(t *testing.T) {}\n\nfunc Tested(t int) {}\n"
    shapes = shapes_of(Document("", 0, "go", go), "a_test.go")
    assert [s.symbol for s in shapes if s.public] == ["Tested"]


def test_names_with_a_librarys_prefix_are_spoken_without_it() -> None:
    source = "".join(f"int png_{verb}_row(int a);\n" for verb in ("read", "write", "skip"))
    new = written(source, "a.h")
    assert [line for line in new.split("\n") if "the row" in line][:3] == [
        " * Read the row.",
        " * Write the row.",
        " * Skip the row.",
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject.toml": '[tool.ruff.lint.pydocstyle]\nconvention = "numpy"'}, {"style": "numpy"}),
        ({"pyproject.toml": '[tool.pydocstyle]\nconvention = "google"'}, {"style": "google"}),
        ({"pyproject.toml": '[tool.pydocstyle]\nconvention = "pep257"'}, {}),
        ({"ruff.toml": 'line-length = 72\n[lint.pydocstyle]\nconvention = "google"'},
         {"style": "google", "width": 72}),
        ({"setup.cfg": "[pydocstyle]\nconvention = numpy"}, {"style": "numpy"}),
        ({"tox.ini": "[flake8]\ndocstring-convention = google"}, {"style": "google"}),
        ({"pyproject.toml": "[tool.pydoclint]\nstyle = 'sphinx'\narg-type-hints-in-docstring = false"},
         {"style": "sphinx", "types": False}),
        ({"pyproject.toml": "not = [toml"}, {}),
        ({"pyproject.toml": "tool = 3"}, {}),
        ({"setup.cfg": "no section"}, {}),
    ],
)  # fmt: skip
def test_a_projects_convention_is_read_and_a_broken_file_says_nothing(
    tmp_path: Path, files: dict[str, str], expected: dict[str, object]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "src").mkdir()
    (tmp_path / ".git").mkdir()
    assert project_convention(tmp_path / "src") == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", 'def f(a: int):\n    """F.\n\n    Args:\n        a: One.\n    """\n',
         Convention("google", types=False)),
        ("python", 'def f(a: int):\n    """F.\n\n    Args:\n        a (int): One.\n    """\n',
         Convention("google", types=True)),
        ("javascript", "/**\n * F.\n * @param a One.\n */\nfunction f(a) {}\n",
         Convention("jsdoc", types=False, width=100)),
        ("cpp", "/// \\brief F.\n/// \\param a One.\nint f(int a);\n",
         Convention("doxygen", False, 100, mark="///", tag="\\", brief=True)),
        ("rust", "/// F.\n///\n/// # Arguments\n///\n/// * `a` - One.\npub fn f(a: u8) {}\n",
         Convention("rustdoc", False, 100, mark="///", arguments=True)),
    ],
)  # fmt: skip
def test_the_habits_of_a_file_are_kept(language: str, text: str, expected: Convention) -> None:
    shapes = shapes_of(Document("", 0, language, text), "a")
    assert convention_for(language, text, shapes, "auto", None) == expected

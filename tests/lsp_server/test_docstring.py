import ast
import textwrap
from dataclasses import replace

import pytest

from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.lsp_server.docstring import docstring_edits
from qcoder.lsp_server.docstring_python import MODULE
from qcoder.lsp_server.edited import applied as apply
from qcoder.lsp_server.edited import that_compile
from qcoder.lsp_server.postprocess import errors
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot, TextEdit
from qcoder.model.fake import FakeEngine


def edits(
    source: str, path: str = "a.py", engine: object = None, **chosen: object
) -> list[DocstringEdit]:
    """Edits of the definitions; that of the module only by its name."""
    made = docstring_edits(snapshot_of(source, path), engine, **chosen)  # type: ignore[arg-type]
    return [e for e in made if e.symbol != MODULE or chosen.get("symbol") == MODULE]


def snapshot_of(source: str, path: str = "a.py") -> Snapshot:
    document = Document(f"file:///{path}", 1, language_of(path), source)
    return Snapshot(document, path, None, None, Settings())


def applied(source: str, made: list[DocstringEdit]) -> str:
    for e in (e.edit for e in made):
        assert (e.start_line, e.start_column) == (e.end_line, e.end_column)
    return apply(source, [e.edit for e in made])


def code(source: str) -> str:
    """The program without its docstrings and positions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[:] = body[1:] or [ast.Pass()]
    return ast.dump(tree)


SOURCES = [
    "def load_settings(path, strict=False):\n    return path\n",
    "def f(): pass\n",
    "def f():   return 1\n",
    "class A: x = 1\n",
    "class A:\n    def g(self): pass\n",
    "class A:\n    x = 1\n",
    "async def fetch(url: str, *args: int, **kwargs: str) -> bytes:\n    return b''\n",
    "@decorate\ndef f(a, /, b, *, c=1):\n    return a\n",
    "def f(\n    a: 'Quoted | None',\n    b: dict[\n        str, int\n    ] = {},\n) -> None:\n    pass\n",
    'def f():\n    x = """text"""\n    return x\n',
    "def f():  # why\n    # what\n    return 1\n",
    "def é(ü):\n    return ü\n",
    "def f(a):\n\tif a == '\\n':\n\t\traise ValueError(a)\n",
    "if x:\n    def f(): return 1\nelse:\n    def f(): return 2\n",
    "def f():\n\n    return 1\n",
    "def outer():\n    def inner():\n        yield 1\n    return inner\n",
    "class A:\n\n    @property\n    def is_open(self) -> bool:\n        return True\n",
    "def f(a=lambda x: x, b={'k': 1}):\n    return a\n",
    "class C:\n\tx = 1\n\n\tdef g(self):\n\t\tpass\n",
    "class A[T]:\n    def g(self: 'A[T]', x: T) -> T:\n        return x\n",
]


@pytest.mark.parametrize("style", ["google", "numpy", "sphinx"])
@pytest.mark.parametrize("source", SOURCES)
def test_edit_only_adds_a_docstring(source: str, style: str) -> None:
    made = edits(source, style=style)
    made += [
        e
        for s in ("A.g", "outer.inner")
        for e in edits(source, symbol=s, style=style)
        if e not in made
    ]
    new = applied(source, made)
    assert made
    assert errors(new, "python") == errors(source, "python") == 0
    if "[T]" not in source:
        assert code(new) == code(source)
    for line in new.split("\n"):
        assert line == line.rstrip()
    for e in made:
        assert e.edit.new_text.strip() in new
        assert e.docstring.split("\n")[0] in new


@pytest.mark.parametrize(
    "source", ["class C:\n\tdef g(self): pass\n", "def f():\tpass\n", "if 1:\n\tdef f():  pass\n"]
)
def test_a_body_behind_the_colon_keeps_the_indent_that_python_wants(source: str) -> None:
    compile(applied(source, edits(source)), "a.py", "exec")


@pytest.mark.parametrize("start", ["", "# first\n", "#!/usr/bin/python\n\n"])
def test_the_text_of_a_module_goes_behind_its_byte_order_mark(start: str) -> None:
    source = f"\ufeff{start}import os\n"
    (made,) = edits(source, symbol=MODULE)
    new = applied(source, [made])
    assert new.startswith("\ufeff")
    assert ast.get_docstring(ast.parse(new.removeprefix("\ufeff"))) is not None


def test_an_edit_that_python_would_not_compile_is_dropped() -> None:
    source = "def f():\n    return 1\n"
    fine = TextEdit(1, 0, 1, 0, '    """Text."""\n')
    broken = TextEdit(1, 0, 1, 0, '\t"""Text."""\n')
    assert that_compile(source, [fine, broken]) == [fine]
    assert that_compile(source + "(", [broken]) == [broken]


def test_google_names_everything_that_the_signature_and_body_say() -> None:
    source = textwrap.dedent(
        """
        def load_settings(path: "Path", retries: int = 3, *rest: str, strict=False, **options) -> dict[str, int]:
            if retries < 0:
                raise ValueError("retries")
            try:
                raise KeyError(path)
            except KeyError:
                pass
            def helper():
                raise OSError()
            return {}
        """
    )
    (edit,) = edits(source)
    assert edit.docstring.split("\n") == [
        "Load the settings.",
        "",
        "Args:",
        "    path (Path): The path.",
        "    retries (int): Defaults to 3.",
        "    *rest (str): Further arguments.",
        "    strict: Whether strict applies. Defaults to False.",
        "    **options: Further keyword arguments.",
        "",
        "Returns:",
        "    dict[str, int]: The settings.",
        "",
        "Raises:",
        "    ValueError: If `retries < 0`.",
    ]
    assert edit.slots_from_model == 0


@pytest.mark.parametrize(
    ("other", "style"),
    [
        ('"""X.\n\n    :param a: b\n    :returns: c\n    """', "sphinx"),
        ('"""X.\n\n    Parameters\n    ----------\n    a\n    """', "numpy"),
        ('"""X.\n\n    Args:\n        a: b\n    """', "google"),
        ('"""X."""', "google"),
    ],
)
def test_style_follows_the_file(other: str, style: str) -> None:
    source = f"def old(a):\n    {other}\n\n\ndef new(b):\n    return b\n"
    assert [e.style for e in edits(source)] == [style]


def test_documented_definitions_are_left_alone() -> None:
    source = 'def f():\n    """Say so."""\n\n\nclass A:\n    "Short."\n'
    assert edits(source) == []
    assert edits(source, symbol="f") == []
    assert edits(source, line=1) == []


def test_selection_by_symbol_and_line() -> None:
    source = "class A:\n    def _g(self):\n        return 1\n\n\ndef _h():\n    pass\n"
    assert [e.symbol for e in edits(source)] == ["A"]
    assert [e.symbol for e in edits(source, symbol="A._g")] == ["A._g"]
    assert [e.symbol for e in edits(source, symbol="_h")] == ["_h"]
    assert [e.symbol for e in edits(source, line=2)] == ["A._g"]
    assert edits(source, symbol="nobody") == []


LOADER = "def load(path):\n    # settings of the user from disk\n    return path\n"


def test_a_good_summary_of_the_default_model_is_taken() -> None:
    engine = FakeEngine(["Loads user settings from disk.", "Path of the settings on disk."])
    (edit,) = edits(LOADER, engine=engine, symbol="load")
    assert edit.docstring.startswith("Loads user settings from disk.\n")
    assert "path: The path." in edit.docstring
    assert edit.slots_from_model == len(engine.requests) == 1


def test_good_sentences_of_a_larger_model_are_taken() -> None:
    engine = FakeEngine(
        ["Reads the user's settings.", "Where the file is.", "What the file says of the user."]
    )
    engine.info = replace(engine.info, is_default=False)
    (edit,) = edits(LOADER, engine=engine, symbol="load")
    assert edit.docstring.split("\n")[0] == "Reads the user's settings."
    assert "path: Where the file is." in edit.docstring
    assert "What the file says of the user." in edit.docstring
    assert edit.slots_from_model == 3


def test_a_copy_of_another_sentence_is_not_taken() -> None:
    source = "def load(path, old_path=None):\n    return path\n"
    engine = FakeEngine(["", "The old path, if any."])
    engine.info = replace(engine.info, is_default=False)
    (edit,) = edits(source, engine=engine, symbol="load")
    assert "path: The path.\n" in edit.docstring


def test_the_default_model_says_nothing_that_the_code_does_not() -> None:
    engine = FakeEngine(["Loads user settings from the database."])
    (edit,) = edits(LOADER, engine=engine, symbol="load")
    assert edit.slots_from_model == 0
    assert "database" not in edit.docstring


@pytest.mark.parametrize(
    "answer",
    [
        "", "Load.", "def load(path): return 1", "Load the path of the", "the the the path",
        "Uses other_module.thing to do it", "Loads the thing with some_name inside", "x = 1 + 2 now",
        "Load load load load", "Reads something quite different", "See https://example.com for more", "`unbalanced code in here",
    ],
)  # fmt: skip
def test_bad_sentences_of_the_model_are_dropped(answer: str) -> None:
    (edit,) = edits("def load(path):\n    return path\n", engine=FakeEngine([answer]))
    assert edit.slots_from_model == 0
    assert edit.docstring.startswith("Load.")


def test_unsure_model_is_not_asked_twice_for_an_opinion() -> None:
    engine = FakeEngine(["Loads user settings from disk."], logprob=-3.0)
    (edit,) = edits(LOADER, engine=engine)
    assert edit.slots_from_model == 0


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("a.ts", "export function loadUser(id: string, force = false): User {\n  return x\n}\n",
         "/**\n * Load the user.\n *\n * @param id - The id.\n"
         " * @param force - Whether to force. Defaults to `false`.\n"
         " * @returns The user.\n */\nexport function"),
        ("a.js", "class A {\n  save(items) {\n    run()\n  }\n}\n",
         "  /**\n   * Save.\n   *\n   * @param {*} items - The items.\n   */\n  save(items)"),
        ("a.go", "package a\n\nfunc LoadFile(p string) error {\n\treturn nil\n}\n",
         "// LoadFile loads the file.\nfunc LoadFile"),
        ("a.rs", "pub fn parse_line(s: &str) -> u8 {\n    1\n}\n",
         "/// Parse the line.\npub fn parse_line"),
        ("A.java", "class A {\n    int getCount(String key) throws IOException { return 1; }\n}\n",
         "    /**\n     * Return the count.\n     *\n     * @param key The key.\n     * @return The count.\n"
         "     * @throws IOException On io.\n     */\n    int getCount"),
        ("a.c", "int open_port(int n) {\n  return n;\n}\n", "/**\n * Open the port.\n *\n * @param n The n.\n * @return The port.\n */\nint open_port"),
    ],
)  # fmt: skip
def test_comments_above_in_other_languages(path: str, source: str, expected: str) -> None:
    made = edits(source, path)
    new = applied(source, made)
    assert expected in new
    assert errors(new, language_of(path)) == errors(source, language_of(path)) == 0


def test_impossible_style_is_named() -> None:
    with pytest.raises(ValueError, match="jsdoc"):
        edits("function f() {}\n", "a.js", style="numpy")


@pytest.mark.parametrize(
    "source", ["", "def", "def f(:\n", "class", "def f()", "x\n\0def f(): pass"]
)
def test_broken_sources_give_no_worse_file(source: str) -> None:
    new = applied(source, edits(source))
    assert errors(new, "python") <= errors(source, "python")


def test_refused_files_get_nothing() -> None:
    assert edits("def f():\n    pass\n", "secrets.py") == []
    key = "-----BEGIN RSA PRIVATE " + "KEY-----"
    assert edits(f"KEY = '{key}'\n\ndef f():\n    pass\n") == []


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        ("class UserStore:\n    x = 1\n", "A user store."),
        ("class HTTPClient:\n    x = 1\n", "An HTTP client."),
        ("class EntryPoint:\n    x = 1\n", "An entry point."),
        ("def is_open(): ...\n", "Tell whether it is open."),
        ("def to_json(): ...\n", "Convert to json."),
        ("def get_user_by_id(): ...\n", "Return the user by id."),
        ("def iter_files():\n    yield 1\n", "Iterate over the files."),
        ("def area(x):\n    return x\n", "Return the area."),
        ("def on_close(): ...\n", "Handle close."),
        ("def shut_down(): ...\n", "Shut down."),
        ("class A:\n    '.'\n    @property\n    def size(self): return 1\n", "The size."),
        ("class A:\n    '.'\n    def __init__(self): pass\n", "Initialize the a."),
    ],
)
def test_plain_summaries_read_like_english(source: str, summary: str) -> None:
    symbol = "__init__" if "__init__" in source else None
    assert edits(source, symbol=symbol)[0].docstring.split("\n")[0] == summary


HABITS = """
def first(timeout, path):
    \"\"\"First.

    Args:
        timeout: Seconds to wait for an answer. Defaults to 3.
        path: Where to read.
    \"\"\"


def second(timeout=5, path=None):
    \"\"\"Second.

    Args:
        timeout: Seconds to wait
            for an answer.
        path: Where to write.
    \"\"\"


def third(timeout=7, path=None):
    pass
"""


def test_what_the_file_says_again_and_again_of_a_parameter_is_said_again() -> None:
    (edit,) = edits(HABITS)
    assert edit.docstring.split("\n")[3:] == [
        "    timeout: Seconds to wait for an answer. Defaults to 7.",
        "    path: The path, if any.",
    ]


def test_stub_files_are_left_to_the_code_that_they_declare() -> None:
    source = "def load(path: str) -> int: ...\n"
    assert edits(source, "a.pyi") == []
    assert [e.symbol for e in edits(source, "a.pyi", symbol="load")] == ["load"]

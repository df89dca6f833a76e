"""What is and is not drift, and that mending one leaves nothing else changed."""

import textwrap

import pytest

from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.lsp_server.docstring import docstring_edits, drifts_in
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Snapshot


def snapshot_of(source: str, path: str = "a.py") -> Snapshot:
    document = Document(f"file:///{path}", 1, language_of(path), source)
    return Snapshot(document, path, None, None, Settings())


def drift(source: str, path: str = "a.py") -> list[tuple[str, str]]:
    return [(d.rule, d.message) for _, d in drifts_in(snapshot_of(source, path))]


def mended(source: str, path: str = "a.py", symbol: str | None = None) -> str:
    made = docstring_edits(snapshot_of(source, path), None, symbol=symbol, update=True)
    there = [e for e in made if symbol is not None or e.edit.start_column + e.edit.end_column]
    return applied(source, [e.edit for e in there])


def function(signature: str, docstring: str, body: str = "return run()") -> str:
    """A function with a docstring of these lines."""
    text = textwrap.indent(textwrap.dedent(docstring).strip("\n"), "    ")
    return f'def f({signature}):\n    """Do it.\n\n{text}\n    """\n    {body}\n'


GOOGLE = "Args:\n    first: One.\n    second: Two."
NUMPY = "Parameters\n----------\nfirst\n    One.\nsecond : int\n    Two."
SPHINX = ":param first: One.\n:param second: Two."


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX])
@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("first, second", []),
        ("first, second=1, *rest", []),
        ("second, first", []),
        ("first, **options", []),
        ("first, third", [("renamed-parameter", "`second` is called `third` in the code")]),
        ("first", [("unknown-parameter", "`second` is documented, but is no parameter")]),
        (
            "first, second, third",
            [("missing-parameter", "parameter `third` is not documented")],
        ),
        (
            "zero, first, second",
            [("missing-parameter", "parameter `zero` is not documented")],
        ),
    ],
)
def test_parameters_are_compared_by_name(
    docstring: str, signature: str, expected: list[tuple[str, str]]
) -> None:
    source = function(signature, docstring)
    assert drift(source) == expected
    new = mended(source)
    assert drift(new) == []
    assert (new == source) == (not expected)
    assert "One." in new


@pytest.mark.parametrize(
    "source",
    [
        function("a, b, c", "Args:\n    a: Only this one of many."),
        function("a", "Args:\n    a: One.\n    key: Goes into a wrapper.").replace(
            "def f", "@injects\ndef f"
        ),
        function("a", "Raises:\n    OSError: When a callee does."),
        function("a", "Raises:\n    KeyError: When it is not there.", "return a.b[1]"),
        function("a", "Returns:\n    None", "a.b()"),
        function("a", "Returns:\n    What a subclass makes of it.", "raise NotImplementedError"),
        function("a", "Yields:\n    One by one.", "yield a"),
        function("a", "Returns:\n    An iterator.", "yield a"),
        function("a: float", "Args:\n    a (int): One."),
        function("a=None", "Args:\n    a: One. Defaults to 3."),
        function("a", "Args:\n    a: One, the raises:\n        of the game."),
        function("a", "Example:\n    b: no parameter."),
        'class A(Base):\n    """A.\n\n    Args:\n        b: For the base.\n    """\n',
        'def f(a, b):\n    """Only a summary."""\n',
        'def f(a):\n    f"""Args:\n    {b}: x\n    """\n',
        'def f(a):\n    """X.\n\n    Args:\n    """\n',
        "class A:\n    @property\n    def b(self):\n        '''B.\n\n        :param value: New.\n        '''\n",
    ],
)
def test_what_may_be_true_is_no_drift(source: str) -> None:
    assert drift(source) == []


@pytest.mark.parametrize(
    ("source", "rule", "changed"),
    [
        (
            function("a", "Raises:\n    OSError: Never.\n    ValueError: If so.",
                     "if a:\n        raise ValueError"),
            "never-raised", ("        OSError: Never.\n", ""),
        ),
        (
            function("a", "Raises:\n    OSError: Never.", "return None"),
            "never-raised", ("\n\n    Raises:\n        OSError: Never.", ""),
        ),
        (
            function("a", "Raises:\n    OSError: So.", "raise ValueError(run())"),
            "missing-raises", ("OSError: So.\n", "OSError: So.\n        ValueError: If a value is not valid.\n"),
        ),
        (
            function("a", "Returns:\n    int: A number.", "print(a)"),
            "nothing-returned", ("\n\n    Returns:\n        int: A number.", ""),
        ),
        (
            function("a=5", "Args:\n    a: One. Defaults to 3."),
            "other-default", ("Defaults to 3.", "Defaults to 5."),
        ),
        (
            function("a: int = 5", "Args:\n    a (str): One."),
            "other-type", ("a (str)", "a (int)"),
        ),
        (
            function("a", "Parameters\n-----\na\n    One."),
            "broken-style", ("-----", "----------"),
        ),
        (
            function("a", "Args\n    a: One."),
            "broken-style", ("Args\n", "Args:\n"),
        ),
        (
            function("a, b", "Args:\n    a: One.\n\n:param b: Two."),
            "broken-style", None,
        ),
    ],
)  # fmt: skip
def test_what_the_code_disproves_is_found_and_mended(
    source: str, rule: str | None, changed: tuple[str, str] | None
) -> None:
    found = [name for name, _ in drift(source)]
    assert found[:1] == ([rule] if rule else [])
    if changed is not None:
        new = mended(source)
        assert new == source.replace(changed[0], changed[1], 1)
        assert rule not in [name for name, _ in drift(new)]


def test_a_renamed_parameter_keeps_its_prose_and_place() -> None:
    source = function("a, path, c", "Args:\n  a: One.\n  file: Two,\n    and more.\n  c: Three.")
    new = mended(source)
    assert new == source.replace("file:", "path:")


def test_new_entries_take_the_indent_and_the_habits_of_their_neighbours() -> None:
    source = function("a: int, b: str = 'x', c=1", "Args:\n  a: One.\n  c: Three.\n\nNote:\n  Be.")
    new = mended(source)
    assert new == source.replace("  a: One.\n", "  a: One.\n      b: Defaults to 'x'.\n", 1)
    typed = function("a: int, b: str", "Args:\n    a (int): One.")
    assert "        b (str): The b.\n" in mended(typed)


@pytest.mark.parametrize(
    ("path", "source", "added"),
    [
        ("a.py", 'def f(a, b):\n\t"""F.\n\n\tArgs:\n\t\ta: One.\n\t"""\n', "\t\tb: The b.\n"),
        (
            "a.js",
            "/**\n  F.\n  @param {number} a One.\n*/\nfunction f(a, limit) {}\n",
            "  @param {*} limit - The limit.\n",
        ),
        (
            "a.rs",
            "/// F.\n///\n/// # Arguments\n///\n/// * `a` - One.\npub fn f(a: u8, limit: u8) {}\n",
            "/// * `limit` - The limit.\n",
        ),
        (
            "a.cs",
            'class A {\n    /// <summary>F.</summary>\n    /// <param name="a">One.</param>\n'
            "    public void F(int a, int limit) {}\n}\n",
            '    /// <param name="limit">The limit.</param>\n',
        ),
    ],
)
def test_new_entries_begin_as_their_neighbours_do(path: str, source: str, added: str) -> None:
    new = mended(source, path)
    assert added in new
    assert new.replace(added, "") == source


def test_a_summary_gets_its_sections_only_when_asked_for_by_name() -> None:
    source = "def load_users(path, limit=3):\n    'Read.'\n    return [path, limit]\n"
    assert mended(source) == source
    assert mended(source, symbol="load_users") == (
        'def load_users(path, limit=3):\n    """Read.\n\n    Args:\n        path: The path.\n'
        "        limit: Defaults to 3.\n\n    Returns:\n        The users.\n"
        '    """\n    return [path, limit]\n'
    )


def test_sections_are_added_where_they_belong() -> None:
    listed = "Returns:\n    What is right.\n\nExample:\n    Once."
    source = function("a", listed, "if a: raise ValueError\n    return a")
    new = mended(source, symbol="f")
    assert new.index("Args:") < new.index("Returns:") < new.index("Example:") < new.index("Raises:")
    assert mended(new, symbol="f") == new


def test_backslashes_are_written_for_the_kind_of_string() -> None:
    body = "a, sep='\\n'"
    plain = function(body, "Args:\n    a: One.")
    assert r"sep: Defaults to '\\n'." in mended(plain)
    assert r"sep: Defaults to '\n'." in mended(plain.replace('"""Do', 'r"""Do'))


@pytest.mark.parametrize(
    ("path", "source", "rule", "changed"),
    [
        (
            "a.ts",
            "/**\n * Add.\n *\n * @param a - One.\n * @param b - Two.\n */\n"
            "export function add(a: number, c: number) {\n  return a\n}\n",
            "renamed-parameter", ("@param b", "@param c"),
        ),
        (
            "a.js",
            "/**\n * Add.\n * @param {number} a One.\n */\nfunction add(a, limit) {\n  return a\n}\n",
            "missing-parameter",
            ("One.\n", "One.\n * @param {*} limit - The limit.\n"),
        ),
        (
            "A.java",
            "class A {\n    /**\n     * Add.\n     *\n     * @param a one\n     * @param b two\n     */\n"
            "    int add(int a) { return a; }\n}\n",
            "unknown-parameter", ("     * @param b two\n", ""),
        ),
        (
            "a.cpp",
            "/// Add.\n/// \\param a One.\n/// \\return The sum.\nvoid add(int a, int b);\n",
            "missing-parameter",
            None,
        ),
        (
            "a.php",
            "<?php\n/**\n * Add.\n *\n * @param int $a One.\n * @param $b Two.\n */\n"
            "function add(int $a, $c) { return 1; }\n",
            "renamed-parameter", ("$b Two", "$c Two"),
        ),
        (
            "a.cs",
            "class A {\n    /// <summary>Add.</summary>\n    /// <param name=\"a\">One.</param>\n"
            "    public int Add(int b) { return 1; }\n}\n",
            "renamed-parameter", ('name="a"', 'name="b"'),
        ),
    ],
)  # fmt: skip
def test_comments_of_other_languages_are_checked_and_mended(
    path: str, source: str, rule: str, changed: tuple[str, str] | None
) -> None:
    assert rule in [name for name, _ in drift(source, path)]
    new = mended(source, path)
    if changed is not None:
        assert new == source.replace(*changed)
    assert drift(new, path) == []


@pytest.mark.parametrize(
    "source",
    [
        "/**\n * @param opts - All.\n * @param opts.deep - One.\n */\nfunction f({ deep }) {}\n",
        "/** @inheritdoc */\nfunction f(a) {}\n",
        "// @param nothing of the kind\nfunction f(a) {}\n",
        "/**\n * @returns {void}\n */\nfunction f(a) {}\n",
        "/**\n * @returns {asserts a is string} Asserts.\n */\nfunction f(a) {}\n",
        "/**\n * @returns {string} A.\n */\nfunction f(a) { throw new Error('not here') }\n",
    ],
)
def test_no_drift_in_comments_that_may_be_true(source: str) -> None:
    assert [r for r, _ in drift(source, "a.js") if r != "renamed-parameter"] == []

from qcoder.lsp_server.python_tree import BINDING, PythonFile, text_of

SOURCE = """import os

def area(width, *rest, größe=1, **named):
    größe_x = width
    for width_2 in rest:
        größe = width.width + f(width=größe)
    with os.open(width) as handle:
        del handle
    return [width for width in rest if größe]
"""


def file_of(source: str) -> PythonFile:
    file = PythonFile.parse(source)
    assert file is not None
    return file


def test_names_that_are_given_a_value() -> None:
    file = file_of(SOURCE)
    (function,) = file.functions
    assert [text_of(node) for node in file.within(BINDING, function)] == [
        "area", "width", "rest", "größe", "named", "größe_x", "width_2", "größe", "handle",
        "handle", "width",
    ]  # fmt: skip


def test_a_name_is_found_as_a_whole_and_in_code_only() -> None:
    file = file_of(SOURCE + "x = 'width'  # width\n")
    for name, count in (("width", 8), ("größe", 4), ("größ", 0), ("os", 2)):
        found = list(file.named(name, file.root))
        assert len(found) == count, name
        assert {text_of(node) for node in found} <= {name}


def test_calls_by_the_last_name_in_document_order() -> None:
    file = file_of("a.b(c()).d(b())\nb()\n(lambda: 0)()\n")
    assert sorted(file.calls_by_name) == ["b", "c", "d"]
    assert [text_of(call) for call in file.calls_of({"b", "d", "none"})] == [
        "a.b(c()).d(b())", "a.b(c())", "b()", "b()",
    ]  # fmt: skip

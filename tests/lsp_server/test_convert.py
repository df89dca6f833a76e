import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from qcoder.lsp_server.convert import cursor_after, path_of

UTF16 = PositionCodec(types.PositionEncodingKind.Utf16)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (2, 3)),
        ("ab", (2, 5)),
        ("😀", (2, 5)),
        ("\n    ", (3, 4)),
        ("a\r\nb\rc", (4, 1)),
        ("()", (2, 4)),
        ("(a)", (2, 6)),
    ],
)
def test_the_cursor_stands_behind_what_was_typed(text: str, expected: tuple[int, int]) -> None:
    start = types.Position(2, 3)
    change = types.TextDocumentContentChangePartial(types.Range(start, types.Position(2, 9)), text)
    found = cursor_after(UTF16, change)
    assert found is not None
    assert (found.line, found.character) == expected


def test_a_whole_text_says_nothing_of_the_cursor() -> None:
    assert cursor_after(UTF16, types.TextDocumentContentChangeWholeDocument("x")) is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:///a%20b/c.py", "/a b/c.py"),
        ("untitled:Untitled-1", "Untitled-1"),
        ("untitled:/w/new.py", "new.py"),
        ("http://host/a.py", None),
        ("file:///a%00.py", None),
        ("file:///\ud83d.py", None),
        ("", None),
    ],
)
def test_only_files_and_unsaved_buffers_have_a_path(uri: str, expected: str | None) -> None:
    found = path_of(uri)
    assert (None if found is None else str(found)) == expected

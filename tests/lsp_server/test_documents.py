import random

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from qcoder.lsp_server.documents import (
    ProtocolWorkspace,
    column_of,
    normalized,
    open_document,
    rows_of,
    splice,
)

ODD = ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
ENCODINGS = list(types.PositionEncodingKind)
URI = "file:///w/my%20file.py"


def workspace(text: str, encoding: types.PositionEncodingKind) -> ProtocolWorkspace:
    made = ProtocolWorkspace(None, position_encoding=encoding)
    made.put_text_document(types.TextDocumentItem(URI, "python", 1, text))
    return made


def check(text: str, start: tuple[int, int], end: tuple[int, int], new: str, expected: str) -> None:
    """Replacing a range, in UTF-16 units, gives `expected`."""
    made = workspace(text, types.PositionEncodingKind.Utf16)
    change = types.TextDocumentContentChangePartial(
        types.Range(types.Position(*start), types.Position(*end)), new
    )
    made.update_text_document(types.VersionedTextDocumentIdentifier(2, URI), change)
    document = open_document(made, URI)
    assert document is not None
    assert document.source == expected
    assert document.lines == rows_of(expected)
    assert document.version == 2


@pytest.mark.parametrize("odd", ODD)
def test_only_line_ends_of_the_protocol_end_lines(odd: str) -> None:
    assert rows_of(f"a{odd}b\nc") == [f"a{odd}b\n", "c"]
    check(f"a{odd}\nb\n", (1, 1), (1, 1), "!", f"a{odd}\nb!\n")


@pytest.mark.parametrize(
    ("text", "start", "end", "new", "expected"),
    [
        ("", (0, 0), (0, 0), "a\nb", "a\nb"),
        ("a\n", (1, 0), (1, 0), "b", "a\nb"),
        ("a\nb\nc", (0, 1), (2, 0), "", "ac"),
        ("a\r\nb\r\n", (1, 0), (1, 1), "x\r\ny", "a\r\nx\r\ny\r\n"),
        ("a\rb\rc", (1, 0), (1, 1), "x", "a\rx\rc"),
        ("a\rb\nc", (1, 0), (1, 1), "", "a\r\nc"),
        ("a\rc", (1, 0), (1, 0), "\n", "a\r\nc"),
        ("ab\n", (0, 1), (0, 1), "\r", "a\rb\n"),
        ("a\n", (0, 1), (0, 1), "\r", "a\r\n"),
        ("😀x\n", (0, 2), (0, 3), "y", "😀y\n"),
        ("abc", (0, 99), (0, 99), "!", "abc!"),
        ("abc\nd", (0, 99), (0, 99), "!", "abc!\nd"),
        ("abc\n", (9, 9), (9, 9), "!", "abc\n!"),
        ("abc", (0, 2), (0, 1), "-", "a-c"),
    ],
)
def test_edits_land_where_the_client_means(
    text: str, start: tuple[int, int], end: tuple[int, int], new: str, expected: str
) -> None:
    check(text, start, end, new, expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_columns_count_the_agreed_units(encoding: types.PositionEncodingKind) -> None:
    codec = PositionCodec(encoding)
    row = "aé😀z"
    for column in range(len(row) + 1):
        assert column_of(row, codec.client_num_units(row[:column]), codec) == column
    assert column_of(row, 1000, codec) == len(row)
    if encoding != types.PositionEncodingKind.Utf32:
        cut = codec.client_num_units("aé") + 1
        assert column_of(row, cut, codec) == 2


def test_random_edits_keep_rows_equal_to_splitting_the_whole_text() -> None:
    rng = random.Random(5)
    alphabet = ["a", "é", "😀", "\n", "\r", "\r\n", "\f", "\u2028", ""]
    for _ in range(60):
        rows = rows_of("")
        for _ in range(40):
            new = "".join(rng.choices(alphabet, k=rng.randrange(5)))
            places = []
            for _ in range(2):
                row = rng.randrange(len(rows))
                places.append((row, rng.randint(0, len(rows[row].rstrip("\r\n")))))
            start, end = sorted(places)
            before = "".join(rows[: start[0]]) + rows[start[0]][: start[1]]
            after = rows[end[0]][end[1] :] + "".join(rows[end[0] + 1 :])
            splice(rows, start, end, new)
            assert rows == rows_of(before + new + after)


def test_a_change_of_the_whole_text_replaces_it() -> None:
    made = workspace("old\n", types.PositionEncodingKind.Utf16)
    identifier = types.VersionedTextDocumentIdentifier(7, URI)
    made.update_text_document(identifier, types.TextDocumentContentChangeWholeDocument("new"))
    document = open_document(made, URI)
    assert document is not None
    assert (document.source, document.version) == ("new", 7)


def test_a_change_of_an_unopened_document_is_ignored() -> None:
    made = workspace("", types.PositionEncodingKind.Utf16)
    identifier = types.VersionedTextDocumentIdentifier(1, "file:///other.py")
    made.update_text_document(identifier, types.TextDocumentContentChangeWholeDocument("x"))
    assert open_document(made, "file:///other.py") is None


def test_normalized_text_keeps_positions_and_can_be_encoded() -> None:
    text = "a\r\nb\rc\ud83d\nd"
    assert normalized(text) == "a\nb\nc\ufffd\nd"
    assert normalized("😀\n") == "😀\n"

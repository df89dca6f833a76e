import pytest

from qcoder.context.pieces import lines_piece

TEXT = "first\n\n  zwei ü\r\nthree\n\n\nseven\n"


@pytest.mark.parametrize("text", [TEXT, TEXT.rstrip("\n"), "", "\n\n", "only"])
def test_lines_of_a_file_keep_their_place_in_it(text: str) -> None:
    rows = text.split("\n")
    data = text.encode()
    for start in range(len(rows) + 2):
        for end in range(len(rows) + 3):
            piece = lines_piece("a.py", text, (start, end), "chunk", "", 1.0, "why")
            wanted = [n for n in range(start, min(end, len(rows))) if rows[n].strip()]
            if not wanted:
                assert piece is None
                continue
            assert piece is not None
            span = piece.span
            assert (span.start_line, span.end_line) == (wanted[0], wanted[-1] + 1)
            cut = data[span.start_byte : span.end_byte].decode()
            assert cut == "\n".join(rows[wanted[0] : wanted[-1] + 1])
            assert piece.text == "\n".join(row.removesuffix("\r") for row in cut.split("\n")) + "\n"

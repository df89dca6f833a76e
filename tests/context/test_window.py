from qcoder.context.window import offset_of


def test_offsets_are_the_same_whatever_the_line_ends_are() -> None:
    plain = "ab\n\ncäd\n\fe"
    for line in range(6):
        for column in range(5):
            offset = offset_of(plain, line, column)
            assert plain[:offset].count("\n") == min(line, 3)
            carried = plain.replace("\n", "\r")
            assert offset_of(carried, line, column) == offset

import pytest

from qcoder.lsp_server.rhythm import MAX_WAIT_S, USUAL_GAP_S, Rhythm


def typed(gap_s: float, keys: int = 30) -> Rhythm:
    """Somebody who typed with these gaps; the last key came at 0."""
    rhythm = Rhythm()
    for key in range(keys):
        rhythm = rhythm.edited((key - keys + 1) * gap_s)
    return rhythm


def test_who_types_slowly_is_waited_for_longer() -> None:
    waits = [typed(gap).wait_s(0.0, "x = com", 0.06, 0.0) for gap in (0.05, 0.1, 0.2, 0.5)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(1.5 * 0.05, rel=0.2)
    assert waits[-1] == MAX_WAIT_S


def test_a_pause_is_no_part_of_the_rhythm() -> None:
    rhythm = typed(0.1)
    assert rhythm.edited(60.0).gap_s == rhythm.gap_s


def test_a_word_is_more_likely_to_go_on_than_to_begin() -> None:
    rhythm = typed(0.2)
    assert rhythm.wait_s(0.0, "x = co", 0.06, 0.0) > rhythm.wait_s(0.0, "x = ", 0.06, 0.0)


def test_a_new_line_waits_only_as_long_as_the_setting_says() -> None:
    assert typed(0.2).wait_s(0.0, "    ", 0.06, 0.0) == 0.06


def test_what_the_answer_and_the_editor_take_is_not_waited_for() -> None:
    rhythm = typed(0.2)
    whole = rhythm.wait_s(0.0, "com", 0.06, 0.0)
    assert rhythm.wait_s(0.0, "com", 0.06, 0.1) == pytest.approx(whole - 0.1)
    assert rhythm.wait_s(0.1, "com", 0.06, 0.0) == pytest.approx(whole - 0.1)
    assert rhythm.wait_s(9.0, "com", 0.06, 0.0) == 0.0
    assert rhythm.wait_s(0.0, "com", 0.06, 9.0) == 0.06


def test_nobody_waits_where_nothing_was_typed_or_who_sets_nothing() -> None:
    assert Rhythm().wait_s(0.0, "com", 0.06, 0.0) == 0.0
    assert typed(0.2).wait_s(0.0, "com", 0.0, 0.0) == 0.0
    assert Rhythm().gap_s == USUAL_GAP_S

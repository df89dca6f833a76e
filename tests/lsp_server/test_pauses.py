"""Python's collector stays out of the way of a pack."""

import gc
from collections.abc import Iterator

import pytest

from qcoder.lsp_server.pauses import YOUNG, keep_what_is_there, search_seldom


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def collected() -> int:
    """Objects of cycles that were freed so far."""
    return sum(generation["collected"] for generation in gc.get_stats())


def test_objects_of_a_pack_cause_no_search() -> None:
    search_seldom()
    gc.collect()
    before = [generation["collections"] for generation in gc.get_stats()]
    made = [[number] for number in range(YOUNG // 2)]
    assert [generation["collections"] for generation in gc.get_stats()] == before
    assert len(made) == YOUNG // 2


def test_garbage_in_cycles_is_found_in_the_end() -> None:
    search_seldom()
    before = collected()
    for _ in range(2 * YOUNG):
        cycle: list[object] = []
        cycle.append(cycle)
    assert collected() - before >= YOUNG // 2


def test_what_is_there_is_not_looked_through_again() -> None:
    index = [[number] for number in range(1000)]
    keep_what_is_there()
    assert gc.get_freeze_count() >= len(index)
    assert not any(item is index for item in gc.get_objects())

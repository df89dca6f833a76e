import random

import numpy as np
import pytest

from qcoder.model.ngram import MAX_LENGTH, Draft, LocalHistory, SuffixTable, distribution


def longest_by_hand(ids: list[int], history: list[int], end: int) -> int:
    """Length of the common suffix of history and ids[:end]."""
    length = 0
    while (
        length < MAX_LENGTH
        and length < len(history)
        and length < end
        and ids[end - 1 - length] == history[-1 - length]
    ):
        length += 1
    return length


@pytest.mark.parametrize("size", [0, 1, 2, 3, 63, 100, 257])
@pytest.mark.parametrize("alphabet", [1, 2, 5, 50])
def test_suffix_table_finds_the_same_matches_as_a_scan(size: int, alphabet: int) -> None:
    rng = random.Random(size * 100 + alphabet)
    ids = [rng.randrange(alphabet) for _ in range(size)]
    table = SuffixTable.build(ids)
    for _ in range(10):
        history = [rng.randrange(alphabet) for _ in range(rng.randint(0, 20))]
        history += ids[: rng.randint(0, 90)]  # longer than what the table is sorted by
        lengths = {at: longest_by_hand(ids, history, at) for at in range(1, size)}
        shortest = 2 if max(lengths.values(), default=0) >= 2 else 1
        expected = sorted((-n, at) for at, n in lengths.items() if n >= shortest)
        found = table.matches(history, limit=10_000)
        assert sorted((-m.length, m.position) for m in found) == expected
        assert all(m.next_id == ids[m.position] for m in found)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 63, 257])
def test_local_history_agrees_with_a_suffix_table_of_the_same_tokens(size: int) -> None:
    rng = random.Random(size)
    ids = [rng.randrange(4) for _ in range(size)]
    local = LocalHistory(ids).matches(limit=10_000)
    table = SuffixTable.build(ids).matches(ids, limit=10_000)
    assert sorted((m.position, m.length) for m in local) == sorted(
        (m.position, m.length) for m in table
    )


def test_limit_keeps_the_longest_matches() -> None:
    ids = [7, 1, 2, 3, 9, 1, 2, 4, 8, 2, 5] * 30
    found = SuffixTable.build(ids).matches([7, 1, 2], limit=5)
    assert len(found) == 5
    assert found[0].length == 3


def test_continuation_is_what_followed_the_longest_match() -> None:
    ids = [1, 2, 3, 4, 5, 6, 9, 3, 4, 7]
    assert LocalHistory([*ids, 1, 2, 3]).draft(2) == Draft((4, 5), 3)
    assert LocalHistory([100, 101]).draft(3) == Draft((), 0)


def test_distribution_sums_to_one_and_prefers_the_long_match() -> None:
    history = LocalHistory([1, 2, 3, 4, 8, 2, 3, 5, 8, 2, 3, 5, 1, 2, 3])
    copy = distribution(history.matches())
    assert copy is not None
    assert np.isclose(copy.probabilities.sum(), 1)
    assert copy.longest == 3
    assert copy.ids[copy.top] == 4  # one match of length 3 against two of length 2


def test_no_match_gives_no_distribution() -> None:
    assert distribution([]) is None
    assert distribution(LocalHistory([1, 2, 3]).matches()) is None


def test_single_token_matches_count_only_without_longer_ones() -> None:
    assert [m.length for m in LocalHistory([5, 6, 7, 5, 8, 1, 5]).matches()] == [1, 1]
    assert [m.length for m in LocalHistory([1, 5, 6, 7, 5, 8, 1, 5]).matches()] == [2]

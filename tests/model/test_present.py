"""Copies that only say what the document already has at the cursor are left out."""

import numpy as np
import pytest

from qcoder.model.mixture import FEATURES, Gate, Mixture
from qcoder.model.ngram import SuffixTable

GATE = Gate(
    np.zeros((2, FEATURES), np.float32), np.zeros(2, np.float32),
    np.zeros((3, 2), np.float32), np.zeros(3, np.float32),
)  # fmt: skip
LINE = [5, 6, 7]
BELOW = [1, 2, 3, 4]


def copied(table: list[int], present: tuple[tuple[int, ...], ...]) -> set[int]:
    """Tokens that the table offers after `LINE`."""
    state = Mixture(GATE).start(LINE, (SuffixTable.build(table),), present)
    _, offered = state.copies()
    return set() if offered is None else {int(i) for i in offered.ids}


@pytest.mark.parametrize(
    ("table", "present", "expected"),
    [
        ([9, *LINE, *BELOW], (), {1}),
        ([9, *LINE, *BELOW], (tuple(BELOW),), set()),
        ([9, *LINE, *BELOW, 5, 6, 7, 8, 8, 8], (tuple(BELOW),), {8}),
        ([9, *LINE, 1, 2, 9, 9], (tuple(BELOW),), {1}),
        ([9, *LINE, 1], ((1,),), set()),
        ([9, *LINE, 1, 2, 3], ((1,),), {1}),
        ([9, *LINE, *BELOW], ((), (8, 8, 8)), {1}),
    ],
)
def test_own_place_is_not_copied(
    table: list[int], present: tuple[tuple[int, ...], ...], expected: set[int]
) -> None:
    assert copied(table, present) == expected

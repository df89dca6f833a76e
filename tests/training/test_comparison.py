"""When one model counts as better than another on the same files."""

from __future__ import annotations

import numpy as np
import pytest

from qcoder.training.comparison import MIXTURE, NETWORK, Predicted, compare, line_tokens

WORDS = ("first", " =", " second", "\n")


def predicted(lines: int, bits: float, wrong_lines: set[int], noise: float = 0.0) -> Predicted:
    """A file of `lines` lines of four tokens; in `wrong_lines` the third token is missed."""
    text = "".join(WORDS) * lines
    sizes = np.array([len(word) for word in WORDS] * lines)
    right = np.ones(len(sizes), dtype=np.bool_)
    right[[4 * line + 2 for line in wrong_lines]] = False
    drawn = np.random.default_rng(5).normal(0, 1, len(sizes))
    values = np.full(len(sizes), bits) + noise * drawn
    return Predicted(text, sizes, dict.fromkeys((NETWORK, MIXTURE), values),
                     dict.fromkeys((NETWORK, MIXTURE), right))  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "why_not"),
    [
        (predicted(200, 2.0, {1, 2}), predicted(200, 1.8, {1, 2}), ""),
        (predicted(200, 2.0, {1, 2}), predicted(200, 1.8, {1}), ""),
        (predicted(200, 2.0, {1}), predicted(200, 1.8, {1, 2}), "fewer whole lines are right"),
        (predicted(200, 2.0, set()), predicted(200, 1.999, set()), "fell by less than"),
        (predicted(200, 2.0, set()), predicted(200, 2.1, set()), "may be chance"),
        (predicted(200, 2.0, set()), predicted(200, 1.95, set(), noise=3.0), "may be chance"),
    ],
)
def test_better_means_no_line_lost_and_bits_saved_beyond_chance(
    before: Predicted, after: Predicted, why_not: str
) -> None:
    found = compare([before], [after])
    assert why_not in found.why_not
    assert bool(found.why_not) == bool(why_not)


def test_figures_are_those_of_a_count_by_hand() -> None:
    found = compare([predicted(50, 2.0, {3})], [predicted(50, 1.0, set())])
    before, after = found.before[MIXTURE], found.after[NETWORK]
    size = sum(map(len, WORDS))
    assert before.bits_per_byte == pytest.approx(8 / size)
    assert after.bits_per_byte == pytest.approx(4 / size)
    assert (before.whole_line_exact, after.whole_line_exact) == (0.98, 1.0)
    assert before.rest_of_line_exact == 0.98
    assert before.token_accuracy == pytest.approx(199 / 200)
    assert found.lines == 50
    assert found.interval == pytest.approx((-4 / size, -4 / size))


def test_every_token_is_in_one_line_and_blanks_before_a_word_are_not_its_text() -> None:
    tokens = ["if", " \N{BULLET}", ":", "\n\n   ", " \N{EURO SIGN}", " 1", "\n", "x"]
    text = "".join(tokens)
    sizes = np.array([len(token.encode()) for token in tokens])
    file = Predicted(text, sizes, {}, {})
    rows = [(first, past, inside.tolist()) for first, past, inside, _ in line_tokens(file)]
    assert rows == [(0, 4, [0, 1, 2]), (4, 4, []), (4, 7, [4, 5]), (7, 8, [7])]
    assert sum(size for *_, size in line_tokens(file)) == len(text.encode())

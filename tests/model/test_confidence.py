import math
import random

import pytest

from qcoder.model.confidence import Confidence
from qcoder.model.errors import CheckpointError


def test_without_calibration_it_is_the_geometric_mean() -> None:
    assert Confidence().of([math.log(0.9), math.log(0.4)]) == pytest.approx(0.6)
    assert Confidence.from_manifest({}) == Confidence()


def test_nothing_written_is_nothing_sure() -> None:
    assert Confidence().of([]) == 0.0
    assert Confidence((1.0, 0.0, 0.0), 2.0).of([]) == 0.0


def test_calibrated_it_is_logistic_in_the_sum_the_lowest_and_the_length() -> None:
    confidence = Confidence((0.5, 0.25, -1.0), 1.5)
    score = 1.5 + 0.5 * -3.0 + 0.25 * -2.0 - math.log(2)
    assert confidence.of([-1.0, -2.0]) == pytest.approx(1 / (1 + math.exp(-score)))
    assert confidence.of([-1e9]) == confidence.of([-1e6]) > 0


def test_it_is_read_from_the_manifest() -> None:
    facts = {"weights": {"sum": 1, "lowest": 2, "log_tokens": 3}, "bias": 4, "curve": []}
    assert Confidence.from_manifest({"confidence": facts}) == Confidence((1.0, 2.0, 3.0), 4.0)


@pytest.mark.parametrize(
    "facts", [{}, [], "high", {"weights": [1, 2, 3], "bias": 0}, {"weights": {}, "bias": 0}]
)
def test_a_malformed_manifest_is_named(facts: object) -> None:
    with pytest.raises(CheckpointError, match="'confidence' needs 'bias' and 'weights'"):
        Confidence.from_manifest({"confidence": facts})


@pytest.mark.parametrize("log_tokens", [-0.5, 0.0, 0.5])
def test_no_continuation_gets_over_the_ceiling(log_tokens: float) -> None:
    rng = random.Random(5)
    confidence = Confidence((0.7, 1.0, log_tokens), 2.0)
    for _ in range(63):
        begun = [-rng.expovariate(1.0) for _ in range(rng.randint(1, 7))]
        ceiling = confidence.ceiling(begun, 17)
        for more in range(18 - len(begun)):
            assert confidence.of([*begun, *[-1e-9] * more]) <= ceiling + 1e-9


def test_a_mean_bounds_itself_once_it_is_of_several_tokens() -> None:
    assert Confidence().ceiling([-5.0] * 3, 48) == 1.0
    assert Confidence().ceiling([-5.0] * 4, 48) == pytest.approx(math.exp(-5.0))
    assert Confidence((1.0, 1.0, 0.0), 0.0).ceiling([], 48) == 1.0

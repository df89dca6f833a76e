"""Sampling functions against straightforward references."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcoder.model.request import SamplingParams
from qcoder.model.sampler import keep_min_p, keep_top_k, keep_top_p, penalize, sample

FloatArray = NDArray[np.float32]


def logprobs(size: int, seed: int, spread: float = 3.0) -> FloatArray:
    scores = np.random.default_rng(seed).normal(0, spread, size)
    return np.asarray(scores - np.log(np.exp(scores).sum()), dtype=np.float32)


def kept(scores: FloatArray) -> set[int]:
    return set(np.flatnonzero(np.isfinite(scores)).tolist())


def top_p_by_hand(scores: FloatArray, p: float) -> set[int]:
    probabilities = np.exp(scores.astype(np.float64))
    probabilities /= probabilities.sum()
    chosen, mass = set(), 0.0
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if mass >= p:
            break
        chosen.add(i)
        mass += probabilities[i]
    return chosen


@pytest.mark.parametrize("size", [1, 2, 63, 257])
@pytest.mark.parametrize("seed", range(4))
def test_filters_keep_what_they_say(size: int, seed: int) -> None:
    scores = logprobs(size, seed)
    order = np.argsort(-scores).tolist()
    for k in (1, 2, 10, size, size + 1):
        assert kept(keep_top_k(scores, k)) == set(order[:k])
    assert kept(keep_top_k(scores, 0)) == set(order)
    for p in (1e-9, 0.3, 0.9, 0.999):
        assert kept(keep_top_p(scores, p)) == top_p_by_hand(scores, p)
    assert kept(keep_top_p(scores, 1.0)) == set(order)
    for p in (0.01, 0.5, 1.0):
        by_hand = {i for i in order if np.exp(scores[i]) >= p * np.exp(scores.max()) * (1 - 1e-6)}
        assert kept(keep_min_p(scores, p)) == by_hand
    assert kept(keep_min_p(scores, 0.0)) == set(order)


def test_filters_leave_their_input_and_the_kept_scores_alone() -> None:
    scores = logprobs(50, 0)
    before = scores.copy()
    for out in (
        keep_top_k(scores, 5),
        keep_top_p(scores, 0.5),
        keep_min_p(scores, 0.2),
        penalize(scores, [3, 3, 4], 1.3),
    ):
        assert out.dtype == np.float32
        if np.isinf(out).any():
            np.testing.assert_array_equal(out[np.isfinite(out)], before[np.isfinite(out)])
    np.testing.assert_array_equal(scores, before)


def test_ties_at_the_border_of_top_k_stay() -> None:
    scores = np.array([1.0, 2.0, 2.0, 2.0, 0.0], dtype=np.float32)
    assert kept(keep_top_k(scores, 2)) == {1, 2, 3}


def test_a_penalty_divides_the_probability_of_seen_tokens_once() -> None:
    scores = logprobs(10, 1)
    out = penalize(scores, [2, 2, 7], 2.0)
    ratio = np.exp(scores - out)
    np.testing.assert_allclose(ratio, [1, 1, 2, 1, 1, 1, 1, 2, 1, 1], rtol=1e-5)
    assert penalize(scores, [], 2.0) is scores


@pytest.mark.parametrize("temperature", [0.0, 1e-9, 1e-40])
def test_cold_is_greedy_after_the_penalty(temperature: float) -> None:
    scores, rng = logprobs(100, 2), np.random.default_rng(0)
    first, second = np.argsort(-scores)[:2].tolist()
    params = SamplingParams(temperature=temperature, top_k=1)
    assert sample(scores, params, [], rng) == first
    heavy = SamplingParams(temperature=temperature, repetition_penalty=1e6)
    assert sample(scores, heavy, [first], rng) == second


def draws(params: SamplingParams, scores: FloatArray, count: int = 4000) -> Counter[int]:
    rng = np.random.default_rng(params.seed)
    return Counter(sample(scores, params, [], rng) for _ in range(count))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature: float) -> None:
    scores = logprobs(8, 3, spread=1.0)
    expected = np.exp(scores.astype(np.float64) / temperature)
    expected /= expected.sum()
    found = draws(SamplingParams(temperature=temperature), scores)
    np.testing.assert_allclose([found[i] / 4000 for i in range(8)], expected, atol=0.03)


def test_filters_apply_to_the_tempered_distribution() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    assert set(draws(SamplingParams(temperature=1.0, top_p=0.45), scores)) == {0}
    # At temperature 4 the same share needs two tokens.
    assert set(draws(SamplingParams(temperature=4.0, top_p=0.45), scores)) == {0, 1}
    assert set(draws(SamplingParams(temperature=1.0, top_k=3), scores)) == {0, 1, 2}
    assert set(draws(SamplingParams(temperature=1.0, min_p=0.5), scores)) == {0, 1}


def test_impossible_tokens_are_never_drawn() -> None:
    scores = np.array([-np.inf, 0.0, -np.inf], dtype=np.float32)
    for params in (SamplingParams(), SamplingParams(temperature=1.5, top_p=0.9, min_p=0.1)):
        assert set(draws(params, scores, 50)) == {1}


def test_the_seed_decides() -> None:
    scores = logprobs(100, 5, spread=0.5)

    def run(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return [sample(scores, SamplingParams(temperature=1.0), [], rng) for _ in range(20)]

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        SamplingParams(**options)  # type: ignore[arg-type]


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40),
    temperature=st.sampled_from([0.0, 0.2, 1.0, 3.0]),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1.0),
    min_p=st.floats(0.0, 1.0),
    penalty=st.sampled_from([1.0, 1.3]),
    seed=st.integers(0, 2**32),
)
def test_any_filters_leave_a_token_that_they_allow(
    logits: list[float],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    penalty: float,
    seed: int,
) -> None:
    raw = np.array(logits, dtype=np.float32)
    scores = raw - np.log(np.exp(raw - raw.max()).sum(), dtype=np.float32) - raw.max()
    before, seen = scores.copy(), [0, 1, 1]
    params = SamplingParams(temperature, top_k, top_p, min_p, penalty)
    token = sample(scores, params, seen, np.random.default_rng(seed))
    assert token == sample(scores, params, seen, np.random.default_rng(seed))
    assert np.array_equal(scores, before)
    penalized = penalize(scores, seen, penalty)
    if temperature == 0:
        assert penalized[token] == penalized.max()
        return
    better = int((penalized > penalized[token]).sum())
    assert top_k == 0 or better < top_k
    shares = np.exp((penalized - penalized.max()).astype(np.float64) / temperature)
    assert shares[token] >= min_p * 0.999
    assert shares[penalized > penalized[token]].sum() <= (top_p + 1e-4) * shares.sum()

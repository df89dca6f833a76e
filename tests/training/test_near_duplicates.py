"""Hashed words, MinHash signatures and shared runs, against plain sets."""

import random
import re

import numpy as np
import pytest

from qcoder.training.near_duplicates import (
    OVERLAP_WORDS,
    PERMUTATIONS,
    RUN_WORDS,
    SharedRuns,
    SimilarTexts,
    runs,
    signature,
    words,
)


def text_of(count: int, seed: int) -> str:
    """`count` words drawn from a thousand."""
    rng = random.Random(seed)
    return " ".join(f"word{rng.randrange(1000)}" for _ in range(count))


def changed(text: str, share: float, seed: int) -> str:
    """The text with a share of its words replaced."""
    rng = random.Random(seed)
    return " ".join(f"new{rng.random()}" if rng.random() < share else w for w in text.split())


def jaccard(left: str, right: str) -> float:
    """Similarity of the sets of five-word runs, exactly."""
    sets = []
    for text in (left, right):
        found = re.findall(r"[^\W]+", text)
        sets.append({tuple(found[i : i + RUN_WORDS]) for i in range(len(found) - RUN_WORDS + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_equal_words_have_equal_hashes_wherever_they_stand() -> None:
    hashes = words("alpha beta(alpha);\n\n  gamma_1 = beta")
    assert len(hashes) == 5
    assert hashes[0] == hashes[2]
    assert hashes[1] == hashes[4]
    assert len(set(hashes.tolist())) == 3


def test_words_beyond_ascii_and_text_without_words() -> None:
    assert len(words("größe ≤ Größe")) == 3
    assert len(words("+-*/ \n")) == 0
    assert len(words("")) == 0


def test_runs_do_not_collide() -> None:
    hashed = words(text_of(20_000, 1))
    pairs = {tuple(p) for p in zip(hashed.tolist(), hashed[1:].tolist(), strict=False)}
    assert len(np.unique(runs(hashed, 2))) == len(pairs)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_text_shorter_than_a_run_has_no_signature(count: int) -> None:
    assert signature(words(text_of(count, 2))) is None


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 1.0])
def test_signature_estimates_the_similarity(share: float) -> None:
    estimates, exact = [], []
    for seed in range(12):
        text = text_of(901, seed)
        other = changed(text, share, seed + 100)
        left, right = signature(words(text)), signature(words(other))
        assert left is not None
        assert right is not None
        assert len(left) == PERMUTATIONS
        estimates.append(float((left == right).mean()))
        exact.append(jaccard(text, other))
    assert abs(np.mean(estimates) - np.mean(exact)) < 0.04


def test_similar_text_is_found_and_another_is_not() -> None:
    index = SimilarTexts()
    for seed in range(63):
        found = signature(words(text_of(700, seed)))
        assert found is not None
        index.add(found)
    near = signature(words(changed(text_of(700, 17), 0.01, 5)))
    far = signature(words(text_of(700, 99)))
    assert near is not None
    assert far is not None
    assert index.nearest(near) == 17
    assert index.nearest(far) is None


def test_run_of_forty_words_is_shared_and_one_less_is_not() -> None:
    held_out = text_of(300, 3)
    shared = SharedRuns([held_out, "too short"])
    inside = held_out.split()[100:]
    for count, expected in ((OVERLAP_WORDS - 1, False), (OVERLAP_WORDS, True)):
        text = f"own words {' '.join(inside[:count])} and more"
        assert shared.shared_by(words(text)) == expected


def test_nothing_is_shared_with_no_held_out_text() -> None:
    assert not SharedRuns([]).shared_by(words(text_of(100, 4)))

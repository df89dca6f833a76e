"""The n-gram peers count right and always give a distribution."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from qcoder.model.ngram import SuffixTable
from qcoder.training.peers import (
    CACHE_CONTEXT,
    CopyModel,
    Counts,
    CountTable,
    FileCounts,
    NestedCache,
    Predictor,
    trained_counts,
)

VOCAB = 17


def text(seed: int, size: int = 257) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(5, VOCAB) if rng.random() < 0.3 else 5 + i % 4 for i in range(size)]


def naive(files: list[list[int]], history: list[int], length: int) -> list[int]:
    context = history[len(history) - length :]
    return [
        ids[at]
        for ids in files
        for at in range(length, len(ids))
        if ids[at - length : at] == context
    ]


def counted(counts: Counts, history: list[int], length: int) -> Counter[int]:
    found = counts.followers(history, length)
    if found is None:
        return Counter()
    ids, times = found
    return Counter(dict(zip(ids.tolist(), times.tolist(), strict=True)))


def test_table_counts_what_followed_each_context_within_its_file() -> None:
    files = [text(1), text(2, 63), []]
    table = CountTable.build(files)
    for at in range(1, 60):
        history = text(2, 63)[:at]
        for length in range(min(at, CACHE_CONTEXT) + 1):
            assert counted(table, history, length) == Counter(naive(files, history, length))


def test_growing_counts_equal_those_of_a_fixed_table() -> None:
    ids = text(3, 100)
    growing = FileCounts()
    for token in ids:
        growing.push(token)
    table = CountTable.build([ids])
    for length in range(CACHE_CONTEXT + 1):
        assert counted(growing, ids[:40], length) == counted(table, ids[:40], length)


@pytest.mark.parametrize("kind", ["nested", "nested without workspace", "copy"])
def test_every_token_has_a_probability_and_they_sum_to_one(kind: str) -> None:
    predictors: dict[str, Predictor] = {
        "nested": NestedCache(VOCAB, [CountTable.build([text(1)]), CountTable.build([])], [3]),
        "nested without workspace": NestedCache(VOCAB, []),
        "copy": CopyModel(VOCAB, SuffixTable.build(text(1)), [3]),
    }
    predictor = predictors[kind]
    for token in text(4, 63):
        probabilities = predictor.probabilities()
        assert probabilities.min() > 0
        assert probabilities.sum() == pytest.approx(1, abs=1e-6)
        predictor.push(token)


def test_own_file_outvotes_the_workspace() -> None:
    workspace = CountTable.build([[1, 2, 3, 4, 9] * 5])
    cache = NestedCache(VOCAB, [workspace])
    for token in [1, 2, 3, 4, 6, 1, 2, 3, 4, 6, 1, 2, 3, 4]:
        cache.push(token)
    assert cache.probabilities().argmax() == 6


def test_workspace_predicts_what_the_file_has_not_seen() -> None:
    cache = NestedCache(VOCAB, [CountTable.build([[1, 2, 3, 4, 9]])])
    for token in [7, 1, 2, 3, 4]:
        cache.push(token)
    assert cache.probabilities().argmax() == 9


def test_trained_counts_are_seeded_and_missing_languages_have_none(tmp_path: Path) -> None:
    rows = [{"package": "p", "path": str(i), "text": f"x{i} = {i}\n" * 60} for i in range(30)]
    (tmp_path / "python.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")

    def encode(text: str) -> list[int]:
        return list(text.encode())

    one, again, other = (trained_counts(tmp_path, "python", encode, 0.004, s) for s in (1, 1, 2))
    assert one is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(one.lengths[0].counts, again.lengths[0].counts)
    assert not np.array_equal(one.lengths[0].counts, other.lengths[0].counts)
    assert trained_counts(tmp_path, "go", encode, 0.004, 1) is None

"""How expected tokens are: the same piece by piece as of a whole pass, and between the pieces room for others."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qcoder.model.decoder import Pass
from qcoder.model.fake import FakeEngine
from qcoder.model.local import LocalEngine
from qcoder.model.pace import LEAST_TOKENS, MOST_TOKENS, PIECE_S, SHORT_TOKENS, Pace
from qcoder.model.request import GenerationRequest, Prompt
from qcoder.model.scoring import joined, scores_of


def ids_of(size: int) -> list[int]:
    rng = random.Random(size)
    return [rng.randrange(300) for _ in range(size)]


@pytest.mark.parametrize("size", [1, 63, 257])
def test_scores_are_log_probabilities(size: int) -> None:
    logits = torch.randn(size, 77, generator=torch.Generator().manual_seed(size)) * 9
    ids = [i * 7 % 77 for i in range(size)]
    expected = logits.double().log_softmax(-1)
    found = scores_of(logits.numpy(), ids)
    rows = torch.arange(size)
    np.testing.assert_allclose(found.logprobs, expected[rows, torch.tensor(ids)], atol=1e-5)
    np.testing.assert_allclose(found.best_logprobs, expected.amax(-1), atol=1e-5)
    assert found.best.tolist() == expected.argmax(-1).tolist()


@pytest.mark.parametrize("start", [1, 2, 100, 256, 257])
def test_pieces_say_what_one_pass_says(start: int, tiny: Any) -> None:
    engine, ids = LocalEngine.load(str(tiny.folder)), ids_of(257)
    whole = scores_of(engine.logits(ids)[start - 1 : -1].numpy(), ids[start:])
    pieces = list(engine.score(ids, start))
    assert len(pieces) >= 256 // MOST_TOKENS
    found = joined(pieces)
    assert found.best.tolist() == whole.best.tolist()
    np.testing.assert_allclose(found.logprobs, whole.logprobs, atol=1e-4)


def test_between_two_pieces_the_engine_generates(tiny: Any) -> None:
    engine, ids = LocalEngine.load(str(tiny.folder)), ids_of(200)
    expected = joined(engine.score(ids)).logprobs
    engine._pace = Pace(seconds=1.0)
    found = []
    for piece in engine.score(ids):
        assert len(piece) <= LEAST_TOKENS
        found.append(piece)
        list(engine.generate(GenerationRequest(Prompt(tuple(ids_of(20))), max_tokens=3)))
    np.testing.assert_allclose(joined(found).logprobs, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["tiny", "tiny_next"])
def test_a_text_with_another_end_is_scored_behind_what_both_have_in_common(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(request.getfixturevalue(name).folder)
    engine, sizes = LocalEngine.load(folder), []
    compute = engine._compute_all

    def noted(passes: Sequence[Pass]) -> list[Tensor]:
        sizes.extend(len(one.ids) for one in passes)
        return compute(passes)

    monkeypatch.setattr(engine, "_compute_all", noted)
    shared, ends = ids_of(150), (ids_of(20), ids_of(33), ids_of(7))
    found = [joined(engine.score(shared + end, 150)).logprobs for end in ends]
    assert sum(sizes) == 149 + sum(len(end) for end in ends)
    for end, got in zip(ends, found, strict=True):
        whole = scores_of(engine.logits(shared + end)[149:-1].numpy(), end)
        np.testing.assert_allclose(got, whole.logprobs, atol=1e-4)
    engine.check_integrity()


def test_texts_scored_in_turns_do_not_disturb_each_other(tiny: Any) -> None:
    engine = LocalEngine.load(str(tiny.folder))
    engine._pace = Pace(seconds=1.0)
    texts = [ids_of(100) + ids_of(size) for size in (60, 70, 80)]
    expected = [joined(LocalEngine.load(str(tiny.folder)).score(t, 100)).logprobs for t in texts]
    running = [list(pieces) for pieces in zip(*(engine.score(t, 100) for t in texts), strict=False)]
    for number, wanted in enumerate(expected):
        found = joined(pieces[number] for pieces in running).logprobs
        np.testing.assert_allclose(found, wanted[: len(found)], atol=1e-4)


@pytest.mark.parametrize("start", [0, -1, 4])
def test_a_token_without_anything_before_it_is_refused(start: int, tiny: Any) -> None:
    for engine in (FakeEngine([]), LocalEngine.load(str(tiny.folder))):
        with pytest.raises(ValueError, match="cannot be scored"):
            engine.score([1, 2, 3], start)
        assert len(joined(engine.score([1, 2, 3], 3))) == 0


def test_passes_become_shorter_on_slow_machines_within_bounds() -> None:
    pace = Pace.guessed(4_000_000)
    assert pace.tokens >= SHORT_TOKENS == pace.urgent_tokens
    for _ in range(50):
        pace.took(64, 64 * PIECE_S / 100)
    assert pace.tokens == 96
    pace.took(1, 10.0)  # a single token says nothing of many
    assert pace.tokens == 96
    for _ in range(50):
        pace.took(64, 100.0)
    assert (pace.tokens, pace.urgent_tokens) == (LEAST_TOKENS, MOST_TOKENS)
    for _ in range(50):
        pace.took(64, 1e-9)
    assert pace.tokens == MOST_TOKENS

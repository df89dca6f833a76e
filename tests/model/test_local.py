"""The in-process engine: what is generated, when it ends, what is reused, what is counted."""

import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qcoder.model.decoder import Pass
from qcoder.model.engine import Engine
from qcoder.model.errors import PromptTooLongError
from qcoder.model.local import LocalEngine, default_threads
from qcoder.model.mixture import FEATURES, Gate, Mixture
from qcoder.model.ngram import SuffixTable
from qcoder.model.pace import SHORT_TOKENS
from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    Prompt,
    SamplingParams,
    StopRules,
    TokenOut,
)


@pytest.fixture(params=["float32", "int8"])
def folder(request: pytest.FixtureRequest, tiny: Any, tiny_int8: Any) -> str:
    """A checkpoint of each kind."""
    return str({"float32": tiny, "int8": tiny_int8}[request.param].folder)


@pytest.fixture
def engine(folder: str) -> LocalEngine:
    """A fresh engine: nothing cached, nothing counted."""
    return LocalEngine.load(folder)


def ids_of(size: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300) for _ in range(size)]


VARIED = SamplingParams(temperature=1.5, seed=4)
"""Greedy output of random weights soon repeats itself; this does not."""


def request(ids: list[int], **options: Any) -> GenerationRequest:
    return GenerationRequest(Prompt(tuple(ids)), **options)


def run(engine: LocalEngine, ids: list[int], **options: Any) -> list[TokenOut]:
    outs = list(engine.generate(request(ids, **options)))
    assert [o.finish is not None for o in outs] == [False] * (len(outs) - 1) + [True]
    return outs


def token_ids(outs: list[TokenOut]) -> list[int]:
    return [o.id for o in outs if o.id >= 0]


def greedy_by_hand(engine: LocalEngine, ids: list[int], count: int) -> list[tuple[int, float]]:
    """Argmax of a full forward pass without cache, step by step."""
    out: list[tuple[int, float]] = []
    ends = engine.tokenizer.eos_ids
    while len(out) < count:
        logprobs = engine.logits([*ids, *(i for i, _ in out)])[-1].log_softmax(-1)
        token = int(logprobs.argmax())
        if token in ends:
            break
        out.append((token, float(logprobs[token])))
    return out


def test_the_engine_is_an_engine(engine: LocalEngine) -> None:
    assert isinstance(engine, Engine)
    assert engine.info.max_context == 512
    assert engine.info.active_parameters < engine.info.parameters
    assert engine.stats().weight_bytes >= 4 * engine.info.parameters - 4096
    assert default_threads() >= 1


@pytest.mark.parametrize("size", [1, 63, 100, 257])
def test_generation_equals_argmax_of_full_forward_passes(size: int, engine: LocalEngine) -> None:
    ids = ids_of(size, seed=size)
    expected = greedy_by_hand(engine, ids, 12)
    outs = run(engine, ids, max_tokens=12)
    assert token_ids(outs) == [i for i, _ in expected]
    for out, (_, logprob) in zip(outs, expected, strict=False):
        assert out.logprob == pytest.approx(logprob, abs=1e-4)
        assert out.source == "model"
        assert 0 < out.entropy < np.log(320)
    text = engine.tokenizer.decode(token_ids(outs))
    streamed = "".join(o.text for o in outs)
    assert text.startswith(streamed)
    engine.check_integrity()


def test_reuse_never_changes_what_is_generated(engine: LocalEngine, folder: str) -> None:
    rng, ids = random.Random(1), ids_of(150)
    reused = 0
    for step in range(12):
        outs = run(engine, ids, max_tokens=6, sampling=VARIED)
        reused += engine.stats().last.reused_tokens
        fresh = LocalEngine.load(folder)
        expected = run(fresh, ids, max_tokens=6, sampling=VARIED)
        assert token_ids(outs) == token_ids(expected)
        np.testing.assert_allclose(
            [o.logprob for o in outs], [o.logprob for o in expected], atol=1e-5
        )
        engine.check_integrity()
        if step % 3 == 0:
            ids = ids + token_ids(outs)[: rng.randrange(1, 6)] + ids_of(2, seed=step)
        else:
            at = rng.randrange(len(ids))
            ids = ids[:at] + ids_of(rng.randrange(8), seed=step) + ids[at + rng.randrange(8) :]
    assert reused > 12 * 50


def test_a_prompt_with_accepted_tokens_computes_only_what_is_new(engine: LocalEngine) -> None:
    ids = ids_of(100)
    outs = token_ids(run(engine, ids, max_tokens=5))
    assert engine.stats().last.reused_tokens == 0
    run(engine, [*ids, *outs, 9, 9], max_tokens=1)
    # The last emitted token was never fed back.
    assert engine.stats().last.reused_tokens == 100 + 4
    assert engine.stats().last.prompt_tokens == 107


def test_counters_add_up(engine: LocalEngine) -> None:
    run(engine, ids_of(10), max_tokens=3)
    run(engine, ids_of(10), max_tokens=2)
    stats = engine.stats()
    assert (stats.requests, stats.prompt_tokens, stats.reused_tokens) == (2, 20, 9)
    assert stats.generated_tokens == 5
    assert stats.last.generated_tokens == 2
    assert stats.last.prefill_ms > 0
    assert stats.last.decode_ms > 0
    assert stats.cache_bytes > 0


@pytest.mark.parametrize("after", [0, 1, 3])
def test_cancelling_ends_before_the_next_token(after: int, engine: LocalEngine) -> None:
    cancel = CancelToken()
    stream = engine.generate(request(ids_of(20), cancel=cancel, max_tokens=50))
    outs = [next(stream) for _ in range(after)]
    cancel.cancel()
    outs += list(stream)
    assert len(token_ids(outs)) == after
    assert outs[-1].finish is FinishReason.CANCELLED


def test_cancelling_stops_between_prefill_chunks(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, chunks = CancelToken(), []
    compute = engine._model.compute

    def counting(passes: Sequence[Pass]) -> list[torch.Tensor]:
        chunks.extend(len(one.ids) for one in passes)
        found = compute(passes)
        cancel.cancel()
        return found

    monkeypatch.setattr(engine._model, "compute", counting)
    ids = ids_of(SHORT_TOKENS + 100)
    (out,) = run(engine, ids, cancel=cancel)
    assert (chunks, out.finish) == ([SHORT_TOKENS], FinishReason.CANCELLED)
    # What was computed before is there for the next request.
    monkeypatch.undo()
    run(engine, ids, max_tokens=1)
    assert engine.stats().last.reused_tokens == SHORT_TOKENS


class Impatient(CancelToken):
    """Cancelled once it was asked so many times."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    @property
    def cancelled(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_cancelling_ends_a_pass_between_two_layers(engine: LocalEngine) -> None:
    ids = ids_of(40)
    expected = token_ids(run(LocalEngine.load(engine.info.path), ids, max_tokens=5))
    for asked in range(1, 5):
        (out,) = run(engine, ids, cancel=Impatient(asked), max_tokens=5)[-1:]
        assert out.finish is FinishReason.CANCELLED
        engine.check_integrity()
    (out,) = run(engine, ids, cancel=Impatient(2))  # before the chunk, then before its layers
    assert out.id == -1
    assert token_ids(run(engine, ids, max_tokens=5)) == expected


def test_a_deadline_ends_a_generation(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (out,) = run(engine, ids_of(5), deadline=time.monotonic() - 1)
    assert (out.id, out.finish) == (-1, FinishReason.DEADLINE)
    clock = iter(range(100))
    monkeypatch.setattr("qcoder.model.stop.time.monotonic", lambda: float(next(clock)))
    layers = engine._model.config.num_layers
    outs = run(engine, ids_of(5), deadline=3.0 + layers, max_tokens=50)
    # Looks before the prefill and its layers, then one before each token: the third is too late.
    assert (len(token_ids(outs)), outs[-1].finish) == (2, FinishReason.DEADLINE)


def test_max_tokens_and_room_in_the_context_bound_the_length(engine: LocalEngine) -> None:
    assert len(token_ids(run(engine, ids_of(9), max_tokens=1))) == 1
    (out,) = run(engine, ids_of(9), max_tokens=0)
    assert (out.id, out.finish) == (-1, FinishReason.LENGTH)
    outs = run(engine, ids_of(509), max_tokens=50)
    assert (len(token_ids(outs)), outs[-1].finish) == (3, FinishReason.LENGTH)


def test_bad_prompts_are_refused_at_once(engine: LocalEngine) -> None:
    with pytest.raises(PromptTooLongError, match=r"512 tokens and 1 .* \(512\); pack less"):
        engine.generate(request(ids_of(512)))
    with pytest.raises(PromptTooLongError):
        engine.logits(ids_of(513))
    for ids in ([], [320], [-1]):
        with pytest.raises(ValueError, match="prompt"):
            engine.generate(request(ids))


def test_stop_ids_are_never_emitted(engine: LocalEngine) -> None:
    ids = ids_of(40)
    free = token_ids(run(engine, ids, max_tokens=8, sampling=VARIED))
    at = next(i for i in range(2, 8) if free[i] not in free[:i])
    stop = StopRules(ids=frozenset({free[at]}))
    outs = run(engine, ids, max_tokens=8, sampling=VARIED, stop=stop)
    assert token_ids(outs) == free[:at]
    assert (outs[-1].id, outs[-1].finish) == (-1, FinishReason.STOP)
    assert outs[-1].logprob < 0


def test_stop_strings_cut_the_text_across_tokens(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A letter a token, so that every stop string crosses tokens.
    monkeypatch.setattr(engine.tokenizer, "token_bytes", lambda i: bytes([97 + i % 26]))
    monkeypatch.setattr(engine.tokenizer, "eos_ids", frozenset())
    options: dict[str, Any] = {"max_tokens": 10, "sampling": VARIED}
    text = "".join(o.text for o in run(engine, ids_of(30), **options))
    assert len(set(text)) > 4
    for start in range(8):
        stop = text[start : start + 3]
        outs = run(engine, ids_of(30), stop=StopRules(strings=(stop,)), **options)
        assert "".join(o.text for o in outs) == text[: text.find(stop)]
        assert (outs[-1].finish, len(outs)) == (FinishReason.STOP, text.find(stop) + 3)
    outs = run(engine, ids_of(30), stop=StopRules(strings=(text[-1] + "?",)), **options)
    assert ("".join(o.text for o in outs), outs[-1].finish) == (text, FinishReason.LENGTH)


def test_sampling_is_reproducible_by_seed(engine: LocalEngine) -> None:
    def sampled(seed: int) -> list[int]:
        params = SamplingParams(temperature=1.5, seed=seed)
        return token_ids(run(engine, ids_of(20), max_tokens=10, sampling=params))

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_an_abandoned_generation_leaves_a_usable_cache(engine: LocalEngine) -> None:
    ids = ids_of(50)
    expected = token_ids(run(engine, ids, max_tokens=6))
    stream = engine.generate(request(ids, max_tokens=6))
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.stats().last.generated_tokens == 2
    assert token_ids(run(engine, ids, max_tokens=6)) == expected
    engine.check_integrity()


def test_a_second_generation_ends_the_first(engine: LocalEngine) -> None:
    ids = ids_of(50)
    expected = token_ids(run(engine, ids, max_tokens=6))
    first = engine.generate(request(ids, max_tokens=6))
    next(first)
    assert token_ids(run(engine, ids, max_tokens=6)) == expected
    with pytest.raises(RuntimeError, match="another generation began"):
        next(first)


def test_an_error_inside_a_forward_pass_leaves_the_cache_as_it_was(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ids_of(60)
    expected = token_ids(run(engine, ids, max_tokens=4))
    *before, last = engine._model.layers
    calls = iter(range(100))

    def failing(*args: Any) -> torch.Tensor:
        if next(calls) == 1:
            raise MemoryError
        return last(*args)

    monkeypatch.setattr(engine._model, "layers", [*before, failing])
    with pytest.raises(MemoryError):
        run(engine, [*ids[:50], 1, 2, 3], max_tokens=4)
    monkeypatch.undo()
    engine.check_integrity()
    assert token_ids(run(engine, ids, max_tokens=4)) == expected


@pytest.fixture
def mixed(engine: LocalEngine) -> LocalEngine:
    """An engine whose gate trusts the tables almost entirely."""
    weight = np.zeros((4, FEATURES), dtype=np.float32)
    gate = Gate(
        weight,
        np.zeros(4, dtype=np.float32),
        np.zeros((3, 4), dtype=np.float32),
        np.array([0.0, -6.0, 6.0], dtype=np.float32),
    )
    engine._mixture = Mixture(gate)
    return engine


def test_the_mixture_copies_from_the_tables(mixed: LocalEngine) -> None:
    known = [11, 12, 13, 14, 15, 16, 17, 18, 19]
    table = SuffixTable.build(known)
    prompt = [*ids_of(20), 11, 12, 13]
    outs = run(mixed, prompt, max_tokens=4, copy_tables=(table,))
    assert token_ids(outs) == [14, 15, 16, 17]
    assert {o.source for o in outs} == {"ngram"}
    assert mixed.stats().last.ngram_tokens == 4
    alone = run(mixed, prompt, max_tokens=4, copy_tables=(table,), mixture=False)
    assert {o.source for o in alone} == {"model"}
    assert token_ids(alone) == [i for i, _ in greedy_by_hand(mixed, prompt, 4)]

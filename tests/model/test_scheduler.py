"""Many generations at once: the same tokens, priorities, cancellation, no sequence shared by mistake."""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qcoder.kernels.native_library import library
from qcoder.model.decoder import Pass
from qcoder.model.generation import PREFILL_CHUNK
from qcoder.model.local import LocalEngine
from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    Priority,
    Prompt,
    SamplingParams,
    TokenOut,
)
from qcoder.model.scheduler import Scheduler


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    if library() is None:
        pytest.skip("the compiled kernels are not installed (no C++ compiler)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCODER_KERNELS", "cpu")
        yield LocalEngine.load("default", threads=1)


def request(size: int, seed: int, shared: int = 0, **options: Any) -> GenerationRequest:
    rng = random.Random(seed)
    ids = [(i * 37) % 3000 + 300 for i in range(shared)]
    ids += [rng.randrange(300, 8000) for _ in range(size)]
    sampling = SamplingParams(temperature=0.8, seed=seed)
    return GenerationRequest(Prompt(tuple(ids)), sampling=sampling, **options)


def alone(engine: LocalEngine, one: GenerationRequest) -> list[int]:
    return [out.id for out in engine.generate(one)]


def together(engine: LocalEngine, many: list[GenerationRequest]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in many]
    for index, out in engine.generate_many(many):
        found[index].append(out.id)
    return found


def test_together_they_give_what_each_gives_alone(engine: LocalEngine) -> None:
    many = [request(size, size, shared=70, max_tokens=9) for size in (3, 50, 300, 1, 90)]
    found = together(engine, many)
    assert found == [alone(engine, one) for one in many]
    engine.check_integrity()
    before = engine.stats()
    together(LocalEngine.load("default", threads=1), many)
    assert before.requests >= 2 * len(many)


def test_equal_prompts_do_not_write_into_each_other(engine: LocalEngine) -> None:
    many = [request(40, 7, max_tokens=12)] * 4
    found = together(engine, many)
    assert found == [alone(engine, many[0])] * 4
    engine.check_integrity()


def scheduler(engine: LocalEngine, most_running: int = 16) -> Scheduler:
    return Scheduler(engine._begin, engine._compute_all, engine._account, most_running)


def finish(running: Scheduler) -> dict[int, list[TokenOut]]:
    outs: dict[int, list[TokenOut]] = {}
    while running.pending:
        for ticket, out in running.step():
            outs.setdefault(ticket, []).append(out)
    return outs


def long_one(engine: LocalEngine, priority: Priority, size: int) -> GenerationRequest:
    """A request that does not end before its `size` tokens."""
    tries = (request(60, seed, max_tokens=size, priority=priority) for seed in range(50))
    return next(one for one in tries if len(alone(engine, one)) == size)


def test_the_higher_priority_goes_first_and_the_other_goes_on_after_it(
    engine: LocalEngine,
) -> None:
    review = long_one(engine, Priority.REVIEW, 10)
    typed = long_one(engine, Priority.COMPLETION, 5)
    expected = {1: alone(engine, review), 2: alone(engine, typed)}
    running, order = scheduler(engine), []
    running.submit(review)
    outs: dict[int, list[int]] = {1: [], 2: []}
    for step in range(200):
        if step == 4:
            running.submit(typed)
        for ticket, out in running.step():
            order.append(ticket)
            outs[ticket].append(out.id)
        if not running.pending:
            break
    assert outs == expected
    first = order.index(2)
    assert order[first : first + len(expected[2])] == [2] * len(expected[2]), "nothing in between"
    assert order[-1] == 1


def test_cancelled_and_late_ones_end_within_a_step(engine: LocalEngine) -> None:
    token = CancelToken()
    running = scheduler(engine)
    doomed = running.submit(request(3 * PREFILL_CHUNK, 1, cancel=token))
    late = running.submit(request(30, 2, deadline=time.monotonic() - 1))
    other = running.submit(request(30, 3, max_tokens=4))
    assert [t for t, _ in running.step()] == []
    token.cancel()
    outs = running.step()
    assert (doomed, FinishReason.CANCELLED) in [(t, out.finish) for t, out in outs]
    rest = finish(running)
    ends = {t: out.finish for t, out in outs} | {t: o[-1].finish for t, o in rest.items()}
    assert ends[late] is FinishReason.DEADLINE
    assert ends[other] in (FinishReason.LENGTH, FinishReason.STOP)


def test_nothing_is_computed_for_a_cancelled_one(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, computed = CancelToken(), []
    compute = engine._model.compute

    def noted(passes: Sequence[Pass]) -> list[Tensor]:
        computed.extend(one.sequence for one in passes)
        return compute(passes)

    running = scheduler(engine)
    doomed = running.submit(request(3 * PREFILL_CHUNK, 21, cancel=token))
    running.step()
    monkeypatch.setattr(engine._model, "compute", noted)
    token.cancel()
    other = running.submit(request(30, 22, max_tokens=2))
    outs = running.step()
    assert [(t, out.finish) for t, out in outs if t == doomed] == [(doomed, FinishReason.CANCELLED)]
    assert len(computed) == 1
    assert len(finish(running)[other]) >= 1
    engine.check_integrity()


def test_no_more_run_than_there_is_room_for(engine: LocalEngine) -> None:
    running = scheduler(engine, most_running=2)
    for seed in range(5):
        running.submit(request(20, seed, max_tokens=3))
    while running.pending:
        running.step()
        assert len(running._running) <= 2


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_random_interleavings_end_each_exactly_once(
    engine: LocalEngine, data: st.DataObject
) -> None:
    running, tokens, ended = scheduler(engine, most_running=3), {}, {}
    expected: dict[int, GenerationRequest] = {}
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["add", "cancel", "step", "step"]))
        if action == "add" and len(tokens) < 6:
            cancel = CancelToken()
            one = request(
                data.draw(st.integers(1, 60)),
                data.draw(st.integers(0, 3)),
                shared=data.draw(st.sampled_from([0, 33, 64])),
                max_tokens=data.draw(st.integers(1, 5)),
                priority=data.draw(st.sampled_from(list(Priority))),
                cancel=cancel,
            )
            ticket = running.submit(one)
            tokens[ticket], expected[ticket] = cancel, one
        elif action == "cancel" and tokens:
            tokens[data.draw(st.sampled_from(sorted(tokens)))].cancel()
        else:
            for ticket, out in running.step():
                assert ticket not in ended
                if out.finish is not None:
                    ended[ticket] = out.finish
    for ticket, outs in finish(running).items():
        assert [out.finish is not None for out in outs] == [False] * (len(outs) - 1) + [True]
        ended[ticket] = outs[-1].finish
    assert set(ended) == set(tokens)
    engine.check_integrity()
    for ticket, reason in ended.items():
        if reason is FinishReason.CANCELLED:
            assert tokens[ticket].cancelled

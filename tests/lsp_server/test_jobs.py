import asyncio
import threading
from typing import Any

import pytest

from qcoder.lsp_server.jobs import EngineThread, attempt, run
from qcoder.model.request import CancelToken, Priority

TIMEOUT_S = 10


class Gate:
    """Work that says when it runs and goes on when it is told to, or cancelled."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.started, self.open = threading.Event(), threading.Event()
        self.runs = 0

    def __call__(self, token: CancelToken) -> str | None:
        self.runs += 1
        self.started.set()
        while not self.open.wait(0.001):
            if token.cancelled:
                return None
        return self.answer


class Answers:
    """What came back, by name."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any, BaseException | None]] = []
        self._condition = threading.Condition()

    def to(self, name: str) -> Any:
        def done(result: Any, error: BaseException | None) -> None:
            with self._condition:
                self.all.append((name, result, error))
                self._condition.notify_all()

        return done

    def wait(self, count: int) -> list[tuple[str, Any, BaseException | None]]:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.all) >= count, TIMEOUT_S)
            return list(self.all)


@pytest.fixture
def thread() -> Any:
    started = EngineThread("test-engine")
    yield started
    started.stop()


def test_superseded_jobs_are_cancelled_and_answered_with_none(thread: EngineThread) -> None:
    answers, first = Answers(), Gate("first")
    thread.submit("a", Priority.COMPLETION, first, answers.to("first"))
    assert first.started.wait(TIMEOUT_S)
    thread.submit("a", Priority.COMPLETION, lambda _: "second", answers.to("second"))
    assert answers.wait(2) == [("first", None, None), ("second", "second", None)]


def test_queued_jobs_run_by_priority_and_each_is_answered_once(thread: EngineThread) -> None:
    answers, blocker = Answers(), Gate("blocker")
    thread.submit("x", Priority.COMPLETION, blocker, answers.to("blocker"))
    assert blocker.started.wait(TIMEOUT_S)
    for name, priority in (("review", Priority.REVIEW), ("edit", Priority.EDIT)):
        thread.submit(name, priority, lambda _: 1, answers.to(name))
    thread.submit("late", Priority.COMPLETION, lambda _: 1, answers.to("late"))
    blocker.open.set()
    assert [name for name, _, _ in answers.wait(4)] == ["blocker", "late", "edit", "review"]


@pytest.mark.parametrize("gives_way", [True, False])
def test_only_a_job_that_gives_way_is_preempted_by_its_equal(
    thread: EngineThread, gives_way: bool
) -> None:
    answers, long = Answers(), Gate("long")
    thread.submit("a", Priority.COMPLETION, long, answers.to("long"), lambda: gives_way)
    assert long.started.wait(TIMEOUT_S)
    thread.submit("b", Priority.COMPLETION, lambda _: "short", answers.to("short"))
    if gives_way:
        assert answers.wait(1) == [("short", "short", None)]
    long.open.set()
    assert {name for name, _, _ in answers.wait(2)} == {"long", "short"}
    assert long.runs == 1 + gives_way


def test_a_completion_preempts_a_review_which_runs_again(thread: EngineThread) -> None:
    answers, review = Answers(), Gate("review")
    thread.submit("review", Priority.REVIEW, review, answers.to("review"))
    assert review.started.wait(TIMEOUT_S)
    thread.submit("c", Priority.COMPLETION, lambda _: "now", answers.to("completion"))
    assert answers.wait(1) == [("completion", "now", None)]
    review.open.set()
    assert answers.wait(2)[1] == ("review", "review", None)
    assert review.runs == 2


def test_a_failing_job_answers_with_its_error_and_the_thread_goes_on(
    thread: EngineThread,
) -> None:
    def fail(_: CancelToken) -> None:
        raise ValueError("broken")

    answers = Answers()
    thread.submit("a", Priority.COMPLETION, fail, answers.to("bad"))
    thread.submit("b", Priority.COMPLETION, lambda _: 2, answers.to("good"))
    (_, result, error), good = answers.wait(2)
    assert result is None
    assert isinstance(error, ValueError)
    assert good == ("good", 2, None)


def test_cancelling_the_await_cancels_the_job(thread: EngineThread) -> None:
    gate = Gate("never")

    async def scenario() -> None:
        task = asyncio.ensure_future(run(thread, "a", Priority.COMPLETION, gate))
        while not gate.started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await run(thread, "b", Priority.COMPLETION, lambda _: "next") == "next"

    asyncio.run(scenario())


def test_a_superseded_job_in_the_queue_is_answered_before_its_turn(thread: EngineThread) -> None:
    answers, blocker = Answers(), Gate("blocker")
    thread.submit("x", Priority.COMPLETION, blocker, answers.to("blocker"))
    assert blocker.started.wait(TIMEOUT_S)
    for name in ("first", "second"):
        thread.submit("a", Priority.COMPLETION, lambda _: 1, answers.to(name))
    assert answers.all == [("first", None, None)]
    blocker.open.set()
    assert answers.wait(3)[1:] == [("blocker", "blocker", None), ("second", 1, None)]


def test_cancelling_a_key_answers_and_ends_its_job(thread: EngineThread) -> None:
    answers, gate = Answers(), Gate("never")
    thread.submit("a", Priority.COMPLETION, gate, answers.to("a"))
    assert gate.started.wait(TIMEOUT_S)
    thread.cancel("a")
    thread.cancel("a")
    assert answers.all == [("a", None, None)]
    thread.submit("b", Priority.BACKGROUND, lambda _: 2, answers.to("b"))
    assert answers.wait(2)[1] == ("b", 2, None)


def test_a_preempted_job_that_was_cancelled_does_not_run_again(thread: EngineThread) -> None:
    answers, review, completion = Answers(), Gate("review"), Gate("completion")
    cancel = thread.submit("review", Priority.REVIEW, review, answers.to("review"))
    assert review.started.wait(TIMEOUT_S)
    thread.submit("c", Priority.COMPLETION, completion, answers.to("completion"))
    assert completion.started.wait(TIMEOUT_S)
    cancel()
    completion.open.set()
    thread.submit("last", Priority.BACKGROUND, lambda _: 3, answers.to("last"))
    assert [name for name, _, _ in answers.wait(3)] == ["review", "completion", "last"]
    assert review.runs == 1


def test_a_failing_answer_does_not_end_the_thread(thread: EngineThread) -> None:
    def fail(result: Any, error: BaseException | None) -> None:
        raise RuntimeError("listener is gone")

    answers = Answers()
    thread.submit("a", Priority.COMPLETION, lambda _: 1, fail)
    thread.submit("b", Priority.COMPLETION, lambda _: 2, answers.to("b"))
    assert answers.wait(1) == [("b", 2, None)]


def test_stopping_answers_what_is_left(thread: EngineThread) -> None:
    answers, gate = Answers(), Gate("never")
    thread.submit("a", Priority.COMPLETION, gate, answers.to("a"))
    assert gate.started.wait(TIMEOUT_S)
    thread.submit("b", Priority.REVIEW, lambda _: 2, answers.to("b"))
    thread.stop()
    assert answers.wait(2) == [("a", None, None), ("b", None, None)]


def test_what_comes_after_the_stop_is_answered_too(thread: EngineThread) -> None:
    answers = Answers()
    thread.stop()
    thread.submit("late", Priority.COMPLETION, lambda _: 1, answers.to("late"))
    assert answers.all == [("late", None, None)]


def test_attempted_work_that_fails_gives_none(thread: EngineThread) -> None:
    def fail(_: CancelToken) -> int:
        raise ValueError("broken")

    assert asyncio.run(attempt(thread, "a", Priority.EDIT, fail)) is None
    assert asyncio.run(attempt(thread, "a", Priority.EDIT, lambda _: 3)) == 3

"""A thread with a priority queue of jobs, one at a time: the engine's own, and one for the rules.

A job of the same key as an older one supersedes it: the older one is answered with None at once and
ends within a token. A completion preempts a running job of lower priority, which is queued again.
Every job is answered exactly once, by a call from whatever thread settled it; `run` brings answers
to the event loop. The threads are daemons and never the pool of pygls, which also reads stdin.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qcoder.model.request import CancelToken, Priority

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[CancelToken], Any]
Done = Callable[[Any, BaseException | None], None]


@dataclass(slots=True, eq=False)
class _Job:
    """One piece of work; `token` is replaced when the job is queued again."""

    key: Hashable
    priority: Priority
    work: Work
    done: Done
    gives_way: Callable[[], bool]
    token: CancelToken = field(default_factory=CancelToken)
    answered: bool = False
    preempted: bool = False


class EngineThread:
    """Runs jobs in the order of their priority, then of their arrival."""

    def __init__(self, name: str = "qcoder-engine") -> None:
        self._queue: queue.PriorityQueue[tuple[int, int, _Job | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._latest: dict[Hashable, _Job] = {}
        self._running: _Job | None = None
        self._stopped = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(
        self,
        key: Hashable,
        priority: Priority,
        work: Work,
        done: Done,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> Callable[[], None]:
        """Queue `work(token)`; `done(result, error)` is called once. Returns how to cancel it.

        `gives_way`: whether, while it runs, a job of its own priority may preempt it now; from any thread.
        """
        job = _Job(key, priority, work, done, gives_way)
        with self._lock:
            stopped = self._stopped
            older = self._latest.get(key)
            self._latest[key] = job
            running = self._running
            if running is not None and running is not older and _goes_before(priority, running):
                running.preempted = True
                running.token.cancel()
        if older is not None:
            self._answer(older)
        if stopped:
            self._answer(job)
        else:
            self._queue.put((priority, next(self._numbers), job))
        return lambda: self._answer(job)

    @property
    def pending(self) -> int:
        """Jobs that run or wait."""
        with self._lock:
            return len(self._latest)

    def cancel(self, key: Hashable) -> None:
        """Answer the latest job of this key with None and end it; nothing when there is none."""
        with self._lock:
            job = self._latest.get(key)
        if job is not None:
            self._answer(job)

    def stop(self) -> None:
        """Answer everything, also what comes later, with None; the thread ends, nobody waits."""
        with self._lock:
            self._stopped = True
            jobs = list(self._latest.values())
        for job in jobs:
            self._answer(job)
        self._queue.put((-1, next(self._numbers), None))

    def _run(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Wait for a job and run it; False when there will be no more.

        A function of its own, so that nothing of a job is kept until the next one comes: it may be
        an engine that another one takes the place of.
        """
        _, _, job = self._queue.get()
        if job is None or self._stopped:
            return False
        with self._lock:
            self._running = None if job.answered else job
            token = job.token
        if self._running is None:
            return True
        result, error = None, None
        try:
            result = job.work(token)
        except Exception as raised:  # the thread's boundary: a failed job is one log line
            error = raised
            logger.error("job key=%s failed: %s: %s", job.key, type(raised).__name__, raised)
            logger.debug("job failed", exc_info=True)
        self._finish(job, result, error)
        error = None  # its traceback holds what is here
        return True

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        with self._lock:
            self._running = None
            again = job.preempted and not job.answered
            if again:
                job.preempted, job.token = False, CancelToken()
        if again:
            self._queue.put((job.priority, next(self._numbers), job))
        else:
            self._answer(job, result, error)

    def _answer(self, job: _Job, result: Any = None, error: BaseException | None = None) -> None:
        """Answer a job unless it was, and end it if it still runs."""
        with self._lock:
            if self._latest.get(job.key) is job:
                del self._latest[job.key]
            if job.answered:
                return
            job.answered = True
            job.token.cancel()
        try:
            job.done(result, error)
        except Exception as raised:  # also the thread's boundary
            logger.error("answer of key=%s failed: %s: %s", job.key, type(raised).__name__, raised)


def _goes_before(priority: Priority, running: _Job) -> bool:
    if priority == running.priority:
        return running.gives_way()
    return priority < running.priority


async def run(
    thread: EngineThread, key: Hashable, priority: Priority, work: Callable[[CancelToken], T]
) -> T | None:
    """Await a job from the event loop; cancelling the await cancels the job.

    None when it was superseded; raises what the work raises.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T | None] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def done(result: T | None, error: BaseException | None) -> None:
        post(loop, settle, result, error)

    cancel = thread.submit(key, priority, work, done)
    try:
        return await future
    finally:
        cancel()


async def attempt(
    thread: EngineThread, key: Hashable, priority: Priority, work: Callable[[CancelToken], T]
) -> T | None:
    """Like `run`, for answers: work that fails gives None, its log line is written already."""
    try:
        return await run(thread, key, priority, work)
    except Exception:  # the handler's boundary; cancellation passes
        return None


def post(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: Any) -> None:
    """Call on the event loop from any thread; nothing once the loop is closed."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        logger.debug("the event loop is closed")

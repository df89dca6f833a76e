"""The engine's own thread: a priority queue of jobs, one at a time.

A job of the same key as an older one supersedes it: the older one is cancelled within a token and
answered with None. A completion preempts a running job of lower priority, which is queued again.
Results go back to the event loop; every future gets exactly one result. The thread is a daemon and
never the pool of pygls, which also reads stdin.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from qcoder.model.request import CancelToken, Priority

logger = logging.getLogger(__name__)

Work = Callable[[CancelToken], Any]


@dataclass(slots=True)
class _Job:
    """One piece of work; `token` is replaced when the job is queued again."""

    key: Hashable
    priority: Priority
    work: Work
    done: Callable[[Any, BaseException | None], None]
    token: CancelToken = field(default_factory=CancelToken)
    superseded: bool = False
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
        done: Callable[[Any, BaseException | None], None],
    ) -> CancelToken:
        """Queue `work(token)`; `done(result, error)` is called once, from the engine's thread."""
        job = _Job(key, priority, work, done)
        with self._lock:
            older = self._latest.get(key)
            self._latest[key] = job
            if older is not None:
                older.superseded = True
                older.token.cancel()
            running = self._running
            if running is not None and priority < running.priority and not running.superseded:
                running.preempted = True
                running.token.cancel()
        self._queue.put((priority, next(self._numbers), job))
        return job.token

    def stop(self) -> None:
        """Cancel everything and let the thread end; does not wait."""
        with self._lock:
            self._stopped = True
            jobs = list(self._latest.values())
        for job in jobs:
            job.token.cancel()
        self._queue.put((-1, next(self._numbers), None))

    def _run(self) -> None:
        while True:
            _, _, job = self._queue.get()
            if job is None or self._stopped:
                return
            with self._lock:
                self._running = job
            result, error = None, None
            try:
                if not job.token.cancelled:
                    result = job.work(job.token)
            except Exception as raised:  # the thread's boundary: a failed job is one log line
                error = raised
                logger.error("job key=%s failed: %s: %s", job.key, type(raised).__name__, raised)
                logger.debug("job failed", exc_info=True)
            self._finish(job, result, error)

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        with self._lock:
            self._running = None
            again = job.preempted and not job.superseded and not self._stopped
            if again:
                job.preempted, job.token = False, CancelToken()
            elif self._latest.get(job.key) is job:
                del self._latest[job.key]
        if again:
            self._queue.put((job.priority, next(self._numbers), job))
        else:
            job.done(None if job.superseded else result, error)


async def run(thread: EngineThread, key: Hashable, priority: Priority, work: Work) -> Any:
    """Await a job from the event loop; cancelling the await cancels the job."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def done(result: Any, error: BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            logger.debug("the event loop was closed before a job ended")

    token = thread.submit(key, priority, work, done)
    try:
        return await future
    except asyncio.CancelledError:
        token.cancel()
        raise

"""Many generations at once: each step is one forward pass over tokens of several sequences.

Continuous batching (Orca, OSDI 2022) with prefill in chunks: a step has the next token of every
generation that decodes, and one chunk of the first that still reads its prompt. Prompts are read one after the other, so
that the second finds in the cache what it shares with the first. While a generation of a higher
priority runs, the others wait between two tokens, their keys and values kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qcoder.model.decoder import Pass
from qcoder.model.errors import Interrupted
from qcoder.model.generation import Progress, Work
from qcoder.model.request import GenerationRequest, GenerationStats, TokenOut

MOST_RUNNING = 16
"""Generations that decode together; others wait."""

Begin = Callable[[GenerationRequest, Progress, Sequence[Any]], Work]
"""(request, accounting, sequences that are written by others) -> its coroutine."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A generation that was begun; `wanted` is the pass that it waits for."""

    ticket: int
    request: GenerationRequest
    work: Work
    progress: Progress
    wanted: Pass | None = None


class Scheduler:
    """Generations of one engine, each known by its ticket. Used by one thread."""

    def __init__(
        self,
        begin: Begin,
        compute: Callable[[Sequence[Pass]], list[Tensor]],
        account: Callable[[GenerationStats], None],
        most_running: int = MOST_RUNNING,
    ) -> None:
        self._begin, self._compute, self._account = begin, compute, account
        self._most_running = most_running
        self._waiting: list[tuple[int, int, GenerationRequest]] = []
        self._running: list[_Flight] = []
        self._tickets = 0

    @property
    def pending(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._waiting or self._running)

    def submit(self, request: GenerationRequest) -> int:
        """Queue a generation; returns its ticket."""
        self._tickets += 1
        self._waiting.append((request.priority, self._tickets, request))
        self._waiting.sort(key=lambda entry: entry[:2])
        return self._tickets

    def step(self) -> list[tuple[int, TokenOut]]:
        """One forward pass; what came of it, each with its ticket. The last of each has `finish`."""
        outs = self._drop_cancelled() + self._admit()
        batch = self._batch()
        if not batch:
            return outs
        began = time.perf_counter()
        rows: Sequence[Tensor | None]
        try:
            rows = self._compute([flight.wanted for flight in batch if flight.wanted is not None])
        except Interrupted:
            rows = [None]  # it was one alone
        seconds = (time.perf_counter() - began) / len(batch)
        for flight, logits in zip(batch, rows, strict=True):
            flight.progress.took(flight.wanted, seconds)
            outs += self._advance(flight, logits)
        return outs

    def close(self) -> None:
        """End everything; what was computed stays in the cache."""
        for flight in self._running:
            self._end(flight)
        self._running, self._waiting = [], []

    def _drop_cancelled(self) -> list[tuple[int, TokenOut]]:
        """Let those that are cancelled or late say so, whether or not it is their turn."""
        outs: list[tuple[int, TokenOut]] = []
        now = time.monotonic()
        for flight in list(self._running):
            request = flight.request
            late = request.deadline is not None and now >= request.deadline
            if (request.cancel.cancelled or late) and flight.wanted is not None:
                outs += self._advance(flight, None)
        return outs

    def _admit(self) -> list[tuple[int, TokenOut]]:
        """Begin the next generation, when none reads its prompt that goes before it."""
        outs: list[tuple[int, TokenOut]] = []
        while self._waiting and len(self._running) < self._most_running:
            priority, ticket, request = self._waiting[0]
            reading = [f for f in self._running if f.wanted is not None and f.wanted.prefill]
            if any(f.request.priority <= priority for f in reading):
                break
            del self._waiting[0]
            progress = Progress(len(request.prompt.ids))
            busy = [f.wanted.sequence for f in self._running if f.wanted is not None]
            flight = _Flight(ticket, request, self._begin(request, progress, busy), progress)
            self._running.append(flight)
            outs += self._advance(flight, None)
        return outs

    def _batch(self) -> list[_Flight]:
        """Whose passes are computed now: those of the highest priority, at most one prompt."""
        first = min((f.request.priority for f in self._running), default=None)
        batch, reading = [], False
        for flight in self._running:
            if flight.wanted is None or flight.request.priority != first:
                continue
            if flight.wanted.prefill:
                if reading:
                    continue
                reading = True
            batch.append(flight)
        return batch

    def _advance(self, flight: _Flight, logits: Tensor | None) -> list[tuple[int, TokenOut]]:
        """Run a coroutine up to its next pass or its end."""
        outs: list[tuple[int, TokenOut]] = []
        flight.wanted = None
        while True:
            began = time.perf_counter()
            try:
                item = flight.work.send(logits)
            except StopIteration:
                self._running.remove(flight)
                self._end(flight)
                return outs
            flight.progress.took(None, time.perf_counter() - began)
            if isinstance(item, Pass):
                flight.wanted = item
                return outs
            logits = None
            flight.progress.count(item)
            outs.append((flight.ticket, item))

    def _end(self, flight: _Flight) -> None:
        flight.work.close()
        self._account(flight.progress.finished())

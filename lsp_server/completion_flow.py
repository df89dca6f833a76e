"""From keystrokes to suggestions with as little of the engine as possible; lives on the event loop.

A request is answered, in this order, by the cache, by the generation that runs and turns out to
write what the user types, or by a new generation after a pause in typing. A newer request of the
document answers the older one with None at once. What is prepared between requests is in
`completion_ahead.py`; a request, or an edit that leads elsewhere, ends that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from qcoder.lsp_server.acceptance import Acceptance
from qcoder.lsp_server.attempt import Attempt, explained
from qcoder.lsp_server.completion import alternatives, attempt, why_not
from qcoder.lsp_server.completion_ahead import Ahead, Ask, following
from qcoder.lsp_server.completion_cache import CompletionCache, Found, place_at
from qcoder.lsp_server.jobs import EngineThread, post
from qcoder.lsp_server.rhythm import Rhythm
from qcoder.lsp_server.snapshot import Snapshot, Suggestion
from qcoder.lsp_server.usage import Usage
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, Priority

COUNTED = ("requests", "cached", "joined", "generations", "decoded")
"""`cached` and `joined` requests needed no generation of their own. A generation that its first token
ended, which the prompt alone decides, was not `decoded`."""

ANSWER_SHARE = 0.2
"""How much the latest generation counts for how long one takes."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a generation found: the attempt, and alternatives where they were asked for."""

    attempt: Attempt
    others: tuple[Suggestion, ...] = ()


@dataclass(slots=True, eq=False)
class Told:
    """How a request was answered, for who asks why."""

    line: int
    column: int
    origin: Literal["", "cache", "running generation", "new generation"] = ""
    shown: int = 0
    waited_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(slots=True, eq=False)
class Running:
    """A generation at work. The engine's thread writes `text`, the event loop `typed`."""

    ask: Ask
    done: asyncio.Future[None]
    began: float = field(default_factory=time.monotonic)
    text: str = ""
    typed: str = ""
    followed: bool = False

    def follow(self, ask: Ask) -> bool:
        """Whether this generation may be what a later place wants; remembers that it is."""
        mine, theirs = self.ask.place, ask.place
        same = self.ask.basis == ask.basis and self.ask.effort >= ask.effort
        if not same or not theirs.head.startswith(mine.head) or self.done.done():
            return False
        typed = theirs.head[len(mine.head) :]
        behind = theirs.tail.removesuffix(mine.tail)
        # Behind the cursor only what an editor closes by itself may have come.
        if len(behind) != len(theirs.tail) - len(mine.tail) or behind.strip(")]}\"'`>"):
            return False
        if not agree(self.text, typed):
            return False
        self.typed, self.followed = typed, self.followed or bool(typed)
        return True

    def watch(self, text: str) -> bool:
        """See the text grow; True when it is not what the user types."""
        self.text = text
        return not agree(text, self.typed)


class CompletionFlow:
    """The completions of one session."""

    def __init__(self, thread: EngineThread, usage: Usage, acceptance: Acceptance) -> None:
        self._thread, self._usage, self._acceptance = thread, usage, acceptance
        self._ahead = Ahead(thread, self._found_ahead)
        self._cache = CompletionCache()
        self._rhythms: dict[str, Rhythm] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running: dict[str, Running] = {}
        self._attempts: dict[str, Attempt] = {}
        self._told: dict[str, Told] = {}
        self._counts = dict.fromkeys(COUNTED, 0)
        self._answer_s = 0.0

    def counts(self) -> dict[str, int]:
        """How the requests were answered so far, and what the engine was asked for."""
        ahead = {"prefills": self._ahead.prefills, "looked_ahead": self._ahead.looked_ahead}
        return {**self._counts, **ahead}

    def explain(self, uri: str | None) -> dict[str, Any]:
        """How the latest request of a document, or of all, was answered; {} when there was none.

        `origin` "" is a request that a newer one has superseded, or that waits still; `shown` is how
        many suggestions it got. What is said of the generation is of the document's latest one, which
        mostly made what the cache holds.
        """
        uri = uri if uri is not None else next(reversed(self._told), None)
        told = self._told.get(uri) if uri is not None else None
        if uri is None or told is None:
            return {}
        return {
            "uri": uri,
            "line": told.line,
            "column": told.column,
            "origin": told.origin,
            "shown": told.shown,
            "waited_ms": round(told.waited_ms, 1),
            "answer_ms": round(told.total_ms, 1),
            **explained(self._attempts.get(uri, Attempt("cancelled"))),
        }

    async def suggest(
        self,
        snapshot: Snapshot,
        line: int,
        column: int,
        engine: Engine,
        invoked: bool,
        several: bool = False,
    ) -> Found | None:
        """What to show for a request; None when a newer one has come or the engine has failed."""
        place = place_at(snapshot.document.text, line, column)
        uri = snapshot.document.uri
        superseded = self._supersede(uri)
        self._count("requests")
        if place is None:
            self._attempts[uri] = Attempt("outside")
            self._told[uri] = Told(line, column)
            return Found(None)
        ask = Ask(snapshot, engine, place, invoked, several)
        began, told = time.monotonic(), Told(line, column)
        self._told.pop(uri, None)  # so that it comes last
        self._told[uri] = told
        try:
            found = await self._answer(ask, superseded, told)
        except asyncio.CancelledError:
            running = self._running.get(uri)
            # One that the user has typed on with is wanted by the request to come.
            if not superseded.done() and running is not None and not running.followed:
                self._thread.cancel(completion_key(uri))
            raise
        told.total_ms = 1000 * (time.monotonic() - began)
        if found is not None and not superseded.done():
            told.shown = (found.suggestion is not None) + len(found.others)
            self._usage.add_time(told.total_ms)
            self._look_beyond(ask, found, told.origin == "new generation")
        return found

    def expect(self, snapshot: Snapshot, line: int, column: int, engine: Engine) -> None:
        """The user types at this place: keep what runs for it, or compute its prompt."""
        uri = snapshot.document.uri
        self._rhythms[uri] = self._rhythms.get(uri, Rhythm()).edited(time.monotonic())
        place = place_at(snapshot.document.text, line, column)
        if place is None:
            return
        ask = Ask(snapshot, engine, place)
        self._ahead.drop(uri)
        running = self._running.get(uri)
        if running is not None:
            if running.follow(ask):
                return
            self._thread.cancel(completion_key(uri))
        if self._find(ask) is None:
            self._ahead.compute_prompt(ask)

    def stop(self) -> None:
        """The engine goes: answer all that waits for it with None, and end what it computes."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        for uri in tuple(self._running):
            self._thread.cancel(completion_key(uri))
        self._ahead.drop_all()

    def forget(self, uri: str) -> None:
        """A document was closed."""
        self._supersede(uri)
        self._ahead.forget(uri)
        self._thread.cancel(completion_key(uri))
        self._cache.forget(uri)
        self._acceptance.forget(uri)
        for known in (self._rhythms, self._waiting, self._attempts, self._told):
            known.pop(uri, None)

    async def _answer(self, ask: Ask, superseded: asyncio.Future[None], told: Told) -> Found | None:
        found = self._find(ask)
        if found is not None:
            self._count("cached")
            told.origin = "cache"
            self._ahead.drop(ask.uri)
            self._thread.cancel(completion_key(ask.uri))
            return found
        running = self._running.get(ask.uri)
        if running is not None and running.follow(ask):
            if not await first(running.done, superseded):
                return None
            found = self._find(ask)
            if found is not None:
                self._count("joined")
                told.origin = "running generation"
                return found
        elif not await self._settled(ask, superseded, told):
            return None
        running = self._start(ask)
        if not await first(running.done, superseded):
            return None
        told.origin = "new generation"
        return self._find(ask)

    def _count(self, name: str) -> None:
        self._counts[name] += 1
        self._usage.add(name)

    def _find(self, ask: Ask) -> Found | None:
        return self._cache.find(ask.uri, ask.place, ask.basis, ask.effort)

    def _look_beyond(self, ask: Ask, found: Found, is_new: bool) -> None:
        latest = self._attempts.get(ask.uri)
        over = is_new and latest is not None and latest.line_is_over
        then = following(ask, found.suggestion, over)
        if then is not None and self._find(then) is None:
            self._ahead.compute_answer(then)

    def _found_ahead(self, ask: Ask, came: Attempt) -> None:
        self._cache.put(ask.uri, ask.place, ask.basis, ask.effort, came.suggestion)

    def _supersede(self, uri: str) -> asyncio.Future[None]:
        """Answer the document's older request; the new one's own mark."""
        older = self._waiting.get(uri)
        if older is not None and not older.done():
            older.set_result(None)
        mine = self._waiting[uri] = asyncio.get_running_loop().create_future()
        return mine

    async def _settled(self, ask: Ask, superseded: asyncio.Future[None], told: Told) -> bool:
        """Wait while the user types in a burst; False when a newer request has come."""
        rhythm = self._rhythms.get(ask.uri)
        if ask.invoked or rhythm is None:
            return True
        before_cursor = ask.place.head[ask.place.head.rfind("\n") + 1 :]
        least_s = ask.snapshot.settings.completion.debounce_ms / 1000
        wait_s = rhythm.wait_s(time.monotonic(), before_cursor, least_s, self._answer_s)
        if wait_s > 0:
            began = time.monotonic()
            await asyncio.wait([superseded], timeout=wait_s)
            told.waited_ms = 1000 * (time.monotonic() - began)
        return not superseded.done()

    def _start(self, ask: Ask) -> Running:
        self._count("generations")
        loop = asyncio.get_running_loop()
        running = Running(ask, loop.create_future())
        self._running[ask.uri] = running
        self._ahead.drop(ask.uri)  # until here it could go on: also during the pause

        def work(token: CancelToken) -> Result | None:
            result = self._generate(running, token)
            strayed = not agree(running.text, running.typed)
            return None if token.cancelled or strayed else result

        def done(result: Result | None, error: BaseException | None) -> None:
            post(loop, self._ended, running, result)

        self._thread.submit(completion_key(ask.uri), Priority.COMPLETION, work, done)
        return running

    def _generate(self, running: Running, token: CancelToken) -> Result:
        """In the engine's thread: the attempt, and the alternatives that were asked for."""
        ask, began = running.ask, time.perf_counter()
        prepared = self._ahead.prepare(ask)
        if prepared is None:
            place = ask.place
            return Result(why_not(ask.snapshot, place.line, place.column, ask.invoked))
        came = attempt(
            prepared,
            ask.snapshot,
            ask.engine,
            token,
            invoked=ask.invoked,
            watch=running.watch,
            pack_ms=1000 * (time.perf_counter() - began),
        )
        if not ask.several or running.typed:
            return Result(came)
        rewritten = self._acceptance.rewritten
        others = alternatives(came, prepared, ask.snapshot, ask.engine, token, rewritten)
        return Result(came, tuple(others))

    def _ended(self, running: Running, result: Result | None) -> None:
        ask = running.ask
        if result is not None:
            came = self._attempts[ask.uri] = result.attempt
            self._counts["decoded"] += came.tokens > 1
            self._usage.add("tokens", came.tokens)
            self._usage.add("decode_ms", round(came.timings_ms.get("decode", 0.0), 1))
            self._usage.add("prompt_tokens", came.prompt_tokens)
            self._usage.add("reused_tokens", came.reused_tokens)
            if came.tokens:
                took_s = time.monotonic() - running.began
                self._answer_s += ANSWER_SHARE * (took_s - self._answer_s)
            for found in (*reversed(result.others), came.suggestion):
                self._cache.put(ask.uri, ask.place, ask.basis, ask.effort, found)
        if self._running.get(ask.uri) is running:
            del self._running[ask.uri]
        running.done.set_result(None)


def completion_key(uri: str) -> Hashable:
    """The jobs of a document's requests: the newest supersedes the others."""
    return "completion", uri


def agree(text: str, typed: str) -> bool:
    """Whether one begins with the other: the user types what is being generated, so far."""
    return text.startswith(typed) or typed.startswith(text)


async def first(wanted: asyncio.Future[None], other: asyncio.Future[None]) -> bool:
    """Wait for either; whether the other has not come."""
    await asyncio.wait([wanted, other], return_when=asyncio.FIRST_COMPLETED)
    return not other.done()

"""From keystrokes to suggestions with as little of the engine as possible; lives on the event loop.

A request is answered, in this order, by the cache, by the generation that runs and turns out to
write what the user types, or by a new generation after a pause in typing. A newer request of the
document answers the older one with None at once. Between requests, while nothing else is to do,
the prompt of the place where the user types is computed, so that a request starts with its first
token; a request, or an edit that leads elsewhere, ends that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass

from qcoder.lsp_server.completion import Prepared, complete, prefill, prepare
from qcoder.lsp_server.completion_cache import CompletionCache, Found, Place, place_at
from qcoder.lsp_server.jobs import EngineThread, post
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, Priority

PREFILL_DELAY_S = 0.02
"""A request that comes with its edit is faster without a prefill that it has to interrupt first."""

CONTEXT_S = 20.0
"""Other files may have changed after this time, so the context is chosen anew within a line."""

COUNTED = ("requests", "cached", "joined", "generations", "prefills")
"""`cached` and `joined` requests needed no generation of their own."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: what belongs at this place, with this engine."""

    snapshot: Snapshot
    engine: Engine
    place: Place
    invoked: bool

    @property
    def uri(self) -> str:
        """The document."""
        return self.snapshot.document.uri

    @property
    def basis(self) -> Hashable:
        """All that an answer depends on besides the text around the place."""
        s = self.snapshot
        return s.settings, self.engine.info.name, self.engine.info.path, len(s.copy_tables)

    @property
    def version(self) -> Hashable:
        """What a prepared prompt belongs to."""
        document, place = self.snapshot.document, self.place
        return self.basis, document.version, document.text, place.line, place.column, self.invoked


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A prepared prompt, what it belongs to, and when its context was chosen (monotonic seconds)."""

    version: Hashable
    basis: Hashable
    prepared: Prepared
    made: float


@dataclass(slots=True, eq=False)
class Running:
    """A generation at work. The engine's thread writes `text`, the event loop `typed`."""

    ask: Ask
    done: asyncio.Future[None]
    text: str = ""
    typed: str = ""
    followed: bool = False

    def follow(self, ask: Ask) -> bool:
        """Whether this generation may be what a later place wants; remembers that it is."""
        mine, theirs = self.ask.place, ask.place
        same = self.ask.basis == ask.basis and (self.ask.invoked or not ask.invoked)
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

    def __init__(self, thread: EngineThread) -> None:
        self._thread = thread
        self._cache = CompletionCache()
        self._asked: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running: dict[str, Running] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._prepared: dict[str, Known] = {}
        self._counts = dict.fromkeys(COUNTED, 0)

    def counts(self) -> dict[str, int]:
        """How the requests were answered so far, and what the engine was asked for."""
        return dict(self._counts)

    async def suggest(
        self, snapshot: Snapshot, line: int, column: int, engine: Engine, invoked: bool
    ) -> Found | None:
        """What to show for a request; None when a newer one has come or the engine has failed."""
        place = place_at(snapshot.document.text, line, column)
        uri = snapshot.document.uri
        superseded = self._supersede(uri)
        self._counts["requests"] += 1
        if place is None:
            return Found(None)
        ask = Ask(snapshot, engine, place, invoked)
        try:
            return await self._answer(ask, superseded)
        except asyncio.CancelledError:
            running = self._running.get(uri)
            # One that the user has typed on with is wanted by the request to come.
            if not superseded.done() and running is not None and not running.followed:
                self._thread.cancel(completion_key(uri))
            raise

    def expect(self, snapshot: Snapshot, line: int, column: int, engine: Engine) -> None:
        """The user types at this place: keep what runs for it, or compute its prompt."""
        place = place_at(snapshot.document.text, line, column)
        if place is None:
            return
        ask = Ask(snapshot, engine, place, False)
        self._drop_prefill(ask.uri)
        running = self._running.get(ask.uri)
        if running is not None:
            if running.follow(ask):
                return
            self._thread.cancel(completion_key(ask.uri))
        if self._find(ask) is None:
            loop = asyncio.get_running_loop()
            self._timers[ask.uri] = loop.call_later(PREFILL_DELAY_S, self._prefill, ask)

    def forget(self, uri: str) -> None:
        """A document was closed."""
        self._supersede(uri)
        self._drop_prefill(uri)
        self._thread.cancel(completion_key(uri))
        self._cache.forget(uri)
        self._asked.pop(uri, None)
        self._waiting.pop(uri, None)
        self._prepared.pop(uri, None)

    async def _answer(self, ask: Ask, superseded: asyncio.Future[None]) -> Found | None:
        found = self._find(ask)
        if found is not None:
            self._counts["cached"] += 1
            self._drop_prefill(ask.uri)
            self._thread.cancel(completion_key(ask.uri))
            return found
        running = self._running.get(ask.uri)
        if running is not None and running.follow(ask):
            if not await first(running.done, superseded):
                return None
            found = self._find(ask)
            if found is not None:
                self._counts["joined"] += 1
                return found
        elif not await self._settled(ask, superseded):
            return None
        running = self._start(ask)
        if not await first(running.done, superseded):
            return None
        return self._find(ask)

    def _find(self, ask: Ask) -> Found | None:
        return self._cache.find(ask.uri, ask.place, ask.basis, ask.invoked)

    def _supersede(self, uri: str) -> asyncio.Future[None]:
        """Answer the document's older request; the new one's own mark."""
        older = self._waiting.get(uri)
        if older is not None and not older.done():
            older.set_result(None)
        mine = self._waiting[uri] = asyncio.get_running_loop().create_future()
        return mine

    async def _settled(self, ask: Ask, superseded: asyncio.Future[None]) -> bool:
        """Wait while the user types in a burst; False when a newer request has come."""
        if ask.invoked:
            return True
        wait_s = ask.snapshot.settings.completion.debounce_ms / 1000
        now = asyncio.get_running_loop().time()
        before = self._asked.get(ask.uri)
        self._asked[ask.uri] = now
        if before is not None and now - before < wait_s:
            await asyncio.wait([superseded], timeout=wait_s)
        return not superseded.done()

    def _start(self, ask: Ask) -> Running:
        self._counts["generations"] += 1
        loop = asyncio.get_running_loop()
        running = Running(ask, loop.create_future())
        self._running[ask.uri] = running
        self._drop_prefill(ask.uri)  # until here it could go on: also during the pause
        snapshot, place = ask.snapshot, ask.place

        def work(token: CancelToken) -> Found | None:
            prepared = self._prepare(ask)
            suggestion = None
            if prepared is not None:
                suggestion = complete(
                    snapshot,
                    place.line,
                    place.column,
                    ask.engine,
                    invoked=ask.invoked,
                    cancel=token,
                    prepared=prepared,
                    watch=running.watch,
                )
            strayed = not agree(running.text, running.typed)
            return None if token.cancelled or strayed else Found(suggestion)

        def done(found: Found | None, error: BaseException | None) -> None:
            post(loop, self._ended, running, found)

        self._thread.submit(completion_key(ask.uri), Priority.COMPLETION, work, done)
        return running

    def _ended(self, running: Running, found: Found | None) -> None:
        ask = running.ask
        if found is not None:
            self._cache.put(ask.uri, ask.place, ask.basis, ask.invoked, found.suggestion)
        if self._running.get(ask.uri) is running:
            del self._running[ask.uri]
        running.done.set_result(None)

    def _prefill(self, ask: Ask) -> None:
        self._counts["prefills"] += 1

        def work(token: CancelToken) -> None:
            prepared = self._prepare(ask)
            if prepared is not None and not token.cancelled:
                prefill(prepared, ask.engine, token)

        key = prefill_key(ask.uri)
        self._thread.submit(key, Priority.BACKGROUND, work, lambda result, error: None)

    def _prepare(self, ask: Ask) -> Prepared | None:
        """The prompt of a place; the one before serves while the user types on in its line."""
        known = self._prepared.get(ask.uri)
        if known is not None and known.version == ask.version:
            return known.prepared
        now = time.monotonic()
        fresh = known is not None and known.basis == ask.basis and now - known.made < CONTEXT_S
        prepared = prepare(
            ask.snapshot,
            ask.place.line,
            ask.place.column,
            ask.engine,
            ask.invoked,
            last=known.prepared if known is not None and fresh else None,
        )
        if prepared is None:
            self._prepared.pop(ask.uri, None)
            return None
        kept = known is not None and prepared.packed.segments is known.prepared.packed.segments
        made = known.made if known is not None and kept else now
        self._prepared[ask.uri] = Known(ask.version, ask.basis, prepared, made)
        return prepared

    def _drop_prefill(self, uri: str) -> None:
        timer = self._timers.pop(uri, None)
        if timer is not None:
            timer.cancel()
        self._thread.cancel(prefill_key(uri))


def completion_key(uri: str) -> Hashable:
    """The jobs of a document's requests: the newest supersedes the others."""
    return "completion", uri


def prefill_key(uri: str) -> Hashable:
    """The jobs that compute a document's prompt ahead."""
    return "prefill", uri


def agree(text: str, typed: str) -> bool:
    """Whether one begins with the other: the user types what is being generated, so far."""
    return text.startswith(typed) or typed.startswith(text)


async def first(wanted: asyncio.Future[None], other: asyncio.Future[None]) -> bool:
    """Wait for either; whether the other has not come."""
    await asyncio.wait([wanted, other], return_when=asyncio.FIRST_COMPLETED)
    return not other.done()

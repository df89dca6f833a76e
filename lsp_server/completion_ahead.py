"""What is computed before anybody asks: prompts while the user types, and the next completion.

Both run at idle priority and give way to everything. The prompt of the place where the user types is
computed so that a request begins with its first token. When a suggestion stays on the screen, or a
line seems to be over, what would be suggested next is computed and put where requests look first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from qcoder.lsp_server.attempt import Attempt
from qcoder.lsp_server.completion import Prepared, attempt, prefill, prepare
from qcoder.lsp_server.completion_cache import Place
from qcoder.lsp_server.jobs import EngineThread, post
from qcoder.lsp_server.postprocess import next_line_indent
from qcoder.lsp_server.snapshot import Snapshot, Suggestion
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, FinishReason, Priority

PREFILL_DELAY_S = 0.02
"""A request that comes with its edit is faster without a prefill that it has to interrupt first."""

LOOK_AHEAD_S = 0.3
"""How long an answer stands before the next one is computed: who types on needs another."""

CONTEXT_S = 20.0
"""Other files may have changed after this time, so the context is chosen anew within a line."""

KNOWN_LINES = 2
"""Of a document the prompts of the line where the user types and of the next one are kept."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: what belongs at this place, with this engine.

    `invoked` asks explicitly, so the bar is low; `several` wants alternatives too.
    """

    snapshot: Snapshot
    engine: Engine
    place: Place
    invoked: bool = False
    several: bool = False

    @property
    def uri(self) -> str:
        """The document."""
        return self.snapshot.document.uri

    @property
    def effort(self) -> int:
        """What an answer must have cost to count: automatic, explicit, with alternatives."""
        return self.invoked + (self.invoked and self.several)

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


class Ahead:
    """What is prepared for the documents of one session. `found` is called on the event loop."""

    def __init__(self, thread: EngineThread, found: Callable[[Ask, Attempt], None]) -> None:
        self._thread, self._found = thread, found
        self._timers: dict[str, asyncio.TimerHandle | None] = {}
        self._known: dict[str, dict[int, Known]] = {}
        self.prefills = 0
        self.looked_ahead = 0

    def prepare(self, ask: Ask) -> Prepared | None:
        """The prompt of a place; the one before serves while the user types on in its line."""
        lines = self._known.setdefault(ask.uri, {})
        latest = next(reversed(lines.values()), None)
        known = lines.pop(ask.place.line, None)
        if known is not None and known.version == ask.version:
            lines[ask.place.line] = known
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
            earlier=latest.prepared.around if latest is not None else None,
        )
        if prepared is None:
            return None
        kept = known is not None and prepared.packed.segments is known.prepared.packed.segments
        made = known.made if known is not None and kept else now
        lines[ask.place.line] = Known(ask.version, ask.basis, prepared, made)
        while len(lines) > KNOWN_LINES:
            del lines[next(iter(lines))]
        return prepared

    def compute_prompt(self, ask: Ask) -> None:
        """The user types there: compute the prompt soon."""
        self._later(ask.uri, PREFILL_DELAY_S, self._prefill, ask)

    def compute_answer(self, ask: Ask) -> None:
        """The user may come there: in the next pause, compute what will be asked for."""
        self._later(ask.uri, LOOK_AHEAD_S, self._look, ask)

    def drop(self, uri: str) -> None:
        """End what is computed ahead for a document."""
        timer = self._timers.pop(uri, None)
        if timer is not None:
            timer.cancel()
        self._thread.cancel(ahead_key(uri))

    def drop_all(self) -> None:
        """The engine goes: nothing is computed ahead, and nothing that waits holds it."""
        for uri in tuple(self._timers):
            self.drop(uri)

    def forget(self, uri: str) -> None:
        """A document was closed."""
        self.drop(uri)
        self._known.pop(uri, None)

    def _later(self, uri: str, delay_s: float, work: Callable[[Ask], None], ask: Ask) -> None:
        self.drop(uri)
        self._timers[uri] = asyncio.get_running_loop().call_later(delay_s, work, ask)

    def _fired(self, ask: Ask) -> None:
        # A timer that has fired still holds the question, and that the engine.
        self._timers[ask.uri] = None

    def _prefill(self, ask: Ask) -> None:
        self._fired(ask)
        self.prefills += 1

        def work(token: CancelToken) -> None:
            prepared = self.prepare(ask)
            if prepared is not None and not token.cancelled:
                prefill(prepared, ask.engine, token)

        self._submit(ask, work, lambda result, error: None)

    def _look(self, ask: Ask) -> None:
        self._fired(ask)
        self.looked_ahead += 1
        loop = asyncio.get_running_loop()

        def work(token: CancelToken) -> Attempt | None:
            prepared = self.prepare(ask)
            if prepared is None or token.cancelled:
                return None
            idle = Priority.BACKGROUND
            came = attempt(prepared, ask.snapshot, ask.engine, token, priority=idle)
            return None if token.cancelled else came

        def done(came: Attempt | None, error: BaseException | None) -> None:
            if came is not None:
                post(loop, self._found, ask, came)

        self._submit(ask, work, done)

    def _submit(
        self,
        ask: Ask,
        work: Callable[[CancelToken], Attempt | None],
        done: Callable[[Attempt | None, BaseException | None], None],
    ) -> None:
        self._thread.submit(ahead_key(ask.uri), Priority.BACKGROUND, work, done)


def following(ask: Ask, suggestion: Suggestion | None, line_is_over: bool) -> Ask | None:
    """The automatic request that comes next if the user takes the answer; None: nobody knows.

    Behind a suggestion that ends its line, and behind a line that is over, that is in a new line.
    """
    if ask.engine.info.is_remote:
        return None  # it would cost somebody else's machine
    head, tail = ask.place.head, ask.place.tail
    if suggestion is not None:
        edit = suggestion.edit
        head, tail = head + suggestion.text, tail[edit.end_column - edit.start_column :]
        ended = suggestion.finish_reason == FinishReason.STOP
        line_is_over = ended and "\n" not in suggestion.text
    elif not line_is_over:
        return None
    if line_is_over and not tail.partition("\n")[0].strip():
        row = head[head.rfind("\n") + 1 :]
        if not row.strip():
            return None
        head += "\n" + next_line_indent(row, head)
    place = Place(head, tail, head.count("\n"), len(head) - head.rfind("\n") - 1)
    document = replace(ask.snapshot.document, text=head + tail)
    return Ask(replace(ask.snapshot, document=document), ask.engine, place)


def ahead_key(uri: str) -> Hashable:
    """The job that computes something ahead for a document."""
    return "ahead", uri

"""One engine for several processes: what `qcoder daemon` runs.

Each client has a thread that reads and one that writes; models belong to one engine thread
(`jobs.py`), where a completion preempts a review between two tokens. What was preempted begins again
from its kept KV and leaves out the tokens that it has sent. Models that nobody has used for a while
are dropped; when nobody is connected either, the process ends.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, Listener
from typing import Any

from qcoder.lsp_server.jobs import EngineThread
from qcoder.model.engine import Engine
from qcoder.model.errors import ModelError
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import CancelToken, FinishReason, Priority
from qcoder.model.scoring import TokenScores
from qcoder.model.shared import going_on
from qcoder.model.shared_frames import (
    PROTOCOL,
    Frame,
    ModelSpec,
    failure,
    ids_of,
    packed,
    request_of,
    scores_frame,
    table_of,
    token_frame,
    unpacked,
)

logger = logging.getLogger(__name__)

IDLE_S = 1800.0
CHECK_S = 5.0
Load = Callable[[ModelSpec], Engine]
Work = Callable[[Engine, CancelToken], bool]
"""Whether it is done; what was preempted before that is done again."""


@dataclass(slots=True, eq=False)
class Peer:
    """One client. `outgoing` is written by a thread of its own, so that nobody waits for a reader."""

    connection: Connection
    outgoing: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    tables: dict[int, SuffixTable] = field(default_factory=dict)
    running: dict[int, CancelToken] = field(default_factory=dict)
    spec: ModelSpec | None = None

    def send(self, frame: Frame) -> None:
        """Send from any thread."""
        self.outgoing.put(packed(frame))

    def write(self) -> None:
        """Write what is to be sent until the client or the daemon ends it."""
        while (data := self.outgoing.get()) is not None:
            try:
                self.connection.send_bytes(data)
            except (OSError, ValueError):
                return  # the reader sees the end too


class Daemon:
    """Serves the clients of one listener; `load` makes an engine of a model's specification."""

    def __init__(self, listener: Listener, load: Load, idle_s: float = IDLE_S) -> None:
        self._listener, self._load, self._idle_s = listener, load, idle_s
        self._thread = EngineThread()
        self._engines: dict[ModelSpec, Engine] = {}
        self._peers: set[Peer] = set()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._used_at = time.monotonic()
        self._ended = threading.Event()

    def serve(self) -> None:
        """Accept clients until `stop`, or until nobody has needed it for a while."""
        threading.Thread(target=self._accept, name="qcoder-accept", daemon=True).start()
        while not self._ended.wait(min(CHECK_S, self._idle_s)):
            self._rest()
        self._listener.close()
        self._thread.stop()

    def stop(self) -> None:
        """End serving; clients that are connected lose it."""
        self._ended.set()

    def status(self) -> Frame:
        """What is loaded, and for how many."""
        with self._lock:
            models = [engine.info.name for engine in self._engines.values()]
            idle_s = time.monotonic() - self._used_at
            return {"models": models, "clients": len(self._peers), "idle_s": round(idle_s, 1)}

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection = self._listener.accept()
            except (OSError, EOFError) as error:
                logger.debug("accept: %s", error)
                if self._ended.is_set():
                    return
                continue
            peer = Peer(connection)
            with self._lock:
                self._peers.add(peer)
            for work in (partial(self._read, peer), peer.write):
                threading.Thread(target=work, name="qcoder-peer", daemon=True).start()

    def _read(self, peer: Peer) -> None:
        """Take frames until the client leaves or sends what is none; then end its generations."""
        try:
            while True:
                self._take(peer, unpacked(peer.connection.recv_bytes()))
        except (OSError, EOFError):
            logger.debug("a client left")
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("a client was dropped: %s: %s", type(error).__name__, error)
        finally:
            with self._lock:
                self._peers.discard(peer)
                self._used_at = time.monotonic()
            for token in tuple(peer.running.values()):
                token.cancel()
            peer.outgoing.put(None)
            peer.connection.close()

    def _take(self, peer: Peer, frame: Frame) -> None:
        op, number = frame["op"], frame.get("number", 0)
        if op == "open":
            self._open(peer, frame)
        elif op == "table":
            peer.tables[number] = table_of(frame)
        elif op == "drop":
            peer.tables.pop(number, None)
        elif op == "generate":
            self._generate(peer, frame, number)
        elif op == "cancel":
            token = peer.running.get(number)
            if token is not None:
                token.cancel()
        elif op == "logits":
            ids = ids_of(frame["ids"]).tolist()
            self._submit(peer, number, Priority.REVIEW, partial(send_logits, peer, number, ids))
        elif op == "score":
            wanted = peer.running[number] = CancelToken()
            scoring = Scoring(peer, ids_of(frame["ids"]).tolist(), frame["start"], number, wanted)
            self._submit(peer, number, Priority.REVIEW, scoring.run)
        elif op == "status":
            peer.send({"op": "told", "number": number, **self.status()})
        elif op == "stop":
            # Here, not in the writing thread: the process may end before that comes to it.
            peer.connection.send_bytes(packed({"op": "told", "number": number}))
            self.stop()
        else:
            raise ValueError(f"unknown op {op!r}")

    def _open(self, peer: Peer, frame: Frame) -> None:
        if frame["protocol"] != PROTOCOL:
            error = ModelError("the daemon is of another version; `qcoder daemon --stop` ends it")
            peer.send(failure(error))
            return
        peer.spec = ModelSpec(**frame["model"])

        def opened(engine: Engine, _: CancelToken) -> bool:
            info = dataclasses.asdict(engine.info)
            peer.send({"op": "opened", "info": info, "stats": dataclasses.asdict(engine.stats())})
            return True

        self._submit(peer, 0, Priority.COMPLETION, opened)

    def _generate(self, peer: Peer, frame: Frame, number: int) -> None:
        wanted = peer.running[number] = CancelToken()
        generation = Generation(peer, frame, number, dict(peer.tables), wanted)
        priority = Priority(frame["priority"])
        self._submit(peer, number, priority, generation.run, generation.gives_way)

    def _submit(
        self,
        peer: Peer,
        number: int,
        priority: Priority,
        work: Work,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        """Queue work with the client's model; what it raises is the answer."""
        is_done = False

        def run(token: CancelToken) -> None:
            nonlocal is_done
            if is_done:  # a preemption that came too late for it
                return
            with self._lock:
                self._used_at = time.monotonic()
            try:
                is_done = work(self._engine(peer.spec), token)
            except (
                Exception
            ) as error:  # the client's boundary: it gets the error, the daemon goes on
                logger.warning("a request failed: %s: %s", type(error).__name__, error)
                peer.send(failure(error, number))
                is_done = True

        def done(result: Any, error: BaseException | None) -> None:
            peer.running.pop(number, None)

        self._thread.submit(next(self._numbers), priority, run, done, gives_way)

    def _engine(self, spec: ModelSpec | None) -> Engine:
        """In the engine's thread: the model, loaded if need be."""
        if spec is None:
            raise ModelError("no model was opened")
        engine = self._engines.get(spec)
        if engine is None:
            engine = self._load(spec)
            with self._lock:
                self._engines[spec] = engine
        return engine

    def _rest(self) -> None:
        """Drop the models that nobody has used for a while, and end when nobody is there."""
        with self._lock:
            idle = time.monotonic() - self._used_at >= self._idle_s
            alone, loaded = not self._peers, bool(self._engines)
        if idle and alone:
            logger.info("nobody is connected: the daemon ends")
            self.stop()
        elif idle and loaded:
            self._thread.submit("unload", Priority.BACKGROUND, self._unload, lambda *_: None)

    def _unload(self, _: CancelToken) -> None:
        with self._lock:
            if time.monotonic() - self._used_at < self._idle_s:
                return
            self._engines.clear()
        gc.collect()
        logger.info("models unloaded")


class Generation:
    """One generation of a client; `run` may be called again after a preemption."""

    def __init__(
        self,
        peer: Peer,
        frame: Frame,
        number: int,
        tables: dict[int, SuffixTable],
        wanted: CancelToken,
    ) -> None:
        self._peer, self._number, self._wanted = peer, number, wanted
        self._request = request_of(frame, tables, CancelToken())
        self._seen: list[int] = []
        self._was_preempted = False

    def gives_way(self) -> bool:
        """Once, while the prompt is read: most others have little to read, and this has much."""
        return not (self._seen or self._was_preempted)

    def run(self, engine: Engine, token: CancelToken) -> bool:
        """Send the tokens that were not sent yet, then the accounting; False when preempted."""
        request = dataclasses.replace(self._request, cancel=_Either(self._wanted, token))
        for out in going_on(engine.generate(request), self._seen):
            ended = out.finish == FinishReason.CANCELLED
            if ended and token.cancelled and not self._wanted.cancelled:
                self._was_preempted = True
                return False
            self._peer.send(token_frame(out, self._number))
        stats = dataclasses.asdict(engine.stats())
        self._peer.send({"op": "ended", "number": self._number, "stats": stats})
        if request.max_tokens == 0 and not request.cancel.cancelled:
            engine.maintain()  # a prompt that is computed ahead: nothing else is asked for
        return True


class Scoring:
    """The scores of a text for a client; what was computed before a preemption counts."""

    def __init__(
        self, peer: Peer, ids: list[int], start: int, number: int, wanted: CancelToken
    ) -> None:
        self._peer, self._number, self._wanted = peer, number, wanted
        self._ids, self._start = ids, start
        self._pieces: Iterator[TokenScores] | None = None

    def run(self, engine: Engine, token: CancelToken) -> bool:
        """Send piece after piece; False when preempted."""
        if self._pieces is None:
            self._pieces = engine.score(self._ids, self._start)
        while not self._wanted.cancelled:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._peer.send(scores_frame(piece, self._number))
            if token.cancelled and not self._wanted.cancelled:
                return False
        stats = dataclasses.asdict(engine.stats())
        self._peer.send({"op": "ended", "number": self._number, "stats": stats})
        return True


class _Either(CancelToken):
    """Cancelled when one of two is: the client's own, and that of the job, which a preemption sets."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: CancelToken, second: CancelToken) -> None:
        super().__init__()
        self._first, self._second = first, second

    @property
    def cancelled(self) -> bool:
        """True once either was cancelled."""
        return self._first.cancelled or self._second.cancelled


def send_logits(peer: Peer, number: int, ids: list[int], engine: Engine, _: CancelToken) -> bool:
    """Answer with the logits of a text as raw float32."""
    values = engine.logits(ids).float().contiguous().numpy().tobytes()
    peer.send({"op": "logits", "number": number, "values": values})
    return True

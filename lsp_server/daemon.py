"""One engine for several processes: what `qcoder daemon` runs.

Each client (`daemon_client.py`) has a thread that reads and one that writes; models belong to one engine
thread (`jobs.py`), where a completion preempts a review between two tokens. When nothing is asked for,
engines do what they have put off. Models that nobody has used for a while are dropped; when nobody is
connected either, the process ends.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Listener
from typing import Any

from qcoder.lsp_server.daemon_client import Generation, Peer, Scoring, send_logits
from qcoder.lsp_server.daemon_metrics import Metrics, exposition
from qcoder.lsp_server.jobs import EngineThread
from qcoder.model.engine import Engine
from qcoder.model.errors import ModelError
from qcoder.model.request import CancelToken, Priority
from qcoder.model.shared_frames import (
    PROTOCOL,
    Frame,
    ModelSpec,
    failure,
    ids_of,
    packed,
    table_of,
    unpacked,
)

logger = logging.getLogger(__name__)

IDLE_S = 1800.0
CHECK_S = 5.0
QUIET_S = 2.0
"""Without a request, after which engines do what they have put off."""

Load = Callable[[ModelSpec], Engine]
Work = Callable[[Engine, CancelToken], bool]
"""Whether it is done; what was preempted before that is done again."""


class Daemon:
    """Serves the clients of one listener; `load` makes an engine of a model's specification."""

    def __init__(self, listener: Listener, load: Load, idle_s: float = IDLE_S) -> None:
        self._listener, self._load, self._idle_s = listener, load, idle_s
        self._thread = EngineThread()
        self._engines: dict[ModelSpec, Engine] = {}
        self._peers: set[Peer] = set()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._used_at = self._maintained_at = time.monotonic()
        self._ended = threading.Event()
        self._metrics = Metrics()

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

    def metrics(self) -> str:
        """What happened so far, in the text format of Prometheus."""
        with self._lock:
            engines = {engine.info.name: engine.stats() for engine in self._engines.values()}
            clients = len(self._peers)
        return exposition(engines, clients, self._thread.pending, self._metrics)

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
        elif op == "metrics":
            peer.send({"op": "told", "number": number, "text": self.metrics()})
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
        asked_at, begun_at = time.monotonic(), 0.0

        def run(token: CancelToken) -> None:
            nonlocal is_done, begun_at
            if is_done:  # a preemption that came too late for it
                return
            now = time.monotonic()
            if begun_at:
                self._metrics.preempted(priority)
            else:
                begun_at = now
                self._metrics.waited(priority, now - asked_at)
            with self._lock:
                self._used_at = now
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
            self._metrics.answered(priority, time.monotonic() - asked_at)

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
        """Do what was put off; drop the models that nobody has used for a while, and end when nobody is there."""
        with self._lock:
            quiet_s = time.monotonic() - self._used_at
            idle = quiet_s >= self._idle_s
            alone, loaded = not self._peers, bool(self._engines)
            put_off = self._used_at > self._maintained_at
        if idle and alone:
            logger.info("nobody is connected: the daemon ends")
            self.stop()
        elif idle and loaded:
            self._thread.submit("unload", Priority.BACKGROUND, self._unload, lambda *_: None)
        elif put_off and quiet_s >= QUIET_S and not self._thread.pending:
            self._thread.submit("maintain", Priority.BACKGROUND, self._maintain, lambda *_: None)

    def _maintain(self, _: CancelToken) -> None:
        with self._lock:
            engines = list(self._engines.values())
            self._maintained_at = time.monotonic()
        for engine in engines:
            engine.maintain()

    def _unload(self, _: CancelToken) -> None:
        with self._lock:
            if time.monotonic() - self._used_at < self._idle_s:
                return
            self._engines.clear()
        gc.collect()
        logger.info("models unloaded")

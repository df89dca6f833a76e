"""One client of the daemon, and what it asked for: generations, scores of texts, logits.

Each piece of work runs in the engine's thread and may be called again after a preemption: what was
preempted begins again from its kept KV and leaves out what it has sent.
"""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from qcoder.model.engine import Engine
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import CancelToken, FinishReason
from qcoder.model.scoring import TokenScores
from qcoder.model.shared import going_on
from qcoder.model.shared_frames import (
    Frame,
    ModelSpec,
    packed,
    request_of,
    scores_frame,
    token_frame,
)


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

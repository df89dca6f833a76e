"""An engine that another process runs for several: the client's side, behind the `Engine` protocol.

Tokens are asked for over a local connection (`shared_frames.py`); the tokenizer is loaded here. When
the daemon goes away in the middle of an answer, it is started again once and the answer goes on from
where it was; if that fails, the model is loaded in this process. Either way the caller sees only a
pause.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from qcoder.model.engine import Engine, EngineStats, ModelInfo
from qcoder.model.errors import ModelError
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import FinishReason, GenerationRequest, TokenOut
from qcoder.model.scoring import TokenScores, check_start
from qcoder.model.shared_frames import (
    PROTOCOL,
    Frame,
    ModelSpec,
    ids_bytes,
    info_of,
    packed,
    raised,
    request_frame,
    scores_from,
    stats_of,
    table_frame,
    token_of,
    unpacked,
)
from qcoder.model.stop import interrupted

if TYPE_CHECKING:
    import torch

    from qcoder.model.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

POLL_S = 0.005
"""Between two looks at the cancel token while the daemon computes."""

END_S = 0.5
"""How long an answer that nobody wants may take to end: a decode step."""

LOAD_S = 600.0
ANSWER_S = 120.0
"""How long a daemon that is alive may say nothing: it may load the model for somebody else."""

STEADY_S = 60.0
"""A daemon that fails again sooner is not asked any more."""

MAX_TABLES = 16

Connect = Callable[[], Connection]


class SharedEngine:
    """One model of a daemon. Used by one thread; only cancel tokens come from others."""

    def __init__(
        self,
        spec: ModelSpec,
        connect: Connect,
        load_tokenizer: Callable[[ModelInfo], Tokenizer],
        load_here: Callable[[], Engine],
    ) -> None:
        """Raises `ModelError` when no daemon answers, and what loading the model raises."""
        self._spec, self._connect, self._load_here = spec, connect, load_here
        self._numbers = itertools.count(1)
        self._tables: dict[int, SuffixTable] = {}
        self._here: Engine | None = None
        self._failed_at = float("-inf")
        self._connection = self._opened()
        self._tokenizer = load_tokenizer(self._info)

    @staticmethod
    def or_else(
        spec: ModelSpec,
        connect: Connect,
        load_tokenizer: Callable[[ModelInfo], Tokenizer],
        load_here: Callable[[], Engine],
    ) -> Engine:
        """A shared engine, or one in this process when no daemon can be had."""
        try:
            return SharedEngine(spec, connect, load_tokenizer, load_here)
        except (ModelError, OSError) as error:
            logger.warning("the model is loaded in this process: %s", error)
            return load_here()

    @staticmethod
    def load(
        path_or_name: str = "default",
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        yarn_factor: float | None = None,
        max_context: int | None = None,
        threads: int = 0,
        reuse: str = "exact",
        kv_cache: str = "float16",
    ) -> Engine:
        """Not from a checkpoint: whoever makes one says how its daemon is reached."""
        raise ModelError("a shared engine is connected to, not loaded; set model.shared")

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        return self._info

    @property
    def is_here(self) -> bool:
        """Whether the daemon was given up and the model runs in this process."""
        return self._here is not None

    def stats(self) -> EngineStats:
        """Counters of the model, all clients together; `last` is this client's generation."""
        return self._here.stats() if self._here else self._stats

    def maintain(self) -> None:
        """What runs here; a daemon looks after its own."""
        if self._here is not None:
            self._here.maintain()

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """Stream tokens; closing the iterator ends the generation in the daemon."""
        seen: list[int] = []
        while self._here is None:
            try:
                yield from going_on(self._streamed(request), seen)
                return
            except (OSError, EOFError) as error:
                ended = interrupted(request)
                if ended is not None:
                    yield TokenOut(-1, "", 0.0, "model", finish=ended)
                    return
                self._recover(error)
        yield from going_on(self._here.generate(request), seen)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """[len(ids), vocab] float32: one full forward pass without cache."""
        import torch  # only who reviews with the model needs it here

        if self._here is None:
            try:
                answer = self._ask({"op": "logits", "ids": ids_bytes(ids)}, "logits", LOAD_S)
            except (OSError, EOFError) as error:
                self._recover(error)
                return self.logits(ids)
            values = torch.frombuffer(bytearray(answer["values"]), dtype=torch.float32)
            return values.reshape(len(ids), -1)
        return self._here.logits(ids)

    def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
        """See `Engine.score`; leaving it early ends it in the daemon."""
        check_start(ids, start)
        return self._score(ids, start)

    def _score(self, ids: list[int], start: int) -> Iterator[TokenScores]:
        while self._here is None:
            try:
                frame = {"op": "score", "ids": ids_bytes(ids), "start": start}
                for answer in self._answers(frame):
                    piece = scores_from(answer)
                    start += len(piece)  # what a lost daemon has said is known
                    yield piece
                return
            except (OSError, EOFError) as error:
                self._recover(error)
        if start < len(ids):
            yield from self._here.score(ids, start)

    def close(self) -> None:
        """Leave the daemon."""
        self._connection.close()

    def _opened(self) -> Connection:
        """A connection with the model open; raises `ModelError`, or what loading it raises."""
        connection = self._connect()
        frame = {"op": "open", "protocol": PROTOCOL, "model": asdict(self._spec)}
        try:
            connection.send_bytes(packed(frame))
            answer = self._received(connection, LOAD_S)
        except (OSError, EOFError) as error:
            connection.close()
            raise ModelError(
                f"the shared engine left while it loaded the model ({error})"
            ) from None
        if answer["op"] != "opened":
            connection.close()
            raise raised(answer)
        self._info, self._stats = info_of(answer["info"]), stats_of(answer["stats"])
        self._tables.clear()
        return connection

    def _recover(self, error: Exception) -> None:
        """Reach a daemon again, or load the model here; raises what loading raises."""
        self._connection.close()
        now = time.monotonic()
        soon, self._failed_at = now - self._failed_at < STEADY_S, now
        if not soon:
            logger.warning(
                "the shared engine was lost (%s); connecting again", type(error).__name__
            )
            try:
                self._connection = self._opened()
            except (ModelError, OSError) as again:
                logger.warning("no shared engine: %s", again)
            else:
                return
        logger.warning("the model is loaded in this process")
        self._here = self._load_here()

    def _streamed(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """The tokens of the daemon; raises OSError or EOFError when it is lost."""
        tables = self._numbers_of(request.copy_tables)
        frame, finish = request_frame(request, tables), None
        for answer in self._answers(frame, partial(interrupted, request)):
            out = token_of(answer)
            finish = out.finish
            yield out
        if finish is None and (ended := interrupted(request)):  # the daemon has not come to that
            yield TokenOut(-1, "", 0.0, "model", finish=ended)

    def _answers(
        self, frame: Frame, why_end: Callable[[], FinishReason | None] = lambda: None
    ) -> Iterator[Frame]:
        """What the daemon says to a frame before its last word; leaving early cancels it there.

        Once `why_end` gives a reason, which must stay, the daemon has `END_S` for its last word:
        while it computes for others, or hangs, nothing comes, and what comes later is passed over.
        """
        number = next(self._numbers)
        self._connection.send_bytes(packed({**frame, "number": number}))
        cancelled = ended = False
        until = math.inf
        try:
            while time.monotonic() < until:
                reason = why_end()
                if reason is not None:
                    until = min(until, time.monotonic() + END_S)
                # The daemon knows the deadline, and says more of its end than of a cancelled one's.
                if reason == FinishReason.CANCELLED and not cancelled:
                    cancelled = True
                    self._cancel(number)
                if not self._connection.poll(POLL_S):
                    continue
                answer = self._frame_of(number)
                if answer is None:
                    continue
                if answer["op"] in ("ended", "failed"):
                    ended = True
                    self._end(answer)
                    return
                yield answer
            ended = True
            if not cancelled:
                self._cancel(number)
        finally:
            if not ended:
                self._leave(number, cancelled)

    def _leave(self, number: int, cancelled: bool) -> None:
        """End a generation that nobody reads on; waits a moment for its accounting."""
        try:
            if not cancelled:
                self._cancel(number)
            until = time.monotonic() + END_S
            while (left := until - time.monotonic()) > 0 and self._connection.poll(left):
                frame = self._frame_of(number)
                if frame is not None and frame["op"] in ("ended", "failed"):
                    self._stats = stats_of(frame["stats"]) if "stats" in frame else self._stats
                    return
        except (OSError, EOFError):
            logger.debug("the shared engine was lost at the end of a generation")

    def _end(self, frame: Frame) -> None:
        if frame["op"] == "failed":
            raise raised(frame)
        self._stats = stats_of(frame["stats"])

    def _cancel(self, number: int) -> None:
        self._connection.send_bytes(packed({"op": "cancel", "number": number}))

    def _frame_of(self, number: int) -> Frame | None:
        """The next frame, if it belongs to a generation; others were left before their end."""
        frame = unpacked(self._connection.recv_bytes())
        return frame if frame.get("number") == number else None

    def _ask(self, frame: Frame, answer: str, wait_s: float = ANSWER_S) -> Frame:
        number = next(self._numbers)
        self._connection.send_bytes(packed({**frame, "number": number}))
        while True:
            got = self._received(self._connection, wait_s)
            if got.get("number") == number:
                if got["op"] != answer:
                    raise raised(got)
                return got

    @staticmethod
    def _received(connection: Connection, wait_s: float) -> Frame:
        if not connection.poll(wait_s):
            raise OSError(f"no answer within {wait_s:.0f} s")
        return unpacked(connection.recv_bytes())

    def _numbers_of(self, tables: tuple[SuffixTable, ...]) -> list[int]:
        """Under which numbers the daemon has these tables; sends those that it has not."""
        wanted = []
        known = {id(table): number for number, table in self._tables.items()}
        for table in tables:
            number = known.get(id(table))
            if number is None:
                number = next(self._numbers)
                self._connection.send_bytes(packed(table_frame(table, number)))
            else:
                del self._tables[number]
            self._tables[number] = table  # the latest used come last
            wanted.append(number)
        while len(self._tables) > max(MAX_TABLES, len(wanted)):
            oldest = next(iter(self._tables))
            del self._tables[oldest]
            self._connection.send_bytes(packed({"op": "drop", "number": oldest}))
        return wanted


def going_on(outs: Iterator[TokenOut], seen: list[int]) -> Iterator[TokenOut]:
    """Of a generation that begins again the tokens behind those with the ids `seen`, which grows.

    Generations are seeded, so the same tokens come again. Where keys and values were used again with
    less than full accuracy they may not; then there is nothing to go on with.
    """
    for count, out in enumerate(outs):
        if count >= len(seen):
            if out.finish != FinishReason.CANCELLED:
                seen.append(out.id)
            yield out
        elif out.id != seen[count]:
            yield TokenOut(-1, "", 0.0, "model", finish=FinishReason.CANCELLED)
            return


def told(connection: Connection, op: str) -> dict[str, Any]:
    """What a daemon says to `status` or `stop`; raises `ModelError` when it says nothing."""
    try:
        connection.send_bytes(packed({"op": op, "number": 0}))
        if not connection.poll(ANSWER_S):
            raise ModelError("the daemon does not answer")
        answer = unpacked(connection.recv_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise ModelError(f"the daemon left ({type(error).__name__})") from None
    return {key: value for key, value in answer.items() if key not in ("op", "number")}

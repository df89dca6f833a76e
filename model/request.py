"""What goes into the engine and what comes out of it.

`Prompt` -> `GenerationRequest` -> iterator of `TokenOut`. Everything is frozen except the
`CancelToken`, which any thread may set.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Literal

from qcoder.model.ngram import SuffixTable

Source = Literal["model", "ngram"]


class Priority(IntEnum):
    """Lower runs first."""

    COMPLETION = 0
    EDIT = 1
    REVIEW = 2
    BACKGROUND = 3


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"


class CancelToken:
    """A flag that another thread sets; the engine looks at it before and between tokens."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the generation to end; safe from any thread, idempotent."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._event.is_set()


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen; temperature 0 is greedy. Filters at 0, 1 or 1.0 are off."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise ValueError(f"sampling parameters out of range: {self}")
        if self.top_k < 0 or self.repetition_penalty <= 0:
            raise ValueError(f"sampling parameters out of range: {self}")


@dataclass(frozen=True, slots=True)
class SegmentSpan:
    """Token range [start, end) of a prompt that came from one segment with content hash `key`."""

    start: int
    end: int
    key: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids and where the segments of the packed context lie in them.

    `healed` are bytes before the cursor that `ids` leave out, because they may be the beginning
    of a token: the generation begins with them but does not emit them. `present` are the ways in
    which the document goes on here already, as tokens: copying them is no news. `indented` says that
    the cursor stands behind all the blanks its line can want: what is emitted begins with none (but
    a server behind `remote.url` chooses its tokens itself).
    """

    ids: tuple[int, ...]
    spans: tuple[SegmentSpan, ...] = ()
    healed: bytes = b""
    present: tuple[tuple[int, ...], ...] = ()
    indented: bool = False


@dataclass(frozen=True, slots=True)
class StopRules:
    """When to end: token ids (never emitted), strings (cut off), or a number of finished lines.

    `max_lines` 1 stops at the first line break after a non-blank character; 0 means no limit.
    """

    ids: frozenset[int] = frozenset()
    strings: tuple[str, ...] = ()
    max_lines: int = 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation. `deadline` is in seconds of `time.monotonic()`.

    `max_tokens` 0 computes the prompt, for the cache, and ends.

    `json_schema`, where there is one, is what the text has to follow (`guidance.py`).

    `copy_tables` are the token statistics of the open file and the workspace that the n-gram
    mixture reads; without any (and with `mixture` off) the network answers alone.
    """

    prompt: Prompt
    max_tokens: int = 48
    sampling: SamplingParams = SamplingParams()
    stop: StopRules = StopRules()
    priority: Priority = Priority.COMPLETION
    cancel: CancelToken = field(default_factory=CancelToken)
    deadline: float | None = None
    copy_tables: tuple[SuffixTable, ...] = ()
    mixture: bool = True
    json_schema: str = ""


@dataclass(frozen=True, slots=True)
class TokenOut:
    """One emitted token. `logprob` is natural, of the distribution that was sampled from.

    `text` is the newly completed text (a token may end inside a UTF-8 sequence, then it is empty
    until the rest arrives). `finish` is set on the last one, whose `id` may be -1 when it carries
    no token (a stop token, a cancellation).
    """

    id: int
    text: str
    logprob: float
    source: Source
    entropy: float = 0.0
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class GenerationStats:
    """Accounting of the last generation, in tokens and milliseconds."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    ngram_tokens: int = 0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0

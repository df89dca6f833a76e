"""What a shared engine and its clients tell each other: msgpack maps over a local connection.

A client sends `open`, `table`, `drop`, `generate`, `cancel`, `logits`, `score`, `status` and `stop`; the
daemon answers with `opened`, `token`, `ended`, `logits`, `scores`, `told` or `failed`. Token ids and tables travel as
raw int32. A connection is a `multiprocessing` one, but only its `send_bytes` and `recv_bytes`: nothing
is ever unpickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

from qcoder.model.engine import EngineStats, ModelInfo
from qcoder.model.errors import CheckpointError, ModelError, PromptTooLongError
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    GenerationStats,
    Priority,
    Prompt,
    SamplingParams,
    SegmentSpan,
    StopRules,
    TokenOut,
)
from qcoder.model.scoring import TokenScores

PROTOCOL = 3
Frame = dict[str, Any]

ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (CheckpointError, PromptTooLongError, ModelError, ValueError)
}
"""What a daemon's failure is raised as; anything else is a `ModelError`."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model, loaded how: what two clients must agree on to share it."""

    path: str
    device: str = "auto"
    yarn_factor: float | None = None
    max_context: int | None = None
    threads: int = 0
    reuse: str = "balanced"
    kv_cache: str = "float16"


def packed(frame: Mapping[str, Any]) -> bytes:
    """A frame as bytes."""
    return bytes(msgpack.packb(frame))


def unpacked(data: bytes) -> Frame:
    """Bytes as a frame; raises ValueError for what is none."""
    try:
        frame = msgpack.unpackb(data)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ValueError(f"not a frame ({type(error).__name__})") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("op"), str):
        raise ValueError("a frame is a map with an 'op'")
    return frame


def request_frame(request: GenerationRequest, tables: list[int]) -> Frame:
    """A generation, to be numbered; `tables` are the numbers under which its copy tables were sent."""
    prompt, deadline = request.prompt, request.deadline
    return {
        "op": "generate",
        "ids": ids_bytes(prompt.ids),
        "spans": [[s.start, s.end, s.key] for s in prompt.spans],
        "healed": prompt.healed,
        "present": [list(way) for way in prompt.present],
        "indented": prompt.indented,
        "max_tokens": request.max_tokens,
        "sampling": asdict(request.sampling),
        "stop_ids": sorted(request.stop.ids),
        "stop_strings": list(request.stop.strings),
        "stop_lines": request.stop.max_lines,
        "priority": int(request.priority),
        # Clocks of two processes need not agree.
        "seconds": None if deadline is None else deadline - time.monotonic(),
        "tables": tables,
        "mixture": request.mixture,
        "json_schema": request.json_schema,
    }


def request_of(
    frame: Frame, tables: Mapping[int, SuffixTable], cancel: CancelToken
) -> GenerationRequest:
    """The generation of a frame; raises ValueError, KeyError or TypeError for a malformed one."""
    seconds = frame["seconds"]
    return GenerationRequest(
        Prompt(
            tuple(ids_of(frame["ids"]).tolist()),
            tuple(SegmentSpan(start, end, key) for start, end, key in frame["spans"]),
            frame["healed"],
            tuple(tuple(way) for way in frame["present"]),
            frame["indented"],
        ),
        max_tokens=frame["max_tokens"],
        sampling=SamplingParams(**frame["sampling"]),
        stop=StopRules(
            frozenset(frame["stop_ids"]), tuple(frame["stop_strings"]), frame["stop_lines"]
        ),
        priority=Priority(frame["priority"]),
        cancel=cancel,
        deadline=None if seconds is None else time.monotonic() + seconds,
        copy_tables=tuple(tables[number] for number in frame["tables"]),
        mixture=frame["mixture"],
        json_schema=frame.get("json_schema", ""),
    )


def token_frame(out: TokenOut, number: int) -> Frame:
    """One token; the last one's `finish` says why there are no more."""
    finish = out.finish and str(out.finish)
    token = [out.id, out.text, out.logprob, out.source, out.entropy, finish]
    return {"op": "token", "number": number, "token": token}


def token_of(frame: Frame) -> TokenOut:
    """The token of a frame."""
    token_id, text, logprob, source, entropy, finish = frame["token"]
    return TokenOut(
        token_id, text, logprob, source, entropy, None if finish is None else FinishReason(finish)
    )


def table_frame(table: SuffixTable, number: int) -> Frame:
    """A copy table under a number."""
    return {
        "op": "table",
        "number": number,
        "ids": ids_bytes(table.ids),
        "order": ids_bytes(table.order),
    }


def table_of(frame: Frame) -> SuffixTable:
    """The copy table of a frame."""
    return SuffixTable(ids_of(frame["ids"]), ids_of(frame["order"]))


def scores_frame(scores: TokenScores, number: int) -> Frame:
    """A piece of the scores of a text."""
    arrays = (scores.logprobs, scores.best, scores.best_logprobs)
    return {"op": "scores", "number": number, "arrays": [one.tobytes() for one in arrays]}


def scores_from(frame: Frame) -> TokenScores:
    """The scores of a frame."""
    logprobs, best, best_logprobs = frame["arrays"]
    return TokenScores(
        np.frombuffer(logprobs, dtype="<f4"), ids_of(best), np.frombuffer(best_logprobs, "<f4")
    )


def ids_bytes(ids: Any) -> bytes:
    """Token ids as little-endian int32."""
    return np.ascontiguousarray(ids, dtype="<i4").tobytes()


def ids_of(data: bytes) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The ids of such bytes."""
    return np.frombuffer(data, dtype="<i4")


def stats_of(facts: Frame) -> EngineStats:
    """Counters that came as plain data."""
    return EngineStats(**{**facts, "last": GenerationStats(**facts["last"])})


def info_of(facts: Frame) -> ModelInfo:
    """What a model is, that came as plain data."""
    return ModelInfo(**facts)


def failure(error: Exception, number: int = 0) -> Frame:
    """An error as a frame; its message is all that it tells."""
    return {"op": "failed", "number": number, "kind": type(error).__name__, "message": str(error)}


def raised(frame: Frame) -> Exception:
    """The error that a `failed` frame stands for."""
    make: Callable[[str], Exception] = ERRORS.get(frame["kind"], ModelError)
    return make(frame["message"])

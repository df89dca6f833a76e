"""Where a file surprises the model: -log p of its tokens, compared with the rest of the file.

Buggy lines are more surprising than others (Ray et al., arXiv 1506.01159), but most surprising
lines are fine. So only identifiers count, only far outliers, and only where the model is sure of
something else; what remains is a hint for a reader, never a verdict.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken
from qcoder.model.scoring import TokenScores, joined

WINDOW_TOKENS = 512
MAX_WINDOWS = 16
"""Windows looked at in one document: bounds the time of a large change."""

MIN_EXPECTED = 0.9
MAX_ACTUAL = 1e-4
MIN_DEVIATION = 2.5
MIN_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Surprise:
    """An identifier (0-based position, whole) and how the model expected it to begin."""

    line: int
    column: int
    text: str
    expected: str
    confidence: float


@dataclass(frozen=True, slots=True)
class _Scored:
    """One token: byte offset, bytes of it and of the best alternative, and their probabilities."""

    start: int
    actual: bytes
    expected: bytes
    actual_p: float
    expected_p: float
    nats: float


def surprising_spans(
    text: str,
    path: str,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken | None = None,
) -> list[Surprise]:
    """Outliers on the changed lines (all lines for None), in file order."""
    data = text.encode("utf-8", "replace")
    scored = score_tokens(data, path, engine, changed, cancel)
    if len(scored) < MIN_TOKENS:
        return []
    nats = [s.nats for s in scored]
    mean, deviation = statistics.fmean(nats), max(statistics.pstdev(nats), 1e-6)
    line_starts = starts_of_lines(data)
    found = []
    for s in scored:
        line = bisect_right(line_starts, s.start) - 1
        if changed is not None and line not in changed:
            continue
        unusual = (s.nats - mean) / deviation >= MIN_DEVIATION
        if unusual and s.expected_p >= MIN_EXPECTED and s.actual_p <= MAX_ACTUAL:
            surprise = identifier_at(data, s, line, line_starts[line])
            if surprise is not None:
                found.append(surprise)
    return found


def identifier_at(data: bytes, token: _Scored, line: int, line_start: int) -> Surprise | None:
    """The identifier that a token begins; None when it begins none, or the blanks differ."""
    blanks = len(token.actual) - len(token.actual.lstrip())
    if token.actual[:blanks] != token.expected[:blanks] or b"\n" in token.actual[:blanks]:
        return None
    start = token.start + blanks
    if start > 0 and chr(data[start - 1]).isidentifier() and not blanks:
        return None
    end = start
    while end < len(data) and (data[end : end + 1].isalnum() or data[end] in b"_"):
        end += 1
    name = data[start:end].decode("ascii", "replace")
    expected = token.expected[blanks:].decode("utf-8", "replace")
    if not name.isidentifier() or not expected.isidentifier() or name.startswith(expected):
        return None
    column = len(data[line_start:start].decode("utf-8", "replace"))
    return Surprise(line, column, name, expected, token.expected_p)


def starts_of_lines(data: bytes) -> list[int]:
    """Byte offset of every line."""
    starts, at = [0], data.find(b"\n")
    while at >= 0:
        starts.append(at + 1)
        at = data.find(b"\n", at + 1)
    return starts


def score_tokens(
    data: bytes,
    path: str,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken | None,
) -> list[_Scored]:
    """Probabilities of the tokens in the windows that hold changed lines.

    Windows overlap by half: every token but the file's first ones has half a window before it.
    """
    tokenizer = engine.tokenizer
    header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(path + "\n")]
    ids = tokenizer.encode(data.decode("utf-8"))
    ends, at = [], 0
    for token in ids:
        at += len(tokenizer.token_bytes(token))
        ends.append(at)
    step = max(1, min(WINDOW_TOKENS, engine.info.max_context - len(header) - 1) // 2)
    line_starts = starts_of_lines(data)
    scored: list[_Scored] = []
    windows = 0
    for begin in range(0, len(ids), step):
        if (cancel is not None and cancel.cancelled) or windows >= MAX_WINDOWS:
            return scored
        end = min(begin + step, len(ids))
        first = bisect_right(line_starts, ends[begin] - 1) - 1
        last = bisect_right(line_starts, ends[end - 1] - 1) - 1
        if changed is not None and changed.isdisjoint(range(first, last + 1)):
            continue
        windows += 1
        context = max(0, begin - step)
        pieces = engine.score([*header, *ids[context:end]], len(header) + begin - context)
        scores = joined(until_cancelled(pieces, cancel))
        found = zip(
            range(begin, end),
            scores.logprobs.tolist(),
            scores.best.tolist(),
            scores.best_logprobs.tolist(),
            strict=False,  # fewer when it was cancelled
        )
        for i, logprob, best, best_logprob in found:
            scored.append(
                _Scored(
                    start=ends[i] - len(tokenizer.token_bytes(ids[i])),
                    actual=tokenizer.token_bytes(ids[i]),
                    expected=tokenizer.token_bytes(best),
                    actual_p=math.exp(logprob),
                    expected_p=math.exp(best_logprob),
                    nats=-logprob,
                )
            )
    return scored


def until_cancelled(
    pieces: Iterator[TokenScores], cancel: CancelToken | None
) -> Iterator[TokenScores]:
    """The pieces up to the first look at a cancelled token."""
    for piece in pieces:
        yield piece
        if cancel is not None and cancel.cancelled:
            return

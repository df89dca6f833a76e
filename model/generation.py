"""One generation as a coroutine: it asks for forward passes and gives tokens.

    work = generate(...)
    item = next(work)              a `Pass`: compute it, `work.send(logits)`; a `TokenOut`: `next(work)`

A pass that was interrupted, or not begun since the generation is cancelled, is answered with None.
So whoever drives it decides what is computed together: `LocalEngine` one generation at a time, the
scheduler many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from qcoder.model.decoder import Pass
from qcoder.model.guidance import Guide, guide_for
from qcoder.model.healing import Healing, PrefixIndex
from qcoder.model.line_ends import LineEnds
from qcoder.model.mixture import BlendResult, CopyState, Mixture, MixtureState
from qcoder.model.pace import MOST_TOKENS, Pace
from qcoder.model.request import (
    FinishReason,
    GenerationRequest,
    GenerationStats,
    Priority,
    TokenOut,
)
from qcoder.model.sampler import sample
from qcoder.model.segment_reuse import Stretch
from qcoder.model.speculation import Experience, Stepper
from qcoder.model.stop import StopFilter, interrupted
from qcoder.model.tokenizer import StreamDecoder, Tokenizer

PREFILL_CHUNK = MOST_TOKENS
"""The most tokens a forward pass during prefill: the step between two looks at the cancel token."""

Work: TypeAlias = "Generator[Pass | TokenOut, Tensor | None, None]"


@dataclass(slots=True)
class Progress:
    """Accounting of a generation that runs; seconds are the engine's own, not its caller's."""

    prompt_tokens: int
    reused_tokens: int = 0
    generated_tokens: int = 0
    ngram_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def took(self, item: Pass | None, seconds: float) -> None:
        """A pass of the prefill, or anything else."""
        if item is not None and item.prefill:
            self.prefill_s += seconds
        else:
            self.decode_s += seconds

    def count(self, out: TokenOut) -> None:
        """A token was given."""
        self.generated_tokens += out.id >= 0
        self.ngram_tokens += out.id >= 0 and out.source == "ngram"

    def finished(self) -> GenerationStats:
        """What an engine reports."""
        return GenerationStats(
            self.prompt_tokens,
            self.reused_tokens,
            self.generated_tokens,
            self.ngram_tokens,
            1000 * self.prefill_s,
            1000 * self.decode_s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What all generations of an engine share. `drafts`: whether passes over several tokens pay."""

    tokenizer: Tokenizer
    prefixes: Callable[[], PrefixIndex]
    mixture: Mixture | None
    experience: Experience
    pace: Pace
    drafts: bool


def generate(
    parts: Parts,
    request: GenerationRequest,
    sequence: Any,
    moved: Sequence[Stretch],
    kept: Sequence[int],
    room: int,
) -> Work:
    """Prefill behind what `sequence` holds, then tokens; the last one carries `finish`.

    moved: what is attached on the way; kept: where a state is kept; room: the most tokens.
    """
    urgent = request.priority <= Priority.COMPLETION
    chunk = parts.pace.urgent_tokens if urgent else parts.pace.tokens
    logits = yield from _prefill(request, sequence, moved, kept, chunk)
    if isinstance(logits, FinishReason) or room <= 0:
        ended = logits if isinstance(logits, FinishReason) else FinishReason.LENGTH
        yield TokenOut(-1, "", 0.0, "model", finish=ended)
        return
    yield from _decode(parts, request, sequence, logits, room)


def _prefill(
    request: GenerationRequest,
    sequence: Any,
    moved: Sequence[Stretch],
    kept: Sequence[int],
    chunk: int,
) -> Generator[Pass, Tensor | None, Tensor | FinishReason]:
    """The logits [vocab] behind the prompt, or why it ended early."""
    rows: Tensor | None = None
    ids = request.prompt.ids

    def unwanted() -> bool:
        return interrupted(request) is not None

    for end, between in passes(len(sequence), len(ids), moved, kept, chunk):
        ended = interrupted(request)
        if ended is not None:
            return ended
        if end > len(sequence):
            keep = 1 if end == len(ids) else 0
            part = to_compute(ids, len(sequence), end, between)
            rows = yield Pass(part, sequence, keep, prefill=True, stop=unwanted, moved=between)
            if rows is None:
                return interrupted(request) or FinishReason.CANCELLED
        if end in kept:
            sequence.snapshot()
    assert rows is not None, "the last token is always computed"
    return rows[-1]


def passes(
    start: int,
    end: int,
    moved: Sequence[Stretch] = (),
    kept: Sequence[int] = (),
    chunk: int = PREFILL_CHUNK,
) -> Iterator[tuple[int, list[Stretch]]]:
    """Where the forward passes from `start` to `end` end, and what is attached on the way in each.

    A pass computes `chunk` tokens at most, and ends at each of `kept`.
    """
    at, room = start, chunk
    between: list[Stretch] = []
    for stretch in (*moved, None):
        stop = end if stretch is None else stretch.start
        for cut in sorted({*range(at + room, stop, chunk), *(k for k in kept if at < k < stop)}):
            yield cut, between
            at, room, between = cut, chunk, []
        if stretch is not None:
            room -= stop - at
            at = stretch.end
            between = [*between, stretch]
    yield end, between


def to_compute(ids: Sequence[int], start: int, end: int, moved: Sequence[Stretch]) -> list[int]:
    """The ids from `start` to `end` that do not stand in a stretch."""
    edges = [start, *(edge for part in moved for edge in (part.start, part.end)), end]
    return [token for at in range(0, len(edges), 2) for token in ids[edges[at] : edges[at + 1]]]


def _decode(
    parts: Parts, request: GenerationRequest, sequence: Any, logits: Tensor | None, room: int
) -> Work:
    """Tokens until a rule ends it; `room` > 0 is the most there may be."""
    rng = np.random.default_rng(request.sampling.seed)
    prompt, tables, tokenizer = request.prompt, request.copy_tables, parts.tokenizer
    state: MixtureState | None = None
    copies: CopyState | None = None
    if parts.mixture is not None and request.mixture:
        copies = state = parts.mixture.start(prompt.ids, tables, prompt.present)
    elif parts.drafts:
        copies = CopyState(prompt.ids, tables, prompt.present)
    decoder, stop = StreamDecoder(tokenizer), StopFilter(request.stop)
    healing = Healing(parts.prefixes(), prompt.healed, prompt.indented)
    ends = request.stop.ids | tokenizer.eos_ids
    seen: list[int] = []
    draft = copies.draft if copies and parts.drafts else None
    line_ends = tokenizer.line_ends if "\n" in request.stop.strings else None
    guide = guide_for(tokenizer, request.json_schema) if request.json_schema else None
    steps = Stepper(sequence, parts.experience, draft)
    while True:
        ended = interrupted(request)
        if ended is not None or logits is None:
            ended = ended or FinishReason.CANCELLED
            yield TokenOut(-1, stop.flush(), 0.0, "model", finish=ended)
            return
        logprobs = torch.log_softmax(logits, dim=-1).numpy()
        blended = state.blend(logprobs) if state else BlendResult(logprobs, None)
        blended = _constrained(blended, healing, guide, line_ends)
        token = sample(blended.logprobs, request.sampling, seen, rng)
        if token in ends:
            text = stop.flush()
            yield replace(_token(token, blended, text), id=-1, finish=FinishReason.STOP)
            return
        seen.append(token)
        if guide is not None:
            guide.push(token)
        new = healing.take(tokenizer.token_bytes(token))
        out = _token(token, blended, stop.push(decoder.push_bytes(new)))
        if stop.stopped:
            yield replace(out, finish=FinishReason.STOP)
            return
        if len(seen) >= room:
            yield replace(out, text=out.text + stop.flush(), finish=FinishReason.LENGTH)
            return
        yield out
        if copies:
            copies.push(token)
        logits = yield from steps.after(token, room - len(seen))


def _constrained(
    blended: BlendResult, healing: Healing, guide: Guide | None, line_ends: LineEnds | None
) -> BlendResult:
    """What may come of a distribution; with `line_ends`, tokens that end the line alike are one."""
    logprobs = blended.logprobs
    if healing.active:
        logprobs = healing.constrain(logprobs)
    if guide is not None:
        logprobs = guide.constrain(logprobs)
    if line_ends is not None:
        logprobs = line_ends.merged(logprobs)
    return BlendResult(logprobs, blended.ngram_share)


def _token(token: int, blended: BlendResult, text: str) -> TokenOut:
    """One emitted token of a distribution; its source is whoever gave more of its probability."""
    logprobs, share = blended.logprobs, blended.ngram_share
    copied = share is not None and bool(share[token] > 0.5)
    entropy = -float(np.dot(np.exp(logprobs), logprobs))
    return TokenOut(
        token, text, float(logprobs[token]), "ngram" if copied else "model", max(entropy, 0.0)
    )


def drive(
    work: Work, compute: Callable[[Pass], Tensor | None], progress: Progress
) -> Generator[TokenOut, None, None]:
    """Run one generation by itself; `compute` gives the logits of a pass."""
    rows: Tensor | None = None
    while True:
        began = time.perf_counter()
        try:
            item = work.send(rows)
        except StopIteration:
            return
        if isinstance(item, Pass):
            rows = compute(item)
            progress.took(item, time.perf_counter() - began)
            continue
        rows = None
        progress.took(None, time.perf_counter() - began)
        progress.count(item)
        yield item

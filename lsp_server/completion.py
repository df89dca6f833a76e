"""Code completion: from a snapshot and a cursor to a suggestion, or to nothing.

`complete` packs, prompts, generates and cleans. It says nothing rather than something doubtful:
where the cursor stands inside a line's text, in refused files, or when the model is not sure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from qcoder.context.pack import WINDOW_SLACK, pack
from qcoder.context.repack import repack
from qcoder.context.segments import PackedContext
from qcoder.lsp_server.around import Around
from qcoder.lsp_server.attempt import Attempt, Reason
from qcoder.lsp_server.completion_cache import place_at
from qcoder.lsp_server.completion_shape import Watch, block_end, either, wants_lines
from qcoder.lsp_server.novel_names import doubted, novel_names
from qcoder.lsp_server.postprocess import Cleaned, clean, may_complete_here
from qcoder.lsp_server.prompts import SPECIAL_TOKENS, fim_prompt
from qcoder.lsp_server.settings import DEFAULT_BUDGET
from qcoder.lsp_server.snapshot import Snapshot, Suggestion, TextEdit, is_refused
from qcoder.lsp_server.writing import MIN_BEGINNING, Generated, collect
from qcoder.model.confidence import Confidence
from qcoder.model.engine import Engine
from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    GenerationStats,
    Priority,
    Prompt,
    SamplingParams,
    StopRules,
)
from qcoder.model.temperature import temperature_for

LARGE_BUDGET = 4096
INVOKED_CONFIDENCE = 0.05
MAX_ALTERNATIVES = 2
MAX_TRIES = 5
"""Generations for the alternatives: some say the same."""

ALTERNATIVES_S = 1.0
"""How long whoever asks for alternatives waits for them, once the first suggestion is there."""

SURE_WHOLE = 0.6
"""Of a line that is less sure, the sure beginning is shown if there is one: it is right more often
than the line, and is there for many lines of which otherwise nothing would be shown."""

MAX_BEGINNINGS = 3
PART = "part"
"""How a generation ended of which only the beginning is shown."""

NOTHING = Cleaned("")

WARMER = 0.15
"""What each try's temperature adds to the one before."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A completion before the engine has seen it: what was packed, and how much is wanted."""

    around: Around
    packed: PackedContext
    prompt: Prompt
    multiline: bool
    limit_tokens: int
    line: int
    column: int


def complete(
    snapshot: Snapshot,
    line: int,
    column: int,
    engine: Engine,
    *,
    invoked: bool = False,
    cancel: CancelToken | None = None,
    deadline: float | None = None,
    max_tokens: int | None = None,
    prepared: Prepared | None = None,
    watch: Watch | None = None,
) -> Suggestion | None:
    """The suggestion at a 0-based position, or None when there is nothing worth showing.

    `prepared` is what `prepare` gave for the same place before. `watch` sees the raw text as it
    grows; when it returns True the generation ends there.
    """
    cancel = cancel or CancelToken()
    began = time.perf_counter()
    ready = prepared or prepare(snapshot, line, column, engine, invoked, max_tokens)
    if ready is None:
        return None
    pack_ms = 1000 * (time.perf_counter() - began)
    return attempt(
        ready, snapshot, engine, cancel, invoked=invoked, deadline=deadline, watch=watch,
        pack_ms=pack_ms,
    ).suggestion  # fmt: skip


def attempt(
    ready: Prepared,
    snapshot: Snapshot,
    engine: Engine,
    cancel: CancelToken,
    *,
    invoked: bool = False,
    deadline: float | None = None,
    watch: Watch | None = None,
    pack_ms: float = 0.0,
    sampling: SamplingParams | None = None,
    priority: Priority = Priority.COMPLETION,
) -> Attempt:
    """Generate behind a prepared prompt and clean what comes; greedy without `sampling`."""
    began = time.perf_counter()
    settings, limit = snapshot.settings.completion, ready.limit_tokens
    sampling = sampling or SamplingParams(temperature=temperature_for("completion"))
    stop = StopRules(engine.tokenizer.eos_ids, () if ready.multiline else ("\n",))
    request = GenerationRequest(
        ready.prompt, limit, sampling, stop, priority, cancel, deadline, snapshot.copy_tables
    )
    threshold = INVOKED_CONFIDENCE if invoked else settings.min_confidence
    # Calibrated on lines; of longer texts it knows nothing.
    calibrated = Confidence() if ready.multiline else Confidence.from_manifest(engine.info.manifest)
    over = either(watch, block_end(ready.around) if ready.multiline else None)
    generated = collect(engine, request, threshold, over, calibrated)
    generated_at = time.perf_counter()
    part = None
    if settings.partial and not (invoked or ready.multiline):
        part = sure_part(generated, ready, threshold)
    min_chars = 1 if invoked else settings.min_chars
    verdict = part or judge(generated, ready, threshold, min_chars)
    done = time.perf_counter()
    last = engine.stats().last
    times = {
        "index": 0.0,
        "pack": pack_ms,
        "prefill": last.prefill_ms,
        "decode": last.decode_ms,
        "post": 1000 * (done - generated_at),
        "total": pack_ms + 1000 * (done - began),
    }
    came = came_of(verdict, ready, last, threshold, sampling.temperature, times)
    if verdict.reason != "shown":
        return came
    return replace(came, suggestion=suggestion_of(came, verdict.cleaned, ready))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a generation is worth showing, the text that then is, and its unknown names."""

    generated: Generated
    reason: Reason
    cleaned: Cleaned = NOTHING
    novel: tuple[str, ...] = ()


def judge(generated: Generated, ready: Prepared, threshold: float, min_chars: int) -> Verdict:
    """Clean what was generated, and say whether that may be shown."""
    if generated.finish == FinishReason.CANCELLED:
        return Verdict(generated, "cancelled")
    if not generated.text.strip() and generated.finish == FinishReason.STOP:
        return Verdict(generated, "empty")
    if generated.confidence < threshold:
        return Verdict(generated, "unsure")
    cleaned = clean(generated.text, ready.around)
    packed = (item.segment.text for item in ready.packed.segments)
    novel = novel_names(cleaned.text, ready.around, packed)
    reason: Reason = "shown"
    if not cleaned.text.strip():
        reason = "filtered" if cleaned.filters else "empty"
    elif len(cleaned.text.strip()) < min_chars:
        reason = "short"
    elif doubted(generated.confidence, novel) < threshold:
        reason = "unsure"
    return Verdict(generated, reason, cleaned, novel)


def sure_part(generated: Generated, ready: Prepared, threshold: float) -> Verdict | None:
    """Of a line that is not sure the sure beginning; None when it has none, or is sure as a whole."""
    if generated.confidence >= SURE_WHOLE or generated.finish == FinishReason.CANCELLED:
        return None
    for text, confidence in generated.beginnings[:MAX_BEGINNINGS]:
        part = replace(generated, text=text, confidence=confidence, finish=PART)
        verdict = judge(part, ready, threshold, MIN_BEGINNING)
        if verdict.reason == "shown":
            return verdict
    return None


def came_of(
    verdict: Verdict,
    ready: Prepared,
    last: GenerationStats,
    threshold: float,
    temperature: float,
    timings_ms: dict[str, float],
) -> Attempt:
    """What came of a generation, with its accounting."""
    generated = verdict.generated
    ended_at_once = not generated.text.strip() and generated.finish == FinishReason.STOP
    return Attempt(
        verdict.reason,
        multiline=ready.multiline,
        tokens=generated.tokens,
        copied_tokens=generated.copied,
        prompt_tokens=last.prompt_tokens,
        reused_tokens=last.reused_tokens,
        confidence=doubted(generated.confidence, verdict.novel),
        threshold=threshold,
        unknown_names=verdict.novel,
        temperature=temperature,
        entropy_nats=generated.entropy_nats,
        finish=generated.finish,
        filters=verdict.cleaned.filters,
        line_is_over=ended_at_once and not ready.multiline,
        context=ready.packed,
        timings_ms=timings_ms,
    )


def suggestion_of(came: Attempt, cleaned: Cleaned, ready: Prepared) -> Suggestion:
    """What is shown of a successful attempt."""
    return Suggestion(
        text=cleaned.text,
        edit=edit_of(cleaned, ready.line, ready.column),
        confidence=came.confidence,
        tokens=came.tokens,
        finish_reason=came.finish,
        prompt_tokens=came.prompt_tokens,
        reused_tokens=came.reused_tokens,
        temperature=came.temperature,
        sources={"model": came.tokens - came.copied_tokens, "ngram": came.copied_tokens},
        context=ready.packed,
        timings_ms=came.timings_ms,
        errors=cleaned.errors,
    )


def alternatives(
    first: Attempt,
    ready: Prepared,
    snapshot: Snapshot,
    engine: Engine,
    cancel: CancelToken,
    rewritten: float | None = None,
) -> Iterator[Suggestion]:
    """Further suggestions for who asked explicitly, each distinct from `first` and the others.

    Each try is warmer than the one before, from where the first token's entropy and `rewritten`,
    the share of what the user accepted and then changed, say to begin.
    """
    if first.suggestion is None:
        return
    seen = {first.suggestion.text}
    deadline = time.monotonic() + ALTERNATIVES_S
    base = temperature_for("alternative", first.entropy_nats, rewritten)
    for number in range(MAX_TRIES):
        if len(seen) > MAX_ALTERNATIVES or cancel.cancelled or time.monotonic() >= deadline:
            return
        sampling = SamplingParams(
            temperature=min(1.0, base + WARMER * number), top_p=0.95, seed=number + 1
        )
        other = attempt(
            ready, snapshot, engine, cancel, invoked=True, deadline=deadline, sampling=sampling
        )
        found = other.suggestion
        # One that the deadline cut may end anywhere.
        if found and found.text not in seen and other.finish != FinishReason.DEADLINE:
            seen.add(found.text)
            yield found


def prepare(
    snapshot: Snapshot,
    line: int,
    column: int,
    engine: Engine,
    invoked: bool = False,
    max_tokens: int | None = None,
    last: Prepared | None = None,
    earlier: Around | None = None,
) -> Prepared | None:
    """Everything before the first token, or None where there is nothing to complete.

    `last` is what was prepared for a place nearby a moment ago: in the same line its context stays.
    `earlier` is the document as it was then or at any time; what is known of it serves again.
    """
    around = around_cursor(snapshot, line, column, earlier)
    if around is None or obstacle(snapshot, around, invoked) is not None:
        return None
    settings = snapshot.settings.completion
    # A small model is good for the line; longer texts are worth it only when asked for.
    small = engine.info.is_default and not invoked
    multiline = wants_lines(around, settings.multiline, invoked, small)
    limit = max_tokens or (settings.max_tokens_multiline if multiline else settings.max_tokens)
    budget, count = budget_tokens(engine, settings.budget_tokens, limit), engine.tokenizer.count
    packed = None
    if last is not None and last.packed.budget_tokens == budget:
        document = snapshot.document
        packed = repack(
            last.packed, last.around.prefix, document, line, column, count, WINDOW_SLACK
        )
    if packed is None:
        packed = pack(
            snapshot.index,
            snapshot.document,
            snapshot.path,
            line,
            column,
            budget,
            count,
            snapshot.recent,
        )
    repository = snapshot.root.name if snapshot.root else ""
    prompt = fim_prompt(packed, engine.tokenizer, engine.info.fim_order, repository)
    return Prepared(around, packed, prompt, multiline, limit, line, column)


def prefill(prepared: Prepared, engine: Engine, cancel: CancelToken) -> None:
    """Let the engine compute a prompt, so that the request for it begins with its first token."""
    request = GenerationRequest(
        prepared.prompt, max_tokens=0, priority=Priority.BACKGROUND, cancel=cancel
    )
    for _ in engine.generate(request):
        pass
    if not cancel.cancelled:
        engine.maintain()


def why_not(snapshot: Snapshot, line: int, column: int, invoked: bool) -> Attempt:
    """What `prepare` gave None for."""
    around = around_cursor(snapshot, line, column)
    reason = obstacle(snapshot, around, invoked) if around is not None else "outside"
    return Attempt(reason or "cancelled")


def obstacle(snapshot: Snapshot, around: Around, invoked: bool) -> Reason | None:
    """What forbids a completion at a place, if anything."""
    if not (invoked or may_complete_here(around)):
        return "mid-line"
    return "refused" if is_refused(snapshot) else None


def around_cursor(
    snapshot: Snapshot, line: int, column: int, earlier: Around | None = None
) -> Around | None:
    """The document split at the cursor; None when the position is not in it.

    `earlier` is what this gave for the document a moment ago; what is known of it serves again.
    """
    text, language = snapshot.document.text, snapshot.document.language
    place = place_at(text, line, column)
    if place is None:
        return None
    return Around.of(place.head, place.tail, language, earlier)


def budget_tokens(engine: Engine, wanted: int, max_tokens: int) -> int:
    """Prompt tokens that fit beside the answer; `wanted` 0 leaves the choice to us."""
    room = engine.info.max_context - max_tokens - SPECIAL_TOKENS
    usual = DEFAULT_BUDGET if engine.info.is_default else LARGE_BUDGET
    return max(64, min(wanted or usual, room))


def edit_of(cleaned: Cleaned, line: int, column: int) -> TextEdit:
    """The insertion at the cursor, over the characters that it replaces."""
    return TextEdit(line, column, line, column + cleaned.replaced, cleaned.text)

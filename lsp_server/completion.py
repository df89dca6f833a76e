"""Code completion: from a snapshot and a cursor to a suggestion, or to nothing.

`complete` packs, prompts, generates and cleans. It says nothing rather than something doubtful:
where the cursor stands inside a line's text, in refused files, or when the model is not sure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from qcoder.context.pack import WINDOW_SLACK, pack
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.repack import repack
from qcoder.context.segments import PackedContext
from qcoder.lsp_server.postprocess import (
    MAX_LINES,
    Around,
    Cleaned,
    clean,
    indent_of,
    may_complete_here,
)
from qcoder.lsp_server.prompts import SPECIAL_TOKENS, fim_prompt
from qcoder.lsp_server.snapshot import Snapshot, Suggestion, TextEdit
from qcoder.model.confidence import Confidence
from qcoder.model.engine import Engine
from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    Priority,
    Prompt,
    SamplingParams,
    StopRules,
    TokenOut,
)
from qcoder.model.temperature import temperature_for

BLOCK_OPENER = re.compile(r"[:{(\[]\s*$|\b(do|then|begin|=>)\s*$")
DEFAULT_BUDGET = 640
"""Prompt tokens for the default model when nothing is set: what prefills within a keystroke."""

LARGE_BUDGET = 4096
INVOKED_CONFIDENCE = 0.05
ABANDON_AFTER_TOKENS = 4
ABANDONED = "abandoned"
UNCALIBRATED = Confidence()


@dataclass(frozen=True, slots=True)
class Generated:
    """Raw text of a generation with its accounting."""

    text: str
    tokens: int
    copied: int
    confidence: float
    finish: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A completion before the engine has seen it: what was packed, and how much is wanted."""

    around: Around
    packed: PackedContext
    prompt: Prompt
    multiline: bool
    limit_tokens: int


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
    watch: Callable[[str], bool] | None = None,
) -> Suggestion | None:
    """The suggestion at a 0-based position, or None when there is nothing worth showing.

    `prepared` is what `prepare` gave for the same place before. `watch` sees the raw text as it
    grows; when it returns True the generation ends there.
    """
    began = time.perf_counter()
    ready = prepared or prepare(snapshot, line, column, engine, invoked, max_tokens)
    if ready is None:
        return None
    packed_at = time.perf_counter()
    around, settings = ready.around, snapshot.settings.completion
    temperature = temperature_for("completion")
    request = GenerationRequest(
        prompt=ready.prompt,
        max_tokens=ready.limit_tokens,
        sampling=SamplingParams(temperature=temperature),
        stop=StopRules(engine.tokenizer.eos_ids, () if ready.multiline else ("\n",)),
        priority=Priority.COMPLETION,
        cancel=cancel or CancelToken(),
        deadline=deadline,
        copy_tables=snapshot.copy_tables,
    )
    threshold = INVOKED_CONFIDENCE if invoked else settings.min_confidence
    # Calibrated on lines; of longer texts it knows nothing.
    calibrated = Confidence() if ready.multiline else Confidence.from_manifest(engine.info.manifest)
    over = either(watch, block_end(around) if ready.multiline else None)
    generated = collect(engine, request, threshold, over, calibrated)
    generated_at = time.perf_counter()
    if generated.finish == FinishReason.CANCELLED or generated.confidence < threshold:
        return None
    cleaned = clean(generated.text, around)
    if len(cleaned.text.strip()) < (1 if invoked else settings.min_chars):
        return None
    last = engine.stats().last
    done = time.perf_counter()
    return Suggestion(
        text=cleaned.text,
        edit=edit_of(cleaned, line, column),
        confidence=generated.confidence,
        tokens=generated.tokens,
        finish_reason=generated.finish,
        prompt_tokens=last.prompt_tokens,
        reused_tokens=last.reused_tokens,
        temperature=temperature,
        sources={"model": generated.tokens - generated.copied, "ngram": generated.copied},
        context=ready.packed,
        timings_ms={
            "index": 0.0,
            "pack": 1000 * (packed_at - began),
            "prefill": last.prefill_ms,
            "decode": last.decode_ms,
            "post": 1000 * (done - generated_at),
            "total": 1000 * (done - began),
        },
        errors=cleaned.errors,
    )


def prepare(
    snapshot: Snapshot,
    line: int,
    column: int,
    engine: Engine,
    invoked: bool = False,
    max_tokens: int | None = None,
    last: Prepared | None = None,
) -> Prepared | None:
    """Everything before the first token, or None where there is nothing to complete.

    `last` is what was prepared for a place nearby a moment ago: in the same line its context stays.
    """
    if is_refused(snapshot):
        return None
    around = around_cursor(snapshot, line, column)
    if around is None or not (invoked or may_complete_here(around)):
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
    return Prepared(around, packed, prompt, multiline, limit)


def prefill(prepared: Prepared, engine: Engine, cancel: CancelToken) -> None:
    """Let the engine compute a prompt, so that the request for it begins with its first token."""
    request = GenerationRequest(
        prepared.prompt, max_tokens=0, priority=Priority.BACKGROUND, cancel=cancel
    )
    for _ in engine.generate(request):
        pass


def either(
    first: Callable[[str], bool] | None, second: Callable[[str], bool] | None
) -> Callable[[str], bool] | None:
    """True for a text where one of those that are there is."""
    if first is None or second is None:
        return first or second
    return lambda text: first(text) or second(text)


def is_refused(snapshot: Snapshot) -> bool:
    """Whether the privacy gate keeps the open document from the model, by name or content."""
    exclude = exclude_spec(snapshot.settings.privacy.exclude)
    data = snapshot.document.text.encode("utf-8", "replace")
    return refused(snapshot.path, data, exclude) is not None


def around_cursor(snapshot: Snapshot, line: int, column: int) -> Around | None:
    """The document split at the cursor; None when the position is not in it."""
    lines = snapshot.document.text.split("\n")
    if not 0 <= line < len(lines) or not 0 <= column <= len(lines[line]):
        return None
    at = sum(len(text) + 1 for text in lines[:line]) + column
    text = snapshot.document.text
    return Around(text[:at], text[at:], snapshot.document.language)


def budget_tokens(engine: Engine, wanted: int, max_tokens: int) -> int:
    """Prompt tokens that fit beside the answer; `wanted` 0 leaves the choice to us."""
    room = engine.info.max_context - max_tokens - SPECIAL_TOKENS
    usual = DEFAULT_BUDGET if engine.info.is_default else LARGE_BUDGET
    return max(64, min(wanted or usual, room))


def wants_lines(around: Around, policy: str, invoked: bool, small: bool = False) -> bool:
    """Several lines only in an empty block, or on a blank line of one when asked for."""
    if policy != "auto":
        return policy == "always"
    if small or around.line_suffix.strip() or in_prose(around):
        return False
    if around.line_prefix.strip():
        return invoked and BLOCK_OPENER.search(around.line_prefix) is not None
    above = [text for text in around.prefix.split("\n")[:-1] if text.strip()][-1:]
    if not above:
        return False
    return invoked or (
        BLOCK_OPENER.search(above[0]) is not None and is_block_empty(around, above[0])
    )


def is_block_empty(around: Around, opener: str) -> bool:
    """Whether nothing below the cursor is in the block that `opener` opens."""
    below = next((text for text in around.next_lines if text.strip()), "")
    return indent_of(below) <= indent_of(opener)


def in_prose(around: Around) -> bool:
    """Whether the cursor stands in a comment or a string."""
    if around.tree is None:
        return False
    at = len(around.prefix.encode("utf-8", "surrogatepass"))
    node = around.tree.root_node.descendant_for_byte_range(max(0, at - 1), at)
    while node is not None:
        if "comment" in node.type or "string" in node.type:
            # Behind the closing quote the string is over.
            return node.start_byte < at and (at < node.end_byte or "comment" in node.type)
        node = node.parent
    return False


def block_end(around: Around) -> Callable[[str], bool]:
    """Says of the text so far whether the block is over: a line outside of it, or enough lines."""
    typed = around.line_prefix
    base = indent_of(typed) if typed.strip() else len(typed)

    def over(text: str) -> bool:
        lines = text.split("\n")
        if len(lines) > MAX_LINES:
            return True
        inner = base + (0 if typed.strip() else indent_of(lines[0]))
        # The last line is still being written: its indent counts once it has a character.
        return any(x.strip() and indent_of(x) < inner for x in lines[1:])

    return over


def collect(
    engine: Engine,
    request: GenerationRequest,
    threshold: float = 0.0,
    over: Callable[[str], bool] | None = None,
    confidence: Confidence = UNCALIBRATED,
) -> Generated:
    """Run a generation to its end, or until it is hopeless or long enough.

    The confidence in a text that began badly rarely recovers, so decoding on below
    `threshold` would only cost the time of the next keystroke. `over` says of the text so far
    whether it is enough.
    """
    outs: list[TokenOut] = []
    scored: list[float] = []
    text = ""
    finish: str = FinishReason.STOP
    for out in engine.generate(request):
        outs.append(out)
        text += out.text
        # The stop token's own probability counts: it says whether the model meant to end here.
        if out.id >= 0 or out.finish == FinishReason.STOP:
            scored.append(out.logprob)
        if out.finish is not None:
            finish = out.finish
        elif len(scored) >= ABANDON_AFTER_TOKENS and confidence.of(scored) < threshold:
            finish = ABANDONED
            break
        elif over is not None and over(text):
            break
    real = [out for out in outs if out.id >= 0]
    return Generated(
        text=text,
        tokens=len(real),
        copied=sum(out.source == "ngram" for out in real),
        confidence=confidence.of(scored),
        finish=str(finish),
    )


def edit_of(cleaned: Cleaned, line: int, column: int) -> TextEdit:
    """The insertion at the cursor, over the characters that it replaces."""
    return TextEdit(line, column, line, column + cleaned.replaced, cleaned.text)


def context_rows(packed: PackedContext) -> list[dict[str, object]]:
    """Segments as the command line's JSON shows them (1-based lines)."""
    return [
        {
            "path": item.segment.path,
            "start_line": item.segment.span.start_line + 1,
            "end_line": item.segment.span.end_line,
            "tokens": item.tokens,
            "reason": item.reason,
        }
        for item in packed.segments
    ]

"""One try at a completion: what came of it, why, and what it cost.

`qcoder/explainLast` shows the latest one to the user who asks "why this, why nothing?".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from qcoder.context.segments import PackedContext
from qcoder.lsp_server.snapshot import Suggestion

Reason = Literal[
    "shown", "refused", "outside", "mid-line", "cancelled", "unsure", "empty", "filtered", "short"
]

SENTENCES: dict[Reason, str] = {
    "shown": "a suggestion was made",
    "refused": "the privacy gate keeps this document from the model; `qcoder doctor --why` says more",
    "outside": "the position is not in the document",
    "mid-line": "text follows on the line, and only brackets, quotes and punctuation may",
    "cancelled": "the user typed on, or something else took the engine",
    "unsure": "the model is not sure enough of what it wrote",
    "empty": "the model wrote nothing: for it the line ends here",
    "filtered": "what the model wrote repeats the code around or would add a syntax error",
    "short": "what the model wrote is shorter than completion.min_chars",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A suggestion, or why there is none.

    `filters` are those that changed the text. `line_is_over`: the model ended at once, where one
    line was wanted. Times are in milliseconds, under the keys of the command line's JSON.
    """

    reason: Reason
    suggestion: Suggestion | None = None
    multiline: bool = False
    tokens: int = 0
    copied_tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    confidence: float = 0.0
    threshold: float = 0.0
    unknown_names: tuple[str, ...] = ()
    temperature: float = 0.0
    entropy_nats: float = 0.0
    finish: str = ""
    filters: tuple[str, ...] = ()
    line_is_over: bool = False
    context: PackedContext | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)


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


def explained(attempt: Attempt) -> dict[str, Any]:
    """An attempt as plain data, without a word of what was written."""
    return {
        "reason": attempt.reason,
        "message": SENTENCES[attempt.reason],
        "confidence": round(attempt.confidence, 4),
        "threshold": attempt.threshold,
        "unknown_names": len(attempt.unknown_names),
        "multiline": attempt.multiline,
        "temperature": round(attempt.temperature, 3),
        "entropy_nats": round(attempt.entropy_nats, 3),
        "finish_reason": attempt.finish,
        "filters": list(attempt.filters),
        "tokens": attempt.tokens,
        "sources": {
            "model": attempt.tokens - attempt.copied_tokens,
            "ngram": attempt.copied_tokens,
        },
        "prompt_tokens": attempt.prompt_tokens,
        "reused_tokens": attempt.reused_tokens,
        "segments": context_rows(attempt.context) if attempt.context else [],
        "timings_ms": {name: round(ms, 2) for name, ms in attempt.timings_ms.items()},
    }

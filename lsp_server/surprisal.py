"""Where a file surprises the model: -log p of its tokens, compared with the rest of the file.

Buggy lines are more surprising than others (Ray et al., arXiv 1506.01159), but most surprising
lines are fine. So only identifiers count, only far outliers, and only where the model is sure of
something else; what remains is a hint for a reader, never a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken

WINDOW_TOKENS = 512
MIN_EXPECTED = 0.9
MAX_ACTUAL = 1e-4
MIN_DEVIATION = 2.5


@dataclass(frozen=True, slots=True)
class Surprise:
    """A token (0-based position) and what the model expected in its place."""

    line: int
    column: int
    text: str
    expected: str
    confidence: float


@dataclass(frozen=True, slots=True)
class _Scored:
    """One token of the file with its probability and the best alternative."""

    start: int
    text: str
    expected: str
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
    scored = score_tokens(text, path, engine, changed, cancel)
    if len(scored) < 20:
        return []
    nats = torch.tensor([s.nats for s in scored])
    mean, deviation = nats.mean().item(), max(nats.std().item(), 1e-6)
    found = []
    for s in scored:
        line = text.count("\n", 0, s.start)
        unusual = (s.nats - mean) / deviation >= MIN_DEVIATION
        certain = s.expected_p >= MIN_EXPECTED and s.actual_p <= MAX_ACTUAL
        names = s.text.strip().isidentifier() and s.expected.strip().isidentifier()
        if unusual and certain and names and (changed is None or line in changed):
            at = s.start + len(s.text) - len(s.text.lstrip())
            column = at - (text.rfind("\n", 0, at) + 1)
            found.append(Surprise(line, column, s.text.strip(), s.expected.strip(), s.expected_p))
    return found


def score_tokens(
    text: str,
    path: str,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken | None,
) -> list[_Scored]:
    """Probabilities of the tokens in the windows that hold changed lines."""
    tokenizer = engine.tokenizer
    header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(path + "\n")]
    ids = tokenizer.encode(text)
    starts, at = [], 0
    for token in ids:
        starts.append(at)
        at += len(tokenizer.decode([token]))
    step = min(WINDOW_TOKENS, engine.info.max_context - len(header) - 1) // 2
    scored: list[_Scored] = []
    for begin in range(0, len(ids), max(step, 1)):
        if cancel is not None and cancel.cancelled:
            return scored
        end = min(begin + step, len(ids))
        first = text.count("\n", 0, starts[begin])
        last = text.count("\n", 0, starts[end - 1])
        if changed is not None and not any(line in changed for line in range(first, last + 1)):
            continue
        context = max(0, begin - step)
        window = [*header, *ids[context:end]]
        logprobs = torch.log_softmax(engine.logits(window), dim=-1)
        offset = len(header) - 1 + begin - context
        for i in range(begin, end):
            row = logprobs[offset + i - begin]
            best = int(row.argmax())
            nats = -row[ids[i]].item()
            scored.append(
                _Scored(
                    starts[i], tokenizer.decode([ids[i]]), tokenizer.decode([best]),
                    row[ids[i]].exp().item(), row[best].exp().item(), nats,
                )
            )  # fmt: skip
    return scored

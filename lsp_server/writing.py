"""One generation from its first token to its end, or to where it has become pointless."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qcoder.lsp_server.completion_shape import Watch
from qcoder.lsp_server.novel_names import is_word
from qcoder.model.confidence import Confidence
from qcoder.model.engine import Engine
from qcoder.model.request import FinishReason, GenerationRequest, TokenOut

ABANDONED = "abandoned"
UNCALIBRATED = Confidence()
SURE_BEGINNING = 0.5
MIN_BEGINNING = 4
"""Characters: shorter ones are typed as fast as they are read."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Raw text of a generation with its accounting; `entropy_nats` is the first token's.

    `beginnings` are those of the text that are likely to be right, longest first, with how likely.
    """

    text: str
    tokens: int
    copied: int
    confidence: float
    finish: str
    entropy_nats: float = 0.0
    beginnings: tuple[tuple[str, float], ...] = ()


def collect(
    engine: Engine,
    request: GenerationRequest,
    threshold: float = 0.0,
    over: Watch | None = None,
    confidence: Confidence = UNCALIBRATED,
) -> Generated:
    """Run a generation to its end, or until it is hopeless or long enough.

    Hopeless is one that cannot reach `threshold` any more: decoding on would only cost the time of
    the next keystroke. The first token is chosen from what the prompt gave, so a generation that it
    ends costs no decode step at all. `over` says of the text so far whether it is enough.
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
        elif confidence.ceiling(scored, request.max_tokens) < threshold:
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
        entropy_nats=outs[0].entropy if outs else 0.0,
        beginnings=sure_beginnings(real),
    )


def sure_beginnings(outs: Sequence[TokenOut]) -> tuple[tuple[str, float], ...]:
    """Beginnings of a text that are right more often than not, longest first, and how likely.

    The probability that all tokens of one are right is the product of theirs. None ends in a word.
    """
    found: list[tuple[str, float]] = []
    text, total = "", 0.0
    for at, out in enumerate(outs):
        following = outs[at + 1] if at + 1 < len(outs) else None
        text, total = text + out.text, total + out.logprob
        if total < math.log(SURE_BEGINNING):
            break
        cut = following is not None and is_word(text[-1:]) and is_word(following.text[:1])
        if not cut and len(text.strip()) >= MIN_BEGINNING:
            found.append((text, math.exp(total)))
    return tuple(reversed(found))

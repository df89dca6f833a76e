"""The events of OpenAI-compatible servers: what each of them says, in the dialects there are."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from qcoder.model.errors import RemoteError
from qcoder.model.request import FinishReason

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delta:
    """One event: new text, natural log-probabilities of its tokens, the end, what was counted."""

    text: str = ""
    logprobs: tuple[float, ...] = ()
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    reused_tokens: int = 0


def delta_of(data: str, server: str) -> Delta:
    """One event of either kind of completion; raises `RemoteError` for what is none."""
    try:
        event = json.loads(data)
        choices = event.get("choices") or []
        choice = choices[0] if choices else {}
        text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
        usage = event.get("usage") or {}
        reused = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        failed = "error" in event
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise RemoteError(
            f"{server} sent an event that is no completion; check remote.url"
        ) from None
    if failed:
        logger.debug("remote event=%r", data[:2000])
        raise RemoteError(f"{server} failed in the middle of its answer; see the server's own log")
    reason = choice.get("finish_reason")
    finish = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
    return Delta(
        str(text),
        logprobs_of(choice.get("logprobs")),
        finish if reason else None,
        int(usage.get("prompt_tokens") or 0),
        int(reused),
    )


def logprobs_of(found: Any) -> tuple[float, ...]:
    """Of the tokens in an event: a list of numbers (vLLM, SGLang), or of objects (chat, llama.cpp)."""
    if not isinstance(found, dict):
        return ()
    values = found.get("token_logprobs")
    if values is None:
        rows = found.get("content") or []
        values = [row.get("logprob") for row in rows if isinstance(row, dict)]
    return tuple(min(float(v), 0.0) for v in values if isinstance(v, int | float))


class Unfenced:
    """Drops the line of a code fence that a chat model begins with in spite of its instruction."""

    __slots__ = ("_decided", "_held")

    def __init__(self, wanted: bool = True) -> None:
        self._held, self._decided = "", not wanted

    def push(self, text: str) -> str:
        """Text that may be emitted now."""
        if self._decided:
            return text
        self._held += text
        start = self._held.lstrip()[:3]
        if not start or ("```".startswith(start) and "\n" not in self._held.lstrip()):
            return ""
        if start == "```":
            self._held = self._held.lstrip().partition("\n")[2]
        return self.flush()

    def flush(self) -> str:
        """What was held back, at the end."""
        self._decided, held, self._held = True, self._held, ""
        return held

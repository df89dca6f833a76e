"""A scripted engine and a byte tokenizer: everything but a model, for tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qcoder.model.engine import EngineStats, ModelInfo
from qcoder.model.errors import PromptTooLongError
from qcoder.model.request import FinishReason, GenerationRequest, GenerationStats, TokenOut
from qcoder.model.scoring import TokenScores, check_start, scores_of
from qcoder.model.stop import StopFilter, interrupted

if TYPE_CHECKING:
    import torch

NAMES = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """One token a UTF-8 byte (ids 0-255), special tokens behind."""

    hash: str = "bytes"
    vocab_size: int = 256 + len(NAMES)

    @property
    def special(self) -> Mapping[str, int]:
        """Ids of the special tokens."""
        return {name: 256 + i for i, name in enumerate(NAMES)}

    @property
    def eos_ids(self) -> frozenset[int]:
        """All special tokens end a generation."""
        return frozenset(range(256, 256 + len(NAMES)))

    def encode(self, text: str) -> list[int]:
        """Bytes of the text."""
        return list(text.encode("utf-8", "replace"))

    def count(self, text: str) -> int:
        """Bytes of the text."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of bytes; special tokens give nothing."""
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The byte, or nothing for a special token."""
        return bytes([token_id]) if token_id < 256 else b""


class FakeEngine:
    """Emits scripted answers, a word a token, in the order of the requests (the last one repeats)."""

    def __init__(
        self,
        script: Sequence[str] | Callable[[GenerationRequest], str],
        tokenizer: ByteTokenizer | None = None,
        max_context: int = 4096,
        logprob: float = -0.1,
    ) -> None:
        self._script = script
        self.tokenizer: Any = tokenizer or ByteTokenizer()
        self.info = ModelInfo(
            "fake", "", "fake", 0, 0, max_context, "none", fim_order="spm", is_default=True
        )
        self.requests: list[GenerationRequest] = []
        self.prefilled: list[GenerationRequest] = []
        self._logprob = logprob
        self._last = GenerationStats()

    def maintain(self) -> None:
        """Nothing is put off."""

    @staticmethod
    def load(
        path_or_name: str = "fake",
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        yarn_factor: float | None = None,
        max_context: int | None = None,
        threads: int = 0,
        reuse: str = "exact",
    ) -> FakeEngine:
        """An engine that says nothing; there is nothing to load."""
        return FakeEngine([""], max_context=max_context or 4096)

    def _answer(self, request: GenerationRequest) -> str:
        if callable(self._script):
            return self._script(request)
        return self._script[min(len(self.requests), len(self._script)) - 1] if self._script else ""

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """Stream the scripted answer; honours cancel, deadline, stop rules and max_tokens."""
        if len(request.prompt.ids) >= self.info.max_context:
            raise PromptTooLongError(f"prompt of {len(request.prompt.ids)} tokens is too long")
        return self._stream(request)

    def _stream(self, request: GenerationRequest) -> Iterator[TokenOut]:
        if request.max_tokens == 0:  # computes the prompt only: nothing of the script is used up
            self.prefilled.append(request)
            yield TokenOut(-1, "", 0.0, "model", finish=FinishReason.LENGTH)
            return
        self.requests.append(request)
        stop = StopFilter(request.stop)
        for count, piece in enumerate(pieces(self._answer(request)), 1):
            ended = interrupted(request)
            if ended is not None:
                yield TokenOut(-1, "", 0.0, "model", finish=ended)
                return
            self._last = GenerationStats(len(request.prompt.ids), 0, count)
            text = stop.push(piece)
            finish = None
            if stop.stopped:
                finish = FinishReason.STOP
            elif count >= request.max_tokens:
                finish, text = FinishReason.LENGTH, text + stop.flush()
            yield TokenOut(count, text, self._logprob, "model", finish=finish)
            if finish:
                return
        yield TokenOut(-1, stop.flush(), self._logprob, "model", finish=FinishReason.STOP)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Flat logits."""
        import torch

        return torch.zeros(len(ids), self.tokenizer.vocab_size)

    def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
        """Of `logits`, in one piece."""
        check_start(ids, start)
        rows = self.logits(ids).numpy()
        return iter([scores_of(rows[start - 1 : -1], ids[start:])])

    def stats(self) -> EngineStats:
        """Counters."""
        return EngineStats(requests=len(self.requests), last=self._last)


def by_seed(texts: Sequence[str]) -> Callable[[GenerationRequest], str]:
    """A script that answers every request with the text of its seed, or with the last one."""
    return lambda request: texts[min(request.sampling.seed, len(texts) - 1)]


def pieces(text: str) -> list[str]:
    """Words or runs of signs, with the blanks before them; line breaks apart."""
    return re.findall(r"\n|[^\S\n]*(?:\w+|[^\w\s]+)|[^\S\n]+", text)

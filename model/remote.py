"""The remote engine: an OpenAI-compatible server behind the `Engine` protocol.

For teams that serve a model with vLLM, SGLang, llama.cpp or Ray Serve. Three kinds of request: `fim`
sends the raw fill-in-the-middle text to `/completions`, `suffix` sends text before and behind the
cursor there, `chat` asks a chat model. Nothing is sent but generations and, once, the question
which models there are; computing a prompt ahead (`max_tokens` 0) sends nothing. Copy
tables, healing and the mixture are the local engine's own and do not count here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from qcoder.model.engine import REMOTE, EngineStats, ModelInfo
from qcoder.model.errors import PromptTooLongError, RemoteError
from qcoder.model.remote_events import Delta, Unfenced, delta_of
from qcoder.model.remote_http import Endpoint, EventStream, fetch_json
from qcoder.model.remote_prompt import (
    FIM_MARKS,
    FimFormat,
    TextPrompt,
    TextTokenizer,
    chat_messages,
    fim_text,
    suffix_text,
)
from qcoder.model.request import (
    FinishReason,
    GenerationRequest,
    GenerationStats,
    TokenOut,
)
from qcoder.model.scoring import TokenScores
from qcoder.model.stop import StopFilter, interrupted

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

RemoteKind = Literal["fim", "suffix", "chat"]

POLL_S = 0.02
"""Between two looks at the cancel token while nothing arrives."""

USAGE_S = 0.2
"""How long after the last token the server may take to say what it counted."""

DEFAULT_MAX_CONTEXT = 8192
MAX_STOP_STRINGS = 4
"""As many as the protocol allows; our own filter knows them all."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where the server is and how it is asked; `api_key` is the key itself, never shown."""

    url: str
    model: str = ""
    kind: RemoteKind = "fim"
    fim_format: FimFormat = "qwen"
    api_key: str = field(default="", repr=False)
    max_context: int = 0
    tokenizer: str = ""
    timeout_s: float = 30.0
    allow_http: bool = False


@dataclass(slots=True)
class _Progress:
    """Accounting of the generation that runs; the server's own counts replace the estimates."""

    prompt_tokens: int
    reused_tokens: int = 0
    scored: list[float] = field(default_factory=list)
    finish: FinishReason | None = None
    began: float = field(default_factory=time.perf_counter)
    first: float = 0.0

    def take(self, delta: Delta) -> None:
        """Note an event."""
        self.first = self.first or time.perf_counter()
        self.finish = self.finish or delta.finish
        if delta.prompt_tokens:
            self.prompt_tokens, self.reused_tokens = delta.prompt_tokens, delta.reused_tokens

    def finished(self) -> GenerationStats:
        """At the end."""
        done = time.perf_counter()
        first = self.first or done
        return GenerationStats(
            self.prompt_tokens,
            self.reused_tokens,
            len(self.scored),
            prefill_ms=1000 * (first - self.began),
            decode_ms=1000 * (done - first),
        )


class RemoteEngine:
    """One model of one server. Used by one thread; only cancel tokens come from others."""

    def __init__(self, options: RemoteOptions, endpoint: Endpoint, model: str) -> None:
        self._options, self._endpoint, self._model = options, endpoint, model
        self._tokenizer = TextTokenizer.load(options.tokenizer)
        self._marks = FIM_MARKS[options.fim_format]
        self._logprobs = True
        self._warned = False
        self._stats = EngineStats()
        limit = options.max_context or DEFAULT_MAX_CONTEXT
        self._info = ModelInfo(
            model, endpoint.name, REMOTE, 0, 0, limit, "none", fim_order=self._marks.order
        )

    @staticmethod
    def connect(options: RemoteOptions) -> RemoteEngine:
        """Ask the server for its models; raises `RemoteError` with what is wrong and what to do."""
        endpoint = Endpoint.parse(
            options.url, options.api_key, options.timeout_s, options.allow_http
        )
        model = chosen_model(endpoint, options.model)
        engine = RemoteEngine(options, endpoint, model)
        logger.info("remote url=%s model=%s kind=%s", endpoint.name, model, options.kind)
        return engine

    def maintain(self) -> None:
        """Nothing is put off."""

    @staticmethod
    def load(
        path_or_name: str = "http://localhost:8000/v1",
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        yarn_factor: float | None = None,
        max_context: int | None = None,
        threads: int = 0,
        reuse: str = "exact",
        kv_cache: str = "float16",
    ) -> RemoteEngine:
        """The first model of the server at an address; how it runs is the server's affair."""
        return RemoteEngine.connect(RemoteOptions(path_or_name, max_context=max_context or 0))

    @property
    def tokenizer(self) -> Any:
        """Stands in for the model's own: bytes as ids, counts by estimate."""
        return self._tokenizer

    @property
    def info(self) -> ModelInfo:
        """What is asked; sizes of a remote model are unknown."""
        return self._info

    def stats(self) -> EngineStats:
        """Counters since connecting."""
        return self._stats

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Raises `RemoteError`: servers give probabilities of what they generate only."""
        raise RemoteError(f"{self._endpoint.name} gives no logits; choose a local model for that")

    def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
        """Raises `RemoteError`, as `logits`."""
        raise RemoteError(f"{self._endpoint.name} scores no text; choose a local model for that")

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """Stream tokens; the last one carries `finish`. Closing the iterator closes the connection.

        Raises `PromptTooLongError` at once, and `RemoteError` where the server fails.
        """
        prompt = TextPrompt.of(request.prompt, self._marks.order)
        tokens = self._tokenizer.count(fim_text(prompt, self._marks))
        if tokens + 1 > self._info.max_context:
            raise PromptTooLongError(
                f"prompt of about {tokens} tokens does not fit the context of {self._info.name} "
                f"({self._info.max_context}); pack less, or raise model.max_context"
            )
        return self._generate(request, prompt, tokens)

    def _generate(
        self, request: GenerationRequest, prompt: TextPrompt, tokens: int
    ) -> Iterator[TokenOut]:
        if request.max_tokens == 0:  # the server's cache is its own affair
            yield TokenOut(-1, "", 0.0, "model", finish=FinishReason.LENGTH)
            return
        stop = StopFilter(replace(request.stop, strings=(*request.stop.strings, *self._ends())))
        fence = Unfenced(self._options.kind == "chat")
        progress = _Progress(tokens)
        try:
            with closing(self._deltas(request, prompt)) as deltas:
                for delta in deltas:
                    progress.take(delta)
                    if not delta.text and not delta.logprobs:
                        continue
                    if len(progress.scored) >= request.max_tokens:
                        progress.finish = FinishReason.LENGTH
                        break
                    text = stop.push(fence.push(delta.text))
                    for out in self._tokens(delta, text, len(progress.scored)):
                        progress.scored.append(out.logprob)
                        yield out
                    if stop.stopped:
                        progress.finish = FinishReason.STOP
                        break
            held = stop.push(fence.flush()) + stop.flush()
            ended = progress.finish or interrupted(request) or FinishReason.STOP
            # The mean changes no confidence: what ended the text has no probability of its own here.
            mean = fmean(progress.scored) if progress.scored else 0.0
            yield TokenOut(-1, held, mean, "model", finish=ended)
        finally:
            self._account(progress.finished())

    def _tokens(self, delta: Delta, text: str, count: int) -> Iterator[TokenOut]:
        """The tokens of an event; their text comes with the last of them."""
        if not delta.logprobs and self._logprobs:
            self._warn()
        logprobs = delta.logprobs or (0.0,)
        for at, logprob in enumerate(logprobs):
            yield TokenOut(count + at, text if at + 1 == len(logprobs) else "", logprob, "model")

    def _deltas(
        self, request: GenerationRequest, prompt: TextPrompt
    ) -> Generator[Delta, None, None]:
        """What the server sends; where it refuses, once more without asking for probabilities."""
        asked = self._logprobs
        try:
            yield from self._attempt(request, self._body(request, prompt, asked))
            return
        except RemoteError as error:
            if not asked or error.status not in (400, 422):
                raise
        yield from self._attempt(request, self._body(request, prompt, False))
        self._logprobs = False

    def _warn(self) -> None:
        """Say once that a server gives no probabilities."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s gives no probabilities: completion.min_confidence has no effect",
                self._info.path,
            )

    def _attempt(self, request: GenerationRequest, body: dict[str, Any]) -> Iterator[Delta]:
        """Events of one request until it is done or interrupted; then the connection is closed."""
        path = "/chat/completions" if self._options.kind == "chat" else "/completions"
        stream = EventStream(self._endpoint, path, body)
        until = float("inf")
        try:
            while interrupted(request) is None and time.monotonic() < until and not stream.ended:
                data = stream.poll(POLL_S)
                if data is None:
                    continue
                delta = delta_of(data, self._endpoint.name)
                yield delta
                if delta.finish is not None:
                    until = time.monotonic() + USAGE_S
                if delta.prompt_tokens and until < float("inf"):
                    return
        except RemoteError:
            if until == float("inf"):  # behind the last token a failure costs nothing
                raise
        finally:
            stream.close()

    def _body(
        self, request: GenerationRequest, prompt: TextPrompt, logprobs: bool
    ) -> dict[str, Any]:
        """The request's JSON."""
        sampling, kind = request.sampling, self._options.kind
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.temperature > 0:
            body["seed"] = sampling.seed
        if kind == "chat":
            # Stop strings are ours alone: a chat model may begin with a fence and a line break.
            return (
                body
                | {"messages": chat_messages(prompt)}
                | ({"logprobs": True} if logprobs else {})
            )
        if logprobs:
            body["logprobs"] = 1
        if stops := [*request.stop.strings, *self._ends()][:MAX_STOP_STRINGS]:
            body["stop"] = stops
        if kind == "suffix":
            before, behind = suffix_text(prompt)
            return body | {"prompt": before, "suffix": behind}
        return body | {"prompt": fim_text(prompt, self._marks)}

    def _ends(self) -> tuple[str, ...]:
        """Texts that no answer goes beyond."""
        if self._options.kind == "chat":
            return ("\n```",)
        if self._options.kind == "suffix":
            return ()
        names = self._marks.names.values()
        return tuple(name for name in names if name.startswith("<"))

    def _account(self, last: GenerationStats) -> None:
        s = self._stats
        self._stats = replace(
            s,
            requests=s.requests + 1,
            prompt_tokens=s.prompt_tokens + last.prompt_tokens,
            reused_tokens=s.reused_tokens + last.reused_tokens,
            generated_tokens=s.generated_tokens + last.generated_tokens,
            last=last,
        )


def chosen_model(endpoint: Endpoint, wanted: str) -> str:
    """The model to ask for, checked against the server's list where it has one."""
    try:
        listing = fetch_json(endpoint, "/models")
    except RemoteError as error:
        if error.status not in (404, 405, 501):
            raise
        listing = None
    rows = listing.get("data") if isinstance(listing, dict) else None
    rows = rows if isinstance(rows, list) else []
    names = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if not wanted and not names:
        raise RemoteError(f"{endpoint.name} lists no models; name one in remote.model")
    if wanted and names and wanted not in names and not any("*" in name for name in names):
        raise RemoteError(
            f"{endpoint.name} has no model {wanted!r}, but {', '.join(names[:5])}; set remote.model"
        )
    return wanted or names[0]

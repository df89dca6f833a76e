"""The in-process engine: checkpoint, KV reuse, mixture and sampler behind the `Engine` protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_data_dir

from qcoder.model.checkpoint import Checkpoint, verify_manifest
from qcoder.model.config import load_config
from qcoder.model.engine import EngineStats, FimOrder, ModelInfo
from qcoder.model.errors import CheckpointError, PromptTooLong
from qcoder.model.kv_cache import PrefixCache, Sequence
from qcoder.model.mixture import BlendResult, Mixture, MixtureState
from qcoder.model.qwen3_moe import Qwen3Moe
from qcoder.model.request import FinishReason, GenerationRequest, GenerationStats, TokenOut
from qcoder.model.sampler import sample
from qcoder.model.stop import StopFilter, interrupted
from qcoder.model.tokenizer import StreamDecoder, Tokenizer

logger = logging.getLogger(__name__)

DEFAULT_FOLDER = Path(__file__).parent / "weights" / "qcoder_nano"
PREFILL_CHUNK = 256
"""Tokens a forward pass during prefill: the step between two looks at the cancel token."""

DEFAULT_MAX_CONTEXT = 8192
"""Context of a large checkpoint unless more is asked for: its KV cache is allocated at once."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL_PARAMETERS = 200_000_000


def resolve(path_or_name: str) -> Path:
    """Folder of "default", of an imported model's name, or of a checkpoint; raises otherwise."""
    if path_or_name == "default":
        return DEFAULT_FOLDER
    imported = Path(user_data_dir("qcoder", appauthor=False)) / "models" / path_or_name
    for folder in (Path(path_or_name).expanduser(), imported):
        if (folder / "config.json").exists():
            return folder
    raise CheckpointError(
        f"model {path_or_name!r}: no such checkpoint folder (with config.json) and no imported "
        f'model of that name under {imported.parent}; use "default" or give a folder'
    )


class LocalEngine:
    """One loaded checkpoint. Used by one thread; only cancel tokens come from others."""

    def __init__(
        self, model: Qwen3Moe, tokenizer: Tokenizer, info: ModelInfo, mixture: Mixture | None
    ) -> None:
        self._model, self._tokenizer, self._info, self._mixture = model, tokenizer, info, mixture
        c = model.config
        self._cache = PrefixCache(
            c.num_layers, c.num_kv_heads, c.head_dim, info.max_context, model.embedding.dtype
        )
        self._stats = EngineStats(weight_bytes=model.weight_bytes)

    @staticmethod
    def load(
        path_or_name: str = "default",
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        yarn_factor: float | None = None,
        max_context: int | None = None,
    ) -> LocalEngine:
        """See `Engine.load`."""
        if device not in ("auto", "cpu"):
            raise CheckpointError(f"device {device!r} is not supported by this version; use cpu")
        if quantize not in (None, "none") or yarn_factor not in (None, 1.0):
            raise CheckpointError("quantize and yarn_factor are not supported by this version")
        if dtype is not None and dtype not in DTYPES:
            raise CheckpointError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
        folder = resolve(path_or_name)
        manifest = verify_manifest(folder)
        config = load_config(folder)
        total, active = count_parameters(config)
        chosen = DTYPES[dtype] if dtype else default_dtype(total)
        limit = min(max_context or DEFAULT_MAX_CONTEXT, config.max_context)
        model = Qwen3Moe.load(Checkpoint.open(folder), config, chosen, limit)
        tokenizer = Tokenizer.load(folder, config.eos_ids)
        order: FimOrder = "spm" if manifest.get("fim_order") == "spm" else "psm"
        info = ModelInfo(
            name=str(manifest.get("name", folder.name)),
            path=str(folder),
            architecture=config.model_type,
            parameters=total,
            active_parameters=active,
            max_context=limit,
            quantization=config.quantization,
            fim_order=order,
            is_default=folder == DEFAULT_FOLDER,
            manifest=dict(manifest),
        )
        return LocalEngine(model, tokenizer, info, Mixture.load_for(info))

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""
        return self._tokenizer

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        return self._info

    def stats(self) -> EngineStats:
        """Counters since loading."""
        return replace(self._stats, cache_bytes=self._cache.size_bytes)

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        """[len(ids), vocab] float32 of one full forward pass without cache."""
        c = self._model.config
        self._check_length(len(ids))
        sequence = Sequence(
            c.num_layers, c.num_kv_heads, c.head_dim, len(ids), self._model.embedding.dtype
        )
        return self._model.forward(ids, sequence, all_logits=True)

    def _check_length(self, tokens: int) -> None:
        if not 0 < tokens <= self._info.max_context:
            raise PromptTooLong(
                f"{tokens} tokens do not fit the context of {self._info.name} "
                f"({self._info.max_context}); pack less"
            )

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """Stream tokens; the last one carries `finish`."""
        ids = request.prompt.ids
        self._check_length(len(ids) + 1)
        began = time.perf_counter()
        sequence, reused = self._cache.acquire(ids)
        progress: dict[str, Any] = {"prompt_tokens": len(ids), "reused_tokens": reused}
        try:
            logits, ended = self._prefill(list(ids[reused:]), sequence, request)
            progress["prefill_ms"] = 1000 * (time.perf_counter() - began)
            if logits is None:
                yield TokenOut(-1, "", 0.0, "model", finish=ended)
                return
            began = time.perf_counter()
            for token in self._decode(logits, sequence, request):
                if token.id >= 0:
                    progress["generated_tokens"] = progress.get("generated_tokens", 0) + 1
                    copied = token.source == "ngram"
                    progress["ngram_tokens"] = progress.get("ngram_tokens", 0) + copied
                progress["decode_ms"] = 1000 * (time.perf_counter() - began)
                yield token
        finally:
            self._account(GenerationStats(**progress))

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

    def _prefill(
        self, ids: list[int], sequence: Sequence, request: GenerationRequest
    ) -> tuple[torch.Tensor | None, FinishReason | None]:
        """Compute the prompt in chunks; logits of its last token, or why it ended early."""
        logits = None
        for start in range(0, len(ids), PREFILL_CHUNK):
            ended = interrupted(request)
            if ended is not None:
                return None, ended
            with torch.inference_mode():
                logits = self._model.forward(ids[start : start + PREFILL_CHUNK], sequence)
        return logits, None

    def _decode(
        self, logits: torch.Tensor, sequence: Sequence, request: GenerationRequest
    ) -> Iterator[TokenOut]:
        rng = np.random.default_rng(request.sampling.seed)
        state = self._mixture_state(request)
        decoder, stop = StreamDecoder(self._tokenizer), StopFilter(request.stop)
        seen: list[int] = []
        room = min(request.max_tokens, self._info.max_context - len(request.prompt.ids))
        while True:
            ended = interrupted(request)
            if ended is not None:
                yield TokenOut(-1, stop.flush(), 0.0, "model", finish=ended)
                return
            logprobs = torch.log_softmax(logits, dim=-1).numpy()
            blended = state.blend(logprobs) if state else BlendResult(logprobs, None)
            token = sample(blended.logprobs, request.sampling, seen, rng)
            if token in request.stop.ids or token in self._tokenizer.eos_ids:
                logprob = float(blended.logprobs[token])
                yield TokenOut(-1, stop.flush(), logprob, "model", finish=FinishReason.STOP)
                return
            out = self._token(token, blended, stop.push(decoder.push(token)))
            seen.append(token)
            if state:
                state.push(token)
            if stop.stopped:
                yield replace(out, finish=FinishReason.STOP)
                return
            if len(seen) >= room:
                yield replace(out, text=out.text + stop.flush(), finish=FinishReason.LENGTH)
                return
            yield out
            with torch.inference_mode():
                logits = self._model.forward([token], sequence)

    def _mixture_state(self, request: GenerationRequest) -> MixtureState | None:
        if self._mixture is None or not request.mixture:
            return None
        return self._mixture.start(request.prompt.ids, request.copy_tables)

    def _token(self, token: int, blended: BlendResult, text: str) -> TokenOut:
        share = blended.ngram_share
        copied = share is not None and share[token] > 0.5
        return TokenOut(token, text, float(blended.logprobs[token]), "ngram" if copied else "model")


def count_parameters(config: Any) -> tuple[int, int]:
    """Total parameters and those active a token (without embeddings)."""
    c = config
    attention = c.hidden_size * c.head_dim * 2 * (c.num_heads + c.num_kv_heads)
    expert = 3 * c.hidden_size * c.expert_size
    sparse = c.num_layers - len(c.dense_layers)
    dense = len(c.dense_layers) * 3 * c.hidden_size * c.dense_size
    router = sparse * c.hidden_size * c.num_experts
    embeddings = c.vocab_size * c.hidden_size * (1 if c.tied_embeddings else 2)
    common = c.num_layers * attention + dense + router
    total = embeddings + common + sparse * c.num_experts * expert
    return total, common + sparse * c.experts_per_token * expert


def default_dtype(parameters: int) -> torch.dtype:
    """Float32 for small models (fastest on a CPU), bfloat16 for those whose memory matters."""
    return torch.float32 if parameters <= SMALL_PARAMETERS else torch.bfloat16

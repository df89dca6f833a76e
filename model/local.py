"""The in-process engine: checkpoint, KV reuse, mixture and sampler behind the `Engine` protocol."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from qcoder.kernels.dispatch import backend
from qcoder.kernels.native_decoder import PAGE_TOKENS
from qcoder.model.adapted import is_adapted_default
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.confidence import Confidence
from qcoder.model.config import ModelConfig, load_config
from qcoder.model.decoder import Decoder, Network, Pass
from qcoder.model.engine import EngineStats, FimOrder, ModelInfo
from qcoder.model.errors import CheckpointError, Interrupted, PromptTooLongError
from qcoder.model.generation import Parts, Progress, Work, drive, generate
from qcoder.model.healing import PrefixIndex
from qcoder.model.manifest import MANIFEST, verify
from qcoder.model.memory import check_memory
from qcoder.model.mixture import Mixture
from qcoder.model.native_model import NativeModel, kv_bits, native_model
from qcoder.model.pace import Pace
from qcoder.model.page_archive import PageArchive
from qcoder.model.prefix_cache import PrefixCache, boundaries, common_prefix
from qcoder.model.registry import DEFAULT_FOLDER, find_model, network_class
from qcoder.model.request import GenerationRequest, GenerationStats, TokenOut
from qcoder.model.scheduler import Scheduler
from qcoder.model.scoring import TokenScores, check_start, scores_of
from qcoder.model.segment_reuse import allowed
from qcoder.model.speculation import Experience
from qcoder.model.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

DEFAULT_MAX_CONTEXT = 8192
"""Context of a checkpoint unless more is asked for."""

SMALL_PARAMETERS = 200_000_000
"""Up to here weights are float32 and a decode step runs on one thread.

A step of a small model is a hundred products of some 20 us: a second thread saves a third of it on
idle cores, and on busy ones each barrier waits for a time slice (measured beside a training on two
cores: 6 ms a step with one thread, 31 ms with two, 148 ms in the worst tenth).
"""

LEAST_SAVED = 256
"""Tokens that stay the same from prompt to prompt, from which on they are worth a file."""

SAVED_SHARE = 0.9
"""Of them, that is on disk already: then nothing is written."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LocalEngine:
    """One loaded checkpoint. Used by one thread; only cancel tokens come from others.

    One generation at a time: beginning another ends the first, whose iterator raises.
    """

    def __init__(
        self,
        model: Network,
        tokenizer: Tokenizer,
        info: ModelInfo,
        mixture: Mixture | None = None,
        threads: int = 0,
    ) -> None:
        self._model, self._tokenizer, self._info, self._mixture = model, tokenizer, info, mixture
        self._cache = PrefixCache[Any](model.new_sequence)
        self._scored = PrefixCache[Any](model.new_sequence, max_sequences=2)
        self._stats = EngineStats(weight_bytes=model.weight_bytes)
        self._threads = threads or default_threads()
        self._step_threads = 1 if info.parameters <= SMALL_PARAMETERS else self._threads
        self._turn = 0
        self._experience = Experience()
        self._pace = Pace.guessed(info.active_parameters)
        self._archive: PageArchive | None = None
        self._last: tuple[int, ...] = ()
        self._settled: tuple[int, ...] = ()

    @staticmethod
    def load(
        path_or_name: str = "default",
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        yarn_factor: float | None = None,
        max_context: int | None = None,
        threads: int = 0,
        reuse: str = "exact",
        kv_cache: str = "float16",
    ) -> LocalEngine:
        """See `Engine.load`; `reuse` is a name of `segment_reuse.MODES`."""
        _check_options(device, dtype, quantize)
        bits = kv_bits(kv_cache)
        began = time.perf_counter()
        torch.set_num_threads(threads or default_threads())
        folder = find_model(path_or_name)
        manifest = verify(folder)
        Confidence.from_manifest(manifest, str(folder / MANIFEST))  # malformed: said now
        config = load_config(folder, yarn_factor)
        chosen = DTYPES[dtype] if dtype else default_dtype(config.parameters)
        limit = min(max_context or DEFAULT_MAX_CONTEXT, config.max_context)
        tokenizer = Tokenizer.load(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"{folder}: tokenizer.json has {tokenizer.vocab_size} ids, the model "
                f"{config.vocab_size}; they do not belong together, download both again"
            )
        check_memory(folder, config, chosen, limit, kv_cache)
        with Checkpoint.open(folder) as checkpoint:
            decoder = network_class(config.model_type).load(checkpoint, config, chosen, limit)
        info = describe(folder, config, manifest, limit)
        mode = allowed(reuse, manifest)
        if mode != reuse:
            logger.warning("model=%s reuse=%s reason=%s lost too much here", info.name, mode, reuse)
        logger.info(
            "model=%s parameters=%d dtype=%s context=%d seconds=%.2f",
            info.name, info.parameters, chosen, limit, time.perf_counter() - began,
        )  # fmt: skip
        on_gpu = device == "cuda" or backend() == "triton"
        network = _on_gpu(decoder, limit, mode) if on_gpu else native_model(decoder, mode, bits)
        if bits != 16 and not isinstance(network, NativeModel):
            logger.warning("model=%s kv_cache=int8 reason=only in the compiled kernels", info.name)
        return LocalEngine(
            network or decoder,
            tokenizer,
            info,
            Mixture.load_for(info),
            threads,
        )

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
        kept = self._cache.sequences
        return replace(
            self._stats,
            cache_bytes=self._cache.size_bytes,
            cache_tokens=sum(len(sequence.ids) for sequence in kept),
            cache_sequences=len(kept),
            drafted_tokens=self._experience.drafted,
            accepted_tokens=self._experience.accepted,
        )

    def check_integrity(self) -> None:
        """Assert what must always hold in the KV cache; slow, for tests and `doctor`."""
        self._cache.check_integrity()
        self._scored.check_integrity()

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        """[len(ids), vocab] float32 of one full forward pass without cache."""
        self._check_prompt(ids, 0)
        torch.set_num_threads(self._threads)
        sequence = self._model.new_sequence(len(ids))
        return self._model.forward(ids, sequence, all_logits=True)

    def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
        """See `Engine.score`. What the latest texts have in common before `start` is not computed again."""
        self._check_prompt(ids, 0)
        check_start(ids, start)
        return self._score(list(ids), start)

    def _score(self, ids: list[int], start: int) -> Iterator[TokenScores]:
        last = len(ids) - 1
        cached, at = self._scored.acquire(ids[:start], start)
        # A copy is continued: between two pieces another text may cut what the cache holds.
        sequence = cached.copy_prefix(at)
        sequence.reserve(last)
        try:
            while at < last:
                end = min(at + self._pace.tokens, last)
                if at < start - 1 < end:
                    end = start - 1
                keep = max(0, end - max(at, start - 1))
                rows = self._compute_all([Pass(ids[at:end], sequence, keep, prefill=True)])[0]
                if end == start - 1:
                    sequence.snapshot()
                at = end
                yield scores_of(rows.numpy(), ids[end + 1 - keep : end + 1])
        finally:
            self._scored.put(sequence)

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """Stream tokens; the last one carries `finish`. Closing early keeps the KV cache.

        Raises `PromptTooLongError` at once when the prompt leaves no room for a token; `max_tokens` is
        cut to the room there is.
        """
        self._check_prompt(request.prompt.ids, 1)
        return self._generate(request)

    def _check_prompt(self, ids: Sequence[int], new_tokens: int) -> None:
        if not ids:
            raise ValueError("the prompt is empty; it needs at least one token")
        if len(ids) + new_tokens > self._info.max_context:
            raise PromptTooLongError(
                f"prompt of {len(ids)} tokens and {new_tokens} to generate do not fit the context "
                f"of {self._info.name} ({self._info.max_context}); pack less"
            )
        if not 0 <= min(ids) <= max(ids) < self._model.config.vocab_size:
            raise ValueError(f"prompt has token ids outside of {self._info.name}'s vocabulary")

    def _generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        self._turn += 1
        turn, began = self._turn, time.perf_counter()
        progress = Progress(len(request.prompt.ids))
        try:
            work = self._begin(request, progress)
            progress.prefill_s = time.perf_counter() - began
            for out in drive(work, self._compute, progress):
                yield out
                if out.finish is not None:
                    return
                if self._turn != turn:
                    raise RuntimeError("another generation began on this engine; close this one")
        finally:
            self._account(progress.finished())

    def keep_on_disk(self, folder: Path) -> None:
        """Use and make files of keys and values in a folder of the user's cache; see `maintain`."""
        self._archive = self._model.archive(folder, self._info.manifest)

    def maintain(self) -> None:
        """To be called when nothing is asked for: save the part of prompts that stays the same.

        Nothing happens where that is short, or on disk already.
        """
        ids = self._settled
        if (
            self._archive is None
            or len(ids) < LEAST_SAVED
            or self._archive.longest(ids) >= (len(ids) - 1) * SAVED_SHARE
        ):
            return
        pages = self._model.exact_pages(ids, self._cache.sequences)
        if PAGE_TOKENS * len(pages) > self._archive.longest(ids):
            size_bytes = self._archive.save(pages)
            logger.info("saved %d pages, %d bytes", len(pages), size_bytes)

    def generate_many(
        self, requests: Sequence[GenerationRequest]
    ) -> Iterator[tuple[int, TokenOut]]:
        """Generate together: (index of the request, token) as they come, as `generate` gives them.

        The same tokens as one after the other, in less time where the network is what takes it.
        """
        for request in requests:
            self._check_prompt(request.prompt.ids, 1)
        return self._generate_many(requests)

    def _generate_many(
        self, requests: Sequence[GenerationRequest]
    ) -> Iterator[tuple[int, TokenOut]]:
        self._turn += 1
        turn = self._turn
        scheduler = Scheduler(self._begin, self._compute_all, self._account)
        indices = {scheduler.submit(request): i for i, request in enumerate(requests)}
        try:
            while scheduler.pending:
                for ticket, out in scheduler.step():
                    yield indices[ticket], out
                if self._turn != turn:
                    raise RuntimeError("another generation began on this engine; close this one")
        finally:
            scheduler.close()

    def _begin(
        self, request: GenerationRequest, progress: Progress, busy: Sequence[Any] = ()
    ) -> Work:
        """The coroutine of a request, behind what the cache has of its prompt.

        `busy`: sequences that others are writing.
        """
        ids = request.prompt.ids
        room = min(request.max_tokens, self._info.max_context - len(ids))
        self._settled, self._last = ids[: common_prefix(self._last, ids)], ids
        if self._archive is not None and self._archive.longest(ids) > self._cache.longest(ids):
            restored = self._model.new_sequence()
            restored.attach(self._archive.pages(ids), exact=True)
            self._cache.put(restored)
        moved = self._model.reusable(ids, self._cache.longest(ids), self._cache.sequences)
        sequence, reused = self._cache.acquire(ids, len(ids) + max(room, 0), busy)
        progress.reused_tokens = reused + sum(part.end - part.start for part in moved)
        parts = Parts(
            self._tokenizer, lambda: self._prefixes, self._mixture, self._experience, self._pace,
            self._model.drafts and not busy,
        )  # fmt: skip
        return generate(parts, request, sequence, moved, self._boundaries(ids), room)

    def _compute(self, one: Pass) -> torch.Tensor | None:
        try:
            return self._compute_all([one])[0]
        except Interrupted:
            return None

    def _compute_all(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        small = len(passes) == 1 and not passes[0].prefill
        torch.set_num_threads(self._step_threads if small else self._threads)
        began = time.perf_counter()
        with torch.inference_mode():
            found = self._model.compute(passes)
        if len(passes) == 1 and not small:
            self._pace.took(len(passes[0].ids), time.perf_counter() - began)
        return found

    def _account(self, last: GenerationStats) -> None:
        s = self._stats
        self._stats = replace(
            s,
            requests=s.requests + 1,
            prompt_tokens=s.prompt_tokens + last.prompt_tokens,
            reused_tokens=s.reused_tokens + last.reused_tokens,
            generated_tokens=s.generated_tokens + last.generated_tokens,
            prefill_s=s.prefill_s + last.prefill_ms / 1000,
            decode_s=s.decode_s + last.decode_ms / 1000,
            last=last,
        )

    def _boundaries(self, ids: Sequence[int]) -> list[int]:
        """Where to keep the state of linear attention; nowhere for models without."""
        if self._model.cache_shape.state is None:
            return []
        return boundaries(ids, frozenset(self._tokenizer.special.values()))

    @cached_property
    def _prefixes(self) -> PrefixIndex:
        """The vocabulary by its bytes; sorted on first use."""
        return PrefixIndex(self._tokenizer, self._tokenizer.vocab_size)


def _on_gpu(decoder: Decoder, max_context: int, reuse: str) -> Network:
    """The decoder in the Triton kernels; raises `CheckpointError` where they cannot run."""
    if not torch.cuda.is_available():
        raise CheckpointError("device cuda: PyTorch sees no GPU here; set device to cpu")
    if find_spec("triton") is None:
        raise CheckpointError("device cuda needs triton: pip install 'qcoder[gpu]'")
    from qcoder.model.gpu_model import gpu_model  # imports triton

    return gpu_model(decoder, "cuda", max_context, reuse=reuse)


def _check_options(device: str, dtype: str | None, quantize: str | None) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise CheckpointError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if quantize not in (None, "none"):
        raise CheckpointError(f"quantize {quantize!r} is not supported by this version; use none")
    if dtype is not None and dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")


def describe(
    folder: Path, config: ModelConfig, manifest: dict[str, Any], max_context: int
) -> ModelInfo:
    """What a checkpoint folder holds."""
    order: FimOrder = "spm" if manifest.get("fim_order") == "spm" else "psm"
    return ModelInfo(
        name=str(manifest.get("name", folder.name)),
        path=str(folder),
        architecture=config.model_type,
        parameters=config.parameters,
        active_parameters=config.active_parameters,
        max_context=max_context,
        quantization=config.quantization,
        fim_order=order,
        is_default=folder == DEFAULT_FOLDER or is_adapted_default(manifest),
        manifest=dict(manifest),
    )


def default_dtype(parameters: int) -> torch.dtype:
    """Float32 for small models, bfloat16 for those whose memory matters."""
    return torch.float32 if parameters <= SMALL_PARAMETERS else torch.bfloat16


def default_threads() -> int:
    """Half of the cores that this process may use, at least one: the editor has the others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // 2)

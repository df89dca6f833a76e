"""The engine as the rest of the project sees it: a Protocol and how to get one.

Implementations: `local.py` (in process, the default), `remote.py` (a server of the user's choice),
`fake.py` (scripted, for tests).
An engine is used by one thread at a time; only `CancelToken.cancel` may come from another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from qcoder.model.request import GenerationRequest, GenerationStats, TokenOut
from qcoder.model.scoring import TokenScores

if TYPE_CHECKING:
    import torch

    from qcoder.model.tokenizer import Tokenizer

FimOrder = Literal["psm", "spm"]

REMOTE = "remote"
"""The architecture of a model that a server runs: what it is made of is not known here."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model is; `fim_order` says how fill-in-the-middle prompts are laid out."""

    name: str
    path: str
    architecture: str
    parameters: int
    active_parameters: int
    max_context: int
    quantization: str
    fim_order: FimOrder = "psm"
    is_default: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def is_remote(self) -> bool:
        """Whether text leaves this machine; such a model has neither logits nor its tokenizer here."""
        return self.architecture == REMOTE


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since loading; `last` belongs to the latest generation."""

    requests: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    weight_bytes: int = 0
    cache_bytes: int = 0
    cache_tokens: int = 0
    cache_sequences: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    last: GenerationStats = field(default_factory=GenerationStats)


@runtime_checkable
class Engine(Protocol):
    """Anything that turns a `GenerationRequest` into tokens."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        ...

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """Stream tokens; the last one carries `finish`. Closing the iterator keeps the KV cache."""
        ...

    def logits(self, ids: list[int]) -> torch.Tensor:
        """[len(ids), vocab] float32: one full forward pass without cache, for parity checks."""
        ...

    def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
        """How expected ids[start:] are, each behind all before it: a few tokens a piece, in order.

        Between two pieces the engine may be used for something else; a piece may be empty.
        """
        ...

    def stats(self) -> EngineStats:
        """Counters since loading."""
        ...

    def maintain(self) -> None:
        """To be called when nothing is asked for: what can be put off until then."""
        ...

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
    ) -> Engine:
        """Load a checkpoint folder, an imported model by name, or the shipped default model.

        `threads` 0 takes half of the cores, so that an editor's other work never stalls a token.
        `reuse` of keys and values of text that moved: exact, balanced or fast (`segment_reuse.MODES`).
        `kv_cache`: what keys and values are held as in the compiled kernels, float16 or int8.
        Raises `CheckpointError` with what is wrong, where, and what to do.
        """
        from qcoder.model.local import LocalEngine  # imports torch: only when a model is wanted

        return LocalEngine.load(
            path_or_name,
            device,
            dtype,
            quantize,
            yarn_factor,
            max_context,
            threads,
            reuse,
            kv_cache,
        )

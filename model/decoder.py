"""The decoder that all architectures are: a stack of mixers and MLPs around one residual stream.

    x = embed(ids)
    for each layer:
        x = x + mixer(norm(x))        attention, or a gated DeltaNet
        x = x + mlp(norm(x))          one SwiGLU, or the sum of the top-k experts'
    logits = norm(x) @ head^T

The blocks are `attention.py`, `delta_net.py` and `mlp.py`; which of them a layer has, and under which
names they lie in a checkpoint, is said by the file of each architecture. Small models are float32
throughout, so that a cached token equals a recomputed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as IdSequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.attention import causal_mask
from qcoder.kernels.rms_norm import rms_norm
from qcoder.kernels.rotary import Rotary, RotaryTable
from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.errors import Interrupted
from qcoder.model.kv_cache import FIRST_CAPACITY, CacheShape, Sequence, StateShape
from qcoder.model.linear import Linear, WeightReader


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What all layers of one forward pass share.

    table: [2, tokens, rotary_dim] of the new tokens' positions; mask: see `causal_mask`.
    """

    sequence: Sequence
    table: Tensor
    mask: Tensor | None


class Mixer(Protocol):
    """Lets tokens see earlier ones, through what the sequence holds of them."""

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        """x: [tokens, hidden], normed; returns the same shape."""
        ...

    @property
    def size_bytes(self) -> int:
        """Memory of the weights, without norms."""
        ...


class Mlp(Protocol):
    """Works on each token alone."""

    def __call__(self, x: Tensor) -> Tensor:
        """x: [tokens, hidden], normed; returns the same shape."""
        ...

    @property
    def size_bytes(self) -> int:
        """Memory of the weights."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer; norms: [hidden]."""

    input_norm: Tensor
    mixer: Mixer
    post_norm: Tensor
    mlp: Mlp

    def __call__(self, x: Tensor, step: Step, eps: float) -> Tensor:
        """x: [tokens, hidden]; returns the same shape."""
        x = x + self.mixer(rms_norm(x, self.input_norm, eps), step)
        return x + self.mlp(rms_norm(x, self.post_norm, eps))


class Architecture(Protocol):
    """What the file of an architecture offers to `registry.ARCHITECTURES`."""

    @staticmethod
    def fields(data: dict[str, Any]) -> dict[str, Any]:
        """Fields of `ModelConfig` that config.json gives in this architecture's way."""
        ...

    @staticmethod
    def load(
        checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, max_context: int
    ) -> Decoder:
        """Read every tensor once; raises `CheckpointError`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """New ids of a sequence to compute; logits of the last `keep` of them are wanted.

    `moved`: `segment_reuse.Stretch`es to attach on the way, in order; the last `keep` ids stand behind
    them. `stop` says that nobody wants them any more: a pass alone then ends between two layers with
    `Interrupted`, as if it had not begun. Models with linear attention finish it.
    """

    ids: list[int]
    sequence: Any
    keep: int
    prefill: bool = False
    stop: Callable[[], bool] | None = None
    moved: IdSequence[Any] = ()


class Network(Protocol):
    """A loaded model: `Decoder`, or `NativeModel` in the compiled kernels.

    Each has a kind of sequence of its own, made by `new_sequence`.
    """

    config: ModelConfig
    cache_shape: CacheShape
    drafts: bool
    """Whether a pass over several tokens gives the bits of one after the other, so that drafts pay."""

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, without the norms."""
        ...

    def new_sequence(self, capacity: int = ...) -> Any:
        """An empty sequence."""
        ...

    def reusable(self, ids: IdSequence[int], start: int, sequences: Iterable[Any]) -> list[Any]:
        """`segment_reuse.Stretch`es of `sequences` to attach behind the first `start` ids.

        To be asked before a sequence is cut; what is found stays valid.
        """
        ...

    def exact_pages(self, ids: IdSequence[int], sequences: Iterable[Any]) -> list[Any]:
        """The full pages of the first ids in one of `sequences`, as computed from these ids alone."""
        ...

    def archive(self, folder: Path, manifest: Mapping[str, Any]) -> Any | None:
        """A `PageArchive` for what sequences hold; None for sequences without pages."""
        ...

    def forward(self, ids: list[int], sequence: Any, all_logits: bool = False) -> Tensor:
        """See `Decoder.forward`."""
        ...

    def compute(self, passes: IdSequence[Pass]) -> list[Tensor]:
        """Passes of different sequences; logits [keep, vocab] of each."""
        ...


class Decoder:
    """Weights and forward pass; holds no sequence state."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Tensor,
        layers: list[Layer],
        norm: Tensor,
        head: Linear,
        max_context: int,
    ) -> None:
        self.drafts = False
        self.config, self.embedding, self.layers = config, embedding, layers
        self.norm, self.head = norm, head
        self.cache_shape = cache_shape(config, max_context, embedding.dtype)
        self.rotary: Rotary = RotaryTable(
            config.rotary_dim, config.rope_theta, config.yarn, max_context
        )

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, without the norms."""
        embedding = 0 if self.config.tied_embeddings else self.embedding.nbytes
        layers = sum(x.mixer.size_bytes + x.mlp.size_bytes for x in self.layers)
        return embedding + self.head.size_bytes + layers

    def new_sequence(self, capacity: int = FIRST_CAPACITY) -> Sequence:
        """An empty sequence."""
        return Sequence(self.cache_shape, capacity)

    def reusable(self, ids: IdSequence[int], start: int, sequences: Iterable[Any]) -> list[Any]:
        """Nothing: keys are held rotated to their positions."""
        del ids, start, sequences
        return []

    def exact_pages(self, ids: IdSequence[int], sequences: Iterable[Any]) -> list[Any]:
        """None: there are no pages."""
        del ids, sequences
        return []

    def archive(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """None: there are no pages."""
        del folder, manifest

    def forward(self, ids: list[int], sequence: Sequence, all_logits: bool = False) -> Tensor:
        """Compute `ids` behind what `sequence` holds and append them to it.

        Returns float32 logits of the last token [vocab], or of all new tokens [len(ids), vocab].
        """
        x = self.hidden(ids, sequence)
        return self.logits(x) if all_logits else self.logits(x[-1:])[0]

    def compute(self, passes: IdSequence[Pass]) -> list[Tensor]:
        """See `Network.compute`; one after the other."""
        found = []
        for one in passes:
            x = self.hidden(one.ids, one.sequence, one.stop)
            found.append(self.logits(x[len(one.ids) - one.keep :]))
        return found

    def hidden(
        self, ids: list[int], sequence: Sequence, stop: Callable[[], bool] | None = None
    ) -> Tensor:
        """The residual stream [len(ids), hidden] before the last norm; appends as `forward`."""
        if self.cache_shape.state is not None:
            stop = None  # it has no way back
        start, end = len(sequence), len(sequence) + len(ids)
        sequence.reserve(end)
        step = Step(sequence, self.rotary.rows(start, end), causal_mask(len(ids), end))
        x = F.embedding(torch.tensor(ids), self.embedding)
        for layer in self.layers:
            if stop is not None and stop():
                raise Interrupted
            x = layer(x, step, self.config.rms_norm_eps)
        sequence.extend(ids)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Float32 logits [tokens, vocab] of a residual stream [tokens, hidden]."""
        return self.head(rms_norm(x, self.norm, self.config.rms_norm_eps)).float()


def cache_shape(config: ModelConfig, max_context: int, dtype: torch.dtype) -> CacheShape:
    """What a sequence of this model holds."""
    state, linear = None, config.linear_attention
    if linear is not None:
        state = StateShape(
            layers=len(config.linear_layers),
            heads=linear.value_heads,
            key_dim=linear.key_dim,
            value_dim=linear.value_dim,
            channels=linear.channels,
            history=linear.conv_size - 1,
        )
    layers = config.num_layers - len(config.linear_layers)
    return CacheShape(
        layers, config.num_kv_heads, config.head_dim, max_context, dtype, state, config.rotary_key
    )


def load_decoder(
    reader: WeightReader,
    config: ModelConfig,
    max_context: int,
    load_layer: Callable[[WeightReader, ModelConfig, int], Layer],
    norm_offset: float = 0.0,
) -> Decoder:
    """Embeddings, layers and head; `norm_offset` 1 for norms that are stored around zero."""
    vocab, hidden, tied = config.vocab_size, config.hidden_size, config.tied_embeddings
    head = reader.linear([("embed_tokens" if tied else "lm_head", vocab)], hidden)
    embedding = head.weight if tied else reader.tensor("embed_tokens.weight", vocab, hidden)
    layers = [load_layer(reader, config, index) for index in range(config.num_layers)]
    return Decoder(
        config, embedding, layers, norm(reader, "norm", hidden, norm_offset), head, max_context
    )


def norm(reader: WeightReader, name: str, size: int, offset: float = 0.0) -> Tensor:
    """The weight [size] of a norm. One that is stored around zero becomes float32.

    1 + w would lose in bfloat16 what w says; `rms_norm` multiplies float32 weights in float32.
    """
    weight = reader.tensor(f"{name}.weight", size)
    return weight if offset == 0.0 else weight.float() + offset

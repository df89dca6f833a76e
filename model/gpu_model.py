"""A decoder whose forward pass runs in the Triton kernels.

Few tokens (of one or several sequences) take at most five launches a layer, captured as one CUDA graph
for each number of tokens; many tokens of one sequence take products of blocks:

    few     qkv -> attention -> out, sum and router -> gate, up -> down, sum
    many    norm, qkv, attention over pages, out, norm, router, experts sorted

The residual stream is float32 in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.gpu.attention_decode import (
    DecodeScratch,
    Places,
    attention_decode,
    decode_scratch,
)
from qcoder.kernels.gpu.attention_prefill import attention_prefill
from qcoder.kernels.gpu.attention_sparse import attention_sparse
from qcoder.kernels.gpu.configs import MANY
from qcoder.kernels.gpu.delta_net import DeltaNetStates, delta_net_step
from qcoder.kernels.gpu.delta_net_chunks import delta_net_prefill
from qcoder.kernels.gpu.experts import experts_inner, experts_outer
from qcoder.kernels.gpu.grouped import experts_many, for_matrix, many_linear
from qcoder.kernels.gpu.linear import linear
from qcoder.kernels.gpu.pages import PAGE, layer_pages, rotation
from qcoder.kernels.gpu.rms_norm import rms_norm
from qcoder.kernels.gpu.router import Routed, RouterScratch, out_and_route, router_scratch
from qcoder.model.config import ModelConfig
from qcoder.model.decoder import Decoder, Pass
from qcoder.model.gpu_cache import GpuSequence, PagePool
from qcoder.model.gpu_weights import GpuAttention, GpuDelta, GpuLayer, GpuWeights, gpu_weights
from qcoder.model.kv_cache import CacheShape
from qcoder.model.prefix_cache import MAX_SEQUENCES

CHUNK_TOKENS = 8192
"""Tokens of one pass of many tokens."""

SPARSE_FROM = 65_536
"""Tokens from which on `reuse` "fast" attends to chosen blocks of keys only."""

STATE_SLOTS = MAX_SEQUENCES + 4
"""Sequences at once of a model with linear attention: those that are kept, scored or being replaced."""


@dataclass(frozen=True, slots=True, eq=False)
class FewInputs:
    """What a pass of few tokens reads: ids [tokens] int64, places, and where states are.

    starts: [sequences + 1], slots: [sequences], kept: [tokens], int32: see `delta_net_step`.
    """

    ids: Tensor
    places: Places
    starts: Tensor
    slots: Tensor
    kept: Tensor


class GpuModel:
    """Weights and forward pass; a `Network`."""

    def __init__(
        self, config: ModelConfig, weights: GpuWeights, cache_shape: CacheShape, pages: int,
        page_dtype: torch.dtype, sparse: bool = False,
    ) -> None:  # fmt: skip
        self.config, self._weights, self._sparse = config, weights, sparse
        # One token is summed in float32, several are products of bfloat16: not the same bits.
        self.drafts = False
        self.cache_shape = cache_shape
        self._device = weights.embedding.device
        shape = cache_shape
        layers = [
            layer_pages(pages, shape.kv_heads, shape.head_dim, page_dtype, self._device)
            for _ in range(shape.layers)
        ]
        states = [
            DeltaNetStates.empty(x.mixer.layer, STATE_SLOTS, self._device)
            for x in weights.layers
            if isinstance(x.mixer, GpuDelta)
        ]
        self.pool = PagePool(layers, states)
        self._rotation = rotation(
            config.rotary_dim, config.rope_theta, config.yarn, shape.max_tokens, self._device
        )
        self._decode_scratch: DecodeScratch | None = None
        self._router_scratch: RouterScratch | None = None
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._width = -(-shape.max_tokens // PAGE)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, without the norms."""
        return self._weights.size_bytes

    def new_sequence(self, capacity: int = 0) -> GpuSequence:
        """An empty sequence."""
        del capacity
        return GpuSequence(self.pool, self.cache_shape.max_tokens)

    def reusable(self, ids: Sequence[int], start: int, sequences: Iterable[Any]) -> list[Any]:
        """Nothing yet: pages could be attached anywhere."""
        del ids, start, sequences
        return []

    def exact_pages(self, ids: Sequence[int], sequences: Iterable[Any]) -> list[Any]:
        """None."""
        del ids, sequences
        return []

    def archive(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """None: pages stay on the device."""
        del folder, manifest

    def forward(self, ids: list[int], sequence: GpuSequence, all_logits: bool = False) -> Tensor:
        """See `Decoder.forward`."""
        (logits,) = self.compute([Pass(ids, sequence, len(ids) if all_logits else 1)])
        return logits if all_logits else logits[0]

    def compute(self, passes: Sequence[Pass]) -> list[Tensor]:
        """See `Network.compute`: together where all have few tokens."""
        if sum(len(one.ids) for one in passes) <= MANY:
            return self._few(passes)
        found = []
        for one in passes:
            found += self._few([one]) if len(one.ids) <= MANY else [self._many(one)]
        return found

    # Few tokens.

    def _few(self, passes: Sequence[Pass]) -> list[Tensor]:
        for one in passes:
            one.sequence.reserve(len(one.sequence) + len(one.ids))
        inputs = self.inputs(passes)
        if self._device.type == "cuda":
            logits = self._graph(inputs).run(inputs)
        else:
            logits = self.few_logits(inputs)
        found, begin = [], 0
        for one in passes:
            end = begin + len(one.ids)
            found.append(logits[end - one.keep : end].cpu())
            one.sequence.extend(one.ids)
            begin = end
        return found

    def inputs(self, passes: Sequence[Pass]) -> FewInputs:
        """What `few_logits` reads for new tokens whose places are reserved."""
        position: list[int] = []
        first: list[int] = []
        rows, kept, starts = [], [], [0]
        for one in passes:
            begin, before = len(position), len(one.sequence)
            row = one.sequence.table(self._width, self._device)
            for t in range(len(one.ids)):
                position.append(before + t)
                first.append(begin)
                rows.append(row)
                kept.append(one.sequence.slot if t == len(one.ids) - 1 else -1)
            starts.append(len(position))
        ids = torch.tensor([token for one in passes for token in one.ids])

        def ints(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int32).to(self._device)

        places = Places(ints(position), ints(first), torch.stack(rows))
        slots = ints([one.sequence.slot for one in passes])
        return FewInputs(ids.to(self._device), places, ints(starts), slots, ints(kept))

    def few_logits(self, inputs: FewInputs) -> Tensor:
        """Logits [tokens, vocab] float32 of up to 16 new tokens: the launches of a decode step."""
        w, eps = self._weights, self.config.rms_norm_eps
        x = F.embedding(inputs.ids, w.embedding).float()
        for layer in w.layers:
            x = self._few_layer(layer, x, inputs)
        return linear(x, w.head, w.norm, eps)

    def _few_layer(self, layer: GpuLayer, x: Tensor, inputs: FewInputs) -> Tensor:
        eps = self.config.rms_norm_eps
        mixer = layer.mixer
        if isinstance(mixer, GpuAttention):
            qkv = linear(x, mixer.qkv, layer.input_norm, eps, mixer.bias)
            scratch = self._attention_scratch(mixer)
            pages = self.pool.layers[mixer.slot]
            y = attention_decode(qkv, mixer.heads, inputs.places, self._rotation, pages, scratch)
        else:
            qkvz = linear(x, mixer.qkvz, layer.input_norm, eps)
            ba = linear(x, mixer.ba, layer.input_norm, eps)
            states = self.pool.states[mixer.slot]
            y = delta_net_step(
                qkvz, ba, mixer.layer, states, inputs.starts, inputs.slots, inputs.kept
            )
        if layer.out_bias is not None:
            x = x + layer.out_bias
        if layer.router is None:
            routed = self._one_expert(linear(y, layer.out, residual=x), layer.post_norm)
        else:
            scratch_of_router = self._scratch_of_router(layer.router.experts)
            routed = out_and_route(y, layer.out, x, layer.router, scratch_of_router)
        return experts_outer(experts_inner(routed, layer.gate_up), routed, layer.down)

    def _one_expert(self, x: Tensor, norm: Tensor) -> Routed:
        factor = torch.rsqrt(x.square().mean(-1) + self.config.rms_norm_eps)
        chosen = torch.zeros(x.shape[0], 1, dtype=torch.int32, device=x.device)
        return Routed(x, x * norm, factor, chosen, torch.ones_like(factor).unsqueeze(1))

    def _attention_scratch(self, mixer: GpuAttention) -> DecodeScratch:
        if self._decode_scratch is None:
            self._decode_scratch = decode_scratch(MANY, mixer.heads, self._device)
        return self._decode_scratch

    def _scratch_of_router(self, experts: int) -> RouterScratch:
        if self._router_scratch is None:
            hidden = self.config.hidden_size
            self._router_scratch = router_scratch(MANY, hidden, experts, self._device)
        return self._router_scratch

    def _graph(self, inputs: FewInputs) -> _Graph:
        key = (inputs.ids.shape[0], inputs.slots.shape[0])
        if key not in self._graphs:
            self._graphs[key] = _Graph(self, inputs)
        return self._graphs[key]

    # Many tokens.

    def _many(self, one: Pass) -> Tensor:
        sequence, kept = one.sequence, []
        for begin in range(0, len(one.ids), CHUNK_TOKENS):
            ids = one.ids[begin : begin + CHUNK_TOKENS]
            sequence.reserve(len(sequence) + len(ids))
            x = self._many_hidden(ids, sequence)
            sequence.extend(ids)
            wanted = min(begin + len(ids) - (len(one.ids) - one.keep), len(ids))
            if wanted > 0:
                kept.append(self.head(x[-wanted:]))
        return torch.cat(kept) if kept else torch.empty(0, self.config.vocab_size)

    def head(self, x: Tensor) -> Tensor:
        """Logits [tokens, vocab] float32 on the CPU of a residual stream [tokens, hidden]."""
        w, eps = self._weights, self.config.rms_norm_eps
        if x.shape[0] <= MANY:
            return linear(x.contiguous(), w.head, w.norm, eps).cpu()
        rows = for_matrix(rms_norm(x.contiguous(), w.norm, eps), w.head)
        return torch.cat([many_linear(part, w.head).cpu() for part in torch.split(rows, 1024)])

    def _many_hidden(self, ids: list[int], sequence: GpuSequence) -> Tensor:
        table = sequence.table(self._width, self._device)
        x = F.embedding(torch.tensor(ids).to(self._device), self._weights.embedding).float()
        for layer in self._weights.layers:
            x = self._many_layer(layer, x, sequence, table)
        return x

    def _many_layer(
        self, layer: GpuLayer, x: Tensor, sequence: GpuSequence, table: Tensor
    ) -> Tensor:
        eps, mixer = self.config.rms_norm_eps, layer.mixer
        normed = rms_norm(x, layer.input_norm, eps)
        if isinstance(mixer, GpuAttention):
            qkv = many_linear(for_matrix(normed, mixer.qkv), mixer.qkv, mixer.bias)
            pages = self.pool.layers[mixer.slot]
            far = self._sparse and len(sequence) + x.shape[0] > SPARSE_FROM
            y = attention_prefill(
                qkv, mixer.heads, self._rotation, pages, table, len(sequence),
                attention_sparse if far else None,
            )  # fmt: skip
        else:
            qkvz = many_linear(for_matrix(normed, mixer.qkvz), mixer.qkvz)
            ba = many_linear(for_matrix(normed, mixer.ba), mixer.ba)
            states, slot = self.pool.states[mixer.slot], sequence.slot
            y = delta_net_prefill(qkvz, ba, mixer.layer, states, slot, slot)
        x = x + many_linear(for_matrix(y, layer.out), layer.out, layer.out_bias)
        normed = rms_norm(x, layer.post_norm, eps)
        chosen, weights = self._route_many(layer, normed)
        return experts_many(normed, layer.gate_up, layer.down, chosen, weights, x)

    def _route_many(self, layer: GpuLayer, normed: Tensor) -> tuple[Tensor, Tensor]:
        router = layer.router
        if router is None:
            ones = torch.ones(normed.shape[0], 1, device=normed.device)
            return torch.zeros_like(ones, dtype=torch.int32), ones
        scores = torch.softmax((normed @ router.weight).float(), dim=-1)
        weights, chosen = torch.topk(scores, router.top_k, dim=-1)
        if router.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        if router.shared is not None:
            gate = torch.sigmoid(normed.float() @ router.shared).unsqueeze(1)
            weights = torch.cat([weights, gate], dim=1)
            chosen = torch.cat([chosen, torch.full_like(chosen[:, :1], router.experts)], dim=1)
        return chosen.int(), weights.contiguous()


class _Graph:
    """A decode step of a number of tokens, captured once and replayed with other inputs."""

    def __init__(self, model: GpuModel, inputs: FewInputs) -> None:
        self._inputs = FewInputs(
            inputs.ids.clone(),
            Places(*(t.clone() for t in (inputs.places.position, inputs.places.first, inputs.places.pages))),
            inputs.starts.clone(), inputs.slots.clone(), inputs.kept.clone(),
        )  # fmt: skip
        states = [(s.memory.clone(), s.history.clone()) for s in model.pool.states]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles the kernels; a capture must not
            for _ in range(2):
                model.few_logits(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = model.few_logits(self._inputs)
        for state, (memory, history) in zip(model.pool.states, states, strict=True):
            state.memory.copy_(memory)  # the trials above went on from the tokens before
            state.history.copy_(history)

    def run(self, inputs: FewInputs) -> Tensor:
        """Logits [tokens, vocab], overwritten by the next run."""
        mine = self._inputs
        for old, new in (
            (mine.ids, inputs.ids), (mine.places.position, inputs.places.position),
            (mine.places.first, inputs.places.first), (mine.places.pages, inputs.places.pages),
            (mine.starts, inputs.starts), (mine.slots, inputs.slots), (mine.kept, inputs.kept),
        ):  # fmt: skip
            old.copy_(new)
        self._graph.replay()
        return self._logits


def gpu_model(
    decoder: Decoder,
    device: torch.device | str,
    max_context: int,
    pages: int | None = None,
    page_dtype: torch.dtype = torch.bfloat16,
    reuse: str = "exact",
) -> GpuModel:
    """The decoder on a GPU; `pages`: of 64 tokens, by default what 80 % of the free memory holds.

    With `reuse` "fast", long prompts are read with block-sparse attention.
    """
    device = torch.device(device)
    weights = gpu_weights(decoder, device)
    shape = decoder.cache_shape
    if pages is None:
        page_bytes = 2 * shape.layers * shape.kv_heads * shape.head_dim * PAGE * page_dtype.itemsize
        free, _ = torch.cuda.mem_get_info(device)
        pages = min(int(0.8 * free) // max(page_bytes, 1), 4 * -(-max_context // PAGE))
    state = shape.state
    cache = CacheShape(
        shape.layers, shape.kv_heads, shape.head_dim, max_context, page_dtype, state,
        f"pages {shape.rotary}",
    )  # fmt: skip
    return GpuModel(decoder.config, weights, cache, pages, page_dtype, reuse == "fast")

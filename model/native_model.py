"""A decoder whose forward pass runs in the compiled kernels, where all of its layers allow it.

Models with linear attention or gated attention, and matrices that are held otherwise than as tiles,
stay with `decoder.py`, whose blocks use the kernels for the products they can.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qcoder.kernels.native_decoder import (
    PAGE_TOKENS,
    DecoderLayer,
    DecoderShape,
    NativeDecoder,
    Run,
    TiledMatrix,
)
from qcoder.kernels.native_library import Native
from qcoder.kernels.prefault import prefault
from qcoder.kernels.rotary import frequencies
from qcoder.model.attention import Attention
from qcoder.model.config import ModelConfig
from qcoder.model.decoder import Decoder, Layer, Pass
from qcoder.model.errors import CheckpointError, Interrupted
from qcoder.model.kv_cache import CacheShape
from qcoder.model.linear import Linear
from qcoder.model.memory import available_bytes
from qcoder.model.mlp import DenseMlp, SparseMlp
from qcoder.model.page_archive import PageArchive
from qcoder.model.paged_cache import Page, PagedSequence, PageStore
from qcoder.model.prefix_cache import common_prefix
from qcoder.model.segment_reuse import MODES, Stretch, reusable
from qcoder.model.tiled_layers import TiledExperts, TiledLinear

ALONE_PARAMETERS = 16_000_000
"""Of what a token uses: up to here a decode step runs on the calling thread. It takes a fraction of a
millisecond, and on a busy machine a second thread may be waited for as long as a time slice.
"""

ALONE_TOKENS = 4

KV_BITS = {"float16": 16, "int8": 8}
"""What keys and values may be held as."""

PREFAULT_FROM_BYTES = 200 << 20
"""Weights are mapped ahead from this size on."""

PREFAULT_SHARE = 0.7
"""Of the free memory, up to which they are: beyond it, reading all of them would push out what others use."""


class NativeModel:
    """Weights and forward pass, as `Decoder`; sequences are in pages."""

    def __init__(self, decoder: Decoder, kernels: NativeDecoder, reuse: str = "exact") -> None:
        """`reuse`: a name of `segment_reuse.MODES`."""
        self._decoder, self._kernels, self._mode = decoder, kernels, MODES[reuse]
        self.config: ModelConfig = decoder.config
        self.drafts = True
        self._store = PageStore(kernels.page_bytes)
        shape = decoder.cache_shape
        self.cache_shape = CacheShape(
            shape.layers, shape.kv_heads, shape.head_dim, shape.max_tokens,
            torch.int8 if kernels.shape.kv_bits == 8 else torch.float16, None, f"pages {shape.rotary}",
        )  # fmt: skip
        self._small = decoder.config.active_parameters <= ALONE_PARAMETERS

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, without the norms."""
        return self._decoder.weight_bytes

    def new_sequence(self, capacity: int = 0) -> PagedSequence:
        """An empty sequence."""
        del capacity
        most = self.cache_shape.max_tokens
        return PagedSequence(self._kernels, self._store, most, self._mode is None)

    def reusable(
        self, ids: Sequence[int], start: int, sequences: Iterable[PagedSequence]
    ) -> list[Stretch]:
        """See `Network.reusable`."""
        return [] if self._mode is None else reusable(ids, start, sequences, self._mode)

    def exact_pages(self, ids: Sequence[int], sequences: Iterable[PagedSequence]) -> list[Page]:
        """See `Network.exact_pages`."""
        best: list[Page] = []
        for sequence in sequences:
            shared = min(common_prefix(sequence.ids, ids), sequence.exact)
            if shared // PAGE_TOKENS > len(best):
                best = sequence.pages[: shared // PAGE_TOKENS]
        return best

    def archive(self, folder: Path, manifest: Mapping[str, Any]) -> PageArchive | None:
        """See `Network.archive`; only models whose files are known by checksums."""
        files = manifest.get("files")
        if not files:
            return None
        facts = [files, str(self.cache_shape), asdict(self._kernels.shape), PAGE_TOKENS]
        text = json.dumps(facts, sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        return PageArchive(folder / fingerprint[:16], fingerprint, self._store.page_bytes)

    def forward(self, ids: list[int], sequence: PagedSequence, all_logits: bool = False) -> Tensor:
        """See `Decoder.forward`."""
        keep = len(ids) if all_logits else 1
        (logits,) = self.compute([Pass(ids, sequence, keep)])
        return logits if all_logits else logits[0]

    def compute(self, passes: Sequence[Pass]) -> list[Tensor]:
        """See `Network.compute`; all in one."""
        before = [len(one.sequence) for one in passes]
        for one, length in zip(passes, before, strict=True):
            attached = sum(stretch.end - stretch.start for stretch in one.moved)
            one.sequence.reserve(length + len(one.ids) + attached)
        together = [token for one in passes for token in one.ids]
        x = F.embedding(torch.tensor(together), self._decoder.embedding).float()
        alone = self._small and len(together) <= ALONE_TOKENS
        stop = passes[0].stop if len(passes) == 1 else None
        logits = None
        try:
            runs = [run for one in passes for run in self._runs(one)]
            logits = self._kernels.forward(x, runs, alone, stop)
        finally:
            if logits is None:
                for one, length in zip(passes, before, strict=True):
                    one.sequence.truncate(length)
        if logits is None:
            raise Interrupted
        return list(torch.split(logits, [one.keep for one in passes]))

    def _runs(self, one: Pass) -> list[Run]:
        """Of a pass: the tokens before each of its stretches, and behind the last one.

        Its sequence then ends behind all of them. In each layer all keys and values are made before
        any token looks at them, so that runs of one sequence can be computed together.
        """
        sequence, rotary, runs, at = one.sequence, self._decoder.rotary, [], 0
        for stretch in one.moved:
            count = stretch.start - len(sequence)
            if count:
                runs.append(sequence.run(one.ids[at : at + count], rotary, 0))
            at += count
            sequence.attach(stretch.pages, stretch.end)
        if at < len(one.ids):
            runs.append(sequence.run(one.ids[at:], rotary, one.keep))
        return runs


def kv_bits(kv_cache: str) -> int:
    """Of keys and values that are held as that; raises `CheckpointError` for another word."""
    if kv_cache not in KV_BITS:
        raise CheckpointError(f"kv_cache {kv_cache!r} is unknown; use {' or '.join(KV_BITS)}")
    return KV_BITS[kv_cache]


def native_model(decoder: Decoder, reuse: str = "exact", kv_bits: int = 16) -> NativeModel | None:
    """The decoder in the kernels, None where one of its blocks is not to be had there."""
    c = decoder.config
    shape = DecoderShape(
        c.hidden_size, c.num_heads, c.num_kv_heads, c.head_dim, c.rotary_dim, c.vocab_size,
        c.rms_norm_eps, 1.0 if c.yarn is None else c.yarn.scale, kv_bits,
    )  # fmt: skip
    if not shape.fits or not isinstance(decoder.head, TiledLinear) or decoder.head.bias is not None:
        return None
    layers = [described for layer in decoder.layers if (described := _layer(layer)) is not None]
    if len(layers) < len(decoder.layers):
        return None
    native: Native = decoder.head.native
    frequency = frequencies(c.rotary_dim, c.rope_theta, c.yarn)
    kernels = NativeDecoder(native, shape, layers, decoder.norm, _matrix(decoder.head), frequency)
    if PREFAULT_FROM_BYTES < decoder.weight_bytes < PREFAULT_SHARE * available_bytes():
        prefault(kernels.weights, available_bytes)
    return NativeModel(decoder, kernels, reuse)


def _layer(layer: Layer) -> DecoderLayer | None:
    mixer, mlp = layer.mixer, layer.mlp
    if not isinstance(mixer, Attention) or mixer.gated:
        return None
    if not isinstance(mixer.qkv, TiledLinear) or not isinstance(mixer.out, TiledLinear):
        return None
    parts = _mlp(mlp) if isinstance(mlp, DenseMlp | SparseMlp) else None
    if parts is None:
        return None
    gate_up, down, router, experts, size, top_k, renormalize = parts
    norms = mixer.qk_norm
    return DecoderLayer(
        input_norm=layer.input_norm,
        post_norm=layer.post_norm,
        query_norm=None if norms is None else norms[0],
        key_norm=None if norms is None else norms[-1],
        qkv=_matrix(mixer.qkv),
        qkv_bias=mixer.qkv.bias,
        out=_matrix(mixer.out),
        out_bias=mixer.out.bias,
        router=router,
        gate_up=gate_up,
        down=down,
        experts=experts,
        size=size,
        top_k=top_k,
        renormalize=renormalize,
    )


def _mlp(
    mlp: DenseMlp | SparseMlp,
) -> tuple[TiledMatrix, TiledMatrix, Tensor | None, int, int, int, bool] | None:
    """Gate and up, down, router, experts, their width, top-k and whether weights are renormalized."""
    if isinstance(mlp, DenseMlp):
        first, second = mlp.gate_up, mlp.down
        if not isinstance(first, TiledLinear) or not isinstance(second, TiledLinear):
            return None
        return _matrix(first), _matrix(second), None, 1, second.shape.columns, 1, False
    e = mlp.experts
    if not isinstance(e, TiledExperts) or mlp.shared is not None:
        return None
    gate_up, down = TiledMatrix(e.gate_up, e.first), TiledMatrix(e.down, e.second)
    count = e.gate_up.shape[0]
    return gate_up, down, mlp.router, count, e.second.columns, mlp.top_k, mlp.renormalize


def _matrix(linear: Linear) -> TiledMatrix:
    assert isinstance(linear, TiledLinear)
    return TiledMatrix(linear.data, linear.shape, linear.residual)

"""The whole forward pass of a decoder in the compiled kernels: one call a decode step.

Owns: describing weights, pages and tokens to the library (`native/decoder.hpp`). What is computed is
what `model/decoder.py` computes in PyTorch, with activations rounded to int8 before each product and
keys and values in float16 or int8. A token's result depends on nothing but the tokens it sees and how they
lie in pages: not on chunks, on the other sequences of a batch, or on the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcoder.kernels.native_library import Native
from qcoder.kernels.rotary import rotary_rows
from qcoder.kernels.tiled import TiledShape

PAGE_TOKENS = 32
"""Tokens of a page of keys and values."""

LARGEST_HEAD = 256

KEY_GROUP = 32
"""Columns of an int8 key that share a scale; a value has one scale."""

MOST_TURNS = 65536
"""Rotations of pages that are kept: a few hundred bytes each."""

PAGE_ENTRY = np.dtype([("data", np.uint64), ("turn", np.uint64), ("count", np.int64)])
"""A row of a sequence's page table: address of the page, of its position's rotation, tokens in use."""


@dataclass(frozen=True, slots=True, eq=False)
class TiledMatrix:
    """A matrix as tiles (`tiled.py`); several of one shape behind each other for experts.

    residual: the second plane of a head, None where there is one.
    """

    data: Tensor
    shape: TiledShape
    residual: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DecoderLayer:
    """One layer. Norms, biases [rows] and the router [experts, hidden] are float32.

    qkv: query, key and value rows; gate_up: experts of [2 * size, hidden]; a dense MLP is one expert
    without a router.
    """

    input_norm: Tensor
    post_norm: Tensor
    query_norm: Tensor | None
    key_norm: Tensor | None
    qkv: TiledMatrix
    qkv_bias: Tensor | None
    out: TiledMatrix
    out_bias: Tensor | None
    router: Tensor | None
    gate_up: TiledMatrix
    down: TiledMatrix
    experts: int
    size: int
    top_k: int
    renormalize: bool


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes that all layers share; `rotary_scale` is YaRN's, which the tables of cos and sin have.

    kv_bits: of keys and values, 16 (float16) or 8 (int8 with float16 scales).
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    vocab: int
    eps: float
    rotary_scale: float = 1.0
    kv_bits: int = 16

    @property
    def fits(self) -> bool:
        """Whether the kernels take these sizes."""
        return (
            self.head_dim % 32 == 0
            and self.rotary_dim % 32 == 0
            and self.head_dim <= LARGEST_HEAD
            and self.heads % self.kv_heads == 0
            and self.kv_bits in (8, 16)
        )

    def page_bytes(self, layers: int) -> int:
        """Bytes of a page: keys and values of all layers, in int8 with their scales."""
        head_bytes = PAGE_TOKENS * self.kv_bits // 4 * self.head_dim
        if self.kv_bits == 8:
            head_bytes += PAGE_TOKENS * 2 * (self.head_dim // KEY_GROUP + 1)
        return layers * self.kv_heads * head_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """New tokens of one sequence.

    pages: [n] of `PAGE_ENTRY`, counts including the new tokens; entries, places: [tokens] int64, where
    each token goes; limits: [tokens] int64, how many of the pages' tokens it sees, itself included;
    cos, sin: [tokens, rotary_dim] of its position (`rotary.py`); kept: [m] int64, which of these tokens
    want logits.
    """

    pages: np.ndarray
    entries: np.ndarray
    places: np.ndarray
    limits: np.ndarray
    cos: Tensor
    sin: Tensor
    kept: np.ndarray


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "input_norm", "post_norm", "query_norm", "key_norm", "qkv_bias", "out_bias", "router",
            "qkv", "out", "gate_up", "down",
        )),
        *((name, ctypes.c_int64) for name in ("experts", "size", "top_k")),
        *((name, ctypes.c_int32) for name in (
            "qkv_bits", "qkv_group", "out_bits", "out_group", "up_bits", "up_group", "down_bits",
            "down_group",
        )),
        ("renormalize", ctypes.c_int64),
    )  # fmt: skip


class _Model(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_int64) for name in (
            "layer_count", "hidden", "heads", "kv_heads", "head_dim", "rotary_dim", "vocab",
        )),
        *((name, ctypes.c_void_p) for name in (
            "norm", "head", "head_residual", "page_cos", "page_sin",
        )),
        ("eps", ctypes.c_float),
        ("rotary_scale", ctypes.c_float),
        ("head_bits", ctypes.c_int32),
        ("head_group", ctypes.c_int32),
        ("kv_bits", ctypes.c_int64),
    )  # fmt: skip


class _Run(ctypes.Structure):
    _fields_ = (
        ("pages", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("page_count", "first", "count")),
    )


_STOP = ctypes.CFUNCTYPE(ctypes.c_int)


class _Batch(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_void_p),
        ("tokens", ctypes.c_int64),
        ("runs", ctypes.POINTER(_Run)),
        ("run_count", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("entries", "places", "limits", "cos", "sin", "kept")
        ),
        ("kept_count", ctypes.c_int64),
        ("logits", ctypes.c_void_p),
        ("stop", _STOP),
    )


class NativeDecoder:
    """The weights of a model, described once; calls from several threads take turns."""

    def __init__(
        self,
        native: Native,
        shape: DecoderShape,
        layers: Sequence[DecoderLayer],
        norm: Tensor,
        head: TiledMatrix,
        frequency: Tensor,
    ) -> None:
        """`frequency`: [rotary_dim / 2] float64 radians a position. Raises `ValueError` for sizes."""
        if not shape.fits:
            raise ValueError(f"no kernels for {shape}")
        self.native, self.shape, self.layers = native, shape, tuple(layers)
        self.head, self.frequency = head, frequency
        self._turns: dict[int, Tensor] = {}
        places = rotary_rows(frequency, 1.0, 0, PAGE_TOKENS)
        self._held: list[object] = []  # what is pointed at besides the layers' matrices
        described = (_Layer * len(layers))(*(self._layer(layer) for layer in layers))
        self._model = _Model(
            layers=described,
            layer_count=len(layers),
            hidden=shape.hidden,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            rotary_dim=shape.rotary_dim,
            vocab=shape.vocab,
            norm=self._floats(norm),
            head=head.data.data_ptr(),
            head_residual=None if head.residual is None else head.residual.data_ptr(),
            page_cos=self._floats(places[0]),
            page_sin=self._floats(places[1]),
            eps=shape.eps,
            rotary_scale=shape.rotary_scale,
            head_bits=head.shape.bits,
            head_group=head.shape.group,
            kv_bits=shape.kv_bits,
        )

    @property
    def weights(self) -> list[Tensor]:
        """The matrices, in the order in which they are read."""
        parts = [(x.qkv, x.out, x.gate_up, x.down) for x in self.layers]
        return [matrix.data for layer in parts for matrix in layer] + [self.head.data]

    @property
    def page_bytes(self) -> int:
        """Bytes of a page."""
        return self.shape.page_bytes(len(self.layers))

    def turn(self, position: int) -> Tensor:
        """What a page that begins at `position` needs: cos, then sin, [rotary_dim] float32."""
        found = self._turns.get(position)
        if found is None:
            if len(self._turns) >= MOST_TURNS:
                self._turns.clear()  # sequences hold those that they use
            angles = self.frequency * position
            found = self._turns[position] = torch.cat([angles.cos(), angles.sin()]).float()
        return found

    def forward(
        self,
        x: Tensor,
        runs: Sequence[Run],
        alone: bool = False,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor | None:
        """Logits [kept tokens, vocab] of embeddings x [tokens, hidden] float32, which are overwritten.

        Tokens lie in the order of `runs`; their keys and values go into the pages. `alone` uses the
        calling thread only. None when `stop`, which is asked before each layer, said so.
        """
        first, described, kept = 0, [], []
        for run in runs:
            pages = run.pages.ctypes.data
            described.append(_Run(pages, len(run.pages), first, len(run.entries)))
            kept.append(run.kept + first)
            first += len(run.entries)
        one = len(runs) == 1
        entries, places, limits = (
            getattr(runs[0], name) if one else np.concatenate([getattr(r, name) for r in runs])
            for name in ("entries", "places", "limits")
        )
        cos, sin = (
            (part[0] if one else torch.cat(part)).contiguous()
            for part in ([run.cos for run in runs], [run.sin for run in runs])
        )
        all_kept = np.concatenate(kept)
        limits = limits.copy()  # the kernels move them
        logits = torch.empty(len(all_kept), self.shape.vocab)
        batch = _Batch(
            x=x.data_ptr(),
            tokens=x.shape[0],
            runs=(_Run * len(described))(*described),
            run_count=len(described),
            entries=entries.ctypes.data,
            places=places.ctypes.data,
            limits=limits.ctypes.data,
            cos=cos.data_ptr(),
            sin=sin.data_ptr(),
            kept=all_kept.ctypes.data,
            kept_count=len(all_kept),
            logits=logits.data_ptr(),
            stop=_STOP() if stop is None else _STOP(lambda: int(stop())),
        )
        done = self.native.forward(ctypes.byref(self._model), ctypes.byref(batch), alone)
        return logits if done else None

    def _layer(self, layer: DecoderLayer) -> _Layer:
        return _Layer(
            **{
                name: self._floats(getattr(layer, name))
                for name in (
                    "input_norm", "post_norm", "query_norm", "key_norm", "qkv_bias", "out_bias",
                    "router",
                )
            },
            qkv=layer.qkv.data.data_ptr(),
            out=layer.out.data.data_ptr(),
            gate_up=layer.gate_up.data.data_ptr(),
            down=layer.down.data.data_ptr(),
            experts=layer.experts,
            size=layer.size,
            top_k=layer.top_k,
            qkv_bits=layer.qkv.shape.bits,
            qkv_group=layer.qkv.shape.group,
            out_bits=layer.out.shape.bits,
            out_group=layer.out.shape.group,
            up_bits=layer.gate_up.shape.bits,
            up_group=layer.gate_up.shape.group,
            down_bits=layer.down.shape.bits,
            down_group=layer.down.shape.group,
            renormalize=layer.renormalize,
        )  # fmt: skip

    def _floats(self, tensor: Tensor | None) -> int | None:
        """The address of a float32 copy that lives as long as this."""
        if tensor is None:
            return None
        held = tensor.float().contiguous()
        self._held.append(held)
        return held.data_ptr()

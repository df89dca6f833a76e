"""A loaded decoder's weights in the forms that the GPU kernels read; integers stay what they are.

int4 and int8 (tiles, or rows with a scale a group) and FP8 blocks are repacked; everything else becomes floats
of the kernels' type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT_TORCH
from qcoder.kernels.gpu.delta_net import GpuDeltaNet
from qcoder.kernels.gpu.heads import Heads
from qcoder.kernels.gpu.matrix import FP8_BLOCK, SPAN, GpuMatrix, pack_int4
from qcoder.kernels.gpu.router import Router
from qcoder.kernels.int4_linear import unpack_int4
from qcoder.kernels.tiled import OFFSETS, TILE_ROWS, TiledShape, quantize, tile_values
from qcoder.model.attention import Attention
from qcoder.model.decoder import Decoder, Layer
from qcoder.model.delta_net import DeltaNet
from qcoder.model.linear import FloatExperts, Linear, MatrixExperts, MatrixLinear
from qcoder.model.matrix import Above, Floats, Matrix, Rows, Tiles, TwoPlanes
from qcoder.model.mlp import DenseMlp, SparseMlp
from qcoder.model.tiled_layers import TiledExperts, TiledLinear

SLICE_WEIGHTS = 1 << 24
"""Weights that are floats at a time."""

MANY_SPAN = 128
"""Columns that int4 of many tokens takes at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class GpuAttention:
    """An attention layer; slot: its place among the layers that have pages."""

    slot: int
    heads: Heads
    qkv: GpuMatrix
    bias: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class GpuDelta:
    """A gated DeltaNet layer; slot: its place among the layers that have a state."""

    slot: int
    layer: GpuDeltaNet
    qkvz: GpuMatrix
    ba: GpuMatrix


@dataclass(frozen=True, slots=True, eq=False)
class GpuLayer:
    """One layer. Without a router there is one expert for all tokens."""

    input_norm: Tensor
    mixer: GpuAttention | GpuDelta
    out: GpuMatrix
    out_bias: Tensor | None
    post_norm: Tensor
    router: Router | None
    gate_up: GpuMatrix
    down: GpuMatrix


@dataclass(frozen=True, slots=True, eq=False)
class GpuWeights:
    """All of a model; embedding: [vocab, hidden]."""

    embedding: Tensor
    layers: tuple[GpuLayer, ...]
    norm: Tensor
    head: GpuMatrix

    @property
    def size_bytes(self) -> int:
        """Memory of the matrices."""
        parts = [(x.out, x.gate_up, x.down) for x in self.layers]
        mixers = [
            (x.mixer.qkv,) if isinstance(x.mixer, GpuAttention) else (x.mixer.qkvz, x.mixer.ba)
            for x in self.layers
        ]
        matrices = [self.head, *(m for part in (*parts, *mixers) for m in part)]
        return self.embedding.nbytes + sum(m.size_bytes for m in matrices)


def gpu_weights(decoder: Decoder, device: torch.device) -> GpuWeights:
    """Repack layer by layer and move to `device`."""
    return GpuWeights(
        decoder.embedding.to(device, DOT_TORCH),
        tuple(_layer(layer, device) for layer in decoder.layers),
        _floats(decoder.norm, device),
        linear_matrix(decoder.head).to(device),
    )


def _layer(layer: Layer, device: torch.device) -> GpuLayer:
    mixer, mlp = layer.mixer, layer.mlp
    assert isinstance(mlp, DenseMlp | SparseMlp)
    post_norm = _floats(layer.post_norm, device)
    eps = mixer.eps if isinstance(mixer, Attention | DeltaNet) else 0.0
    made: GpuAttention | GpuDelta
    if isinstance(mixer, Attention):
        made = _attention(mixer, device)
    else:
        assert isinstance(mixer, DeltaNet)
        made = _delta(mixer, device)
    router = _router(mlp, post_norm, eps) if isinstance(mlp, SparseMlp) else None
    gate_up, down = mlp_matrices(mlp)
    return GpuLayer(
        _floats(layer.input_norm, device), made, linear_matrix(mixer.out).to(device),
        _bias(mixer.out, device), post_norm, router, gate_up.to(device), down.to(device),
    )  # fmt: skip


def _attention(mixer: Attention, device: torch.device) -> GpuAttention:
    norms = mixer.qk_norm
    q_norm = None if norms is None else _floats(norms[0], device)
    k_norm = None if norms is None else _floats(norms[-1], device)
    heads = Heads(
        mixer.heads, mixer.kv_heads, mixer.head_dim, mixer.eps, q_norm, k_norm, mixer.gated
    )
    return GpuAttention(
        mixer.slot, heads, linear_matrix(mixer.qkv).to(device), _bias(mixer.qkv, device)
    )


def _delta(mixer: DeltaNet, device: torch.device) -> GpuDelta:
    s = mixer.shape
    layer = GpuDeltaNet(
        s.key_heads, s.value_heads, s.key_dim, s.value_dim, mixer.conv.to(device).contiguous(),
        _floats(mixer.rate, device), _floats(mixer.dt_bias, device), _floats(mixer.norm, device),
        mixer.eps,
    )  # fmt: skip
    qkvz, ba = linear_matrix(mixer.qkvz).to(device), linear_matrix(mixer.ba).to(device)
    return GpuDelta(mixer.slot, layer, qkvz, ba)


def _router(mlp: SparseMlp, norm: Tensor, eps: float) -> Router:
    shared = None if mlp.shared is None else _floats(mlp.shared.gate[0], norm.device)
    weight = mlp.router.t().contiguous().to(norm.device, DOT_TORCH)
    return Router(weight, norm, eps, mlp.top_k, mlp.renormalize, shared)


def mlp_matrices(mlp: DenseMlp | SparseMlp) -> tuple[GpuMatrix, GpuMatrix]:
    """Gate and up, and down, of all experts; the one for all tokens is the last."""
    if isinstance(mlp, DenseMlp):
        return _stack([linear_matrix(mlp.gate_up)]), _stack([linear_matrix(mlp.down)])
    firsts, seconds = _experts(mlp)
    if mlp.shared is not None:
        firsts.append(linear_matrix(mlp.shared.mlp.gate_up))
        seconds.append(linear_matrix(mlp.shared.mlp.down))
    return _stack(firsts), _stack(seconds)


def _experts(mlp: SparseMlp) -> tuple[list[GpuMatrix], list[GpuMatrix]]:
    e = mlp.experts
    if isinstance(e, TiledExperts):
        pairs = zip(e.gate_up, e.down, strict=True)
        found = [(_tiles(first, e.first), _tiles(second, e.second)) for first, second in pairs]
    elif isinstance(e, MatrixExperts):
        found = [(gpu_matrix(first), gpu_matrix(second)) for first, second in e.matrices]
    else:
        assert isinstance(e, FloatExperts)
        pairs = zip(e.gate_up, e.down, strict=True)
        found = [(_plain(first), _plain(second)) for first, second in pairs]
    return [first for first, _ in found], [second for _, second in found]


def linear_matrix(linear: Linear) -> GpuMatrix:
    """The matrix of a layer."""
    if isinstance(linear, TiledLinear):
        first = Tiles(linear.data.flatten(), linear.shape)
        if linear.residual is None:
            return gpu_matrix(first)
        return gpu_matrix(TwoPlanes(first, Tiles(linear.residual.flatten(), linear.shape)))
    if isinstance(linear, MatrixLinear):
        return gpu_matrix(linear.matrix)
    return _plain(linear.weight)


def gpu_matrix(matrix: Matrix) -> GpuMatrix:
    """One matrix, integers as they are where the kernels have them."""
    if isinstance(matrix, Above):
        return _joined([gpu_matrix(part) for part in matrix.parts])
    if isinstance(matrix, Tiles):
        return _tiles(matrix.data, matrix.shape)
    if isinstance(matrix, TwoPlanes):
        return _planes(matrix)
    if isinstance(matrix, Rows) and matrix.order is None:
        made = _rows(matrix)
        if made is not None:
            return made
    if isinstance(matrix, Floats):
        return _plain(matrix.weight)
    return _plain(matrix.floats(0, matrix.out_size))


def _rows(matrix: Rows) -> GpuMatrix | None:
    """None where a group or the columns do not fit the kernels."""
    columns = matrix.data.shape[-1] * (2 if matrix.is_int4 else 1)
    groups = matrix.scale.shape[1]
    group = columns // groups
    if columns % groups:
        return None
    if matrix.is_int4:
        if group % SPAN or columns % MANY_SPAN:
            return None
        words = pack_int4(unpack_int4(matrix.data))
        return GpuMatrix("int4", words, columns, matrix.scale.float(), _float(matrix.offset), group)
    if matrix.data.dtype == torch.int8 and group % 32 == 0:
        return GpuMatrix("int8", matrix.data, columns, matrix.scale.float(), group=group)
    if matrix.data.dtype == torch.float8_e4m3fn and matrix.group == FP8_BLOCK:
        blocks = matrix.scale[::FP8_BLOCK]
        wide = blocks.repeat_interleave(FP8_BLOCK, 0)[: matrix.out_size]
        if torch.equal(wide, matrix.scale):
            return GpuMatrix("fp8", matrix.data, columns, blocks.float(), group=FP8_BLOCK)
    return None


def _tiles(data: Tensor, shape: TiledShape) -> GpuMatrix:
    values, scales = tile_values(data, shape)
    if shape.bits == 8:
        signed = (values.to(torch.int16) - OFFSETS[8]).to(torch.int8)
        return GpuMatrix("int8", signed, shape.columns, scales.float(), group=shape.group)
    made = GpuMatrix("int4", pack_int4(values), shape.columns, scales.float(), group=shape.group)
    return made if shape.columns % MANY_SPAN == 0 else _plain(made.floats())


def _planes(matrix: TwoPlanes) -> GpuMatrix:
    """int8, which the two planes are as exact as."""
    group, columns = matrix.first.shape.group, matrix.first.shape.columns
    step = max(TILE_ROWS, SLICE_WEIGHTS // columns // TILE_ROWS * TILE_ROWS)
    parts = []
    for start in range(0, matrix.out_size, step):
        rows = matrix.floats(start, min(start + step, matrix.out_size))
        values, scale = quantize(rows, 8, group)
        signed = (values.to(torch.int16) - OFFSETS[8]).to(torch.int8)
        parts.append(GpuMatrix("int8", signed, columns, scale.float(), group=group))
    return _together(parts, torch.cat)


def _plain(weight: Tensor) -> GpuMatrix:
    return GpuMatrix("float", weight.to(DOT_TORCH).contiguous(), weight.shape[-1])


def _stack(matrices: list[GpuMatrix]) -> GpuMatrix:
    """[experts, rows, columns]."""
    return _together(matrices, torch.stack)


def _joined(parts: list[GpuMatrix]) -> GpuMatrix:
    """Matrices above each other; FP8 blocks must not be cut."""
    if any(p.kind == "fp8" and p.rows % FP8_BLOCK for p in parts[:-1]):
        parts = [_plain(p.floats()) for p in parts]
    return _together(parts, torch.cat)


def _together(parts: list[GpuMatrix], join: Callable[[list[Tensor]], Tensor]) -> GpuMatrix:
    first = parts[0]
    kinds = {(p.kind, p.group, p.offset is None) for p in parts}
    if len(kinds) > 1:
        parts = [_plain(p.floats()) for p in parts]
        first = parts[0]
    scales = [p.scale for p in parts if p.scale is not None]
    offsets = [p.offset for p in parts if p.offset is not None]
    return GpuMatrix(
        first.kind, join([p.data for p in parts]).contiguous(), first.columns,
        join(scales) if scales else None, join(offsets) if offsets else None, first.group,
    )  # fmt: skip


def _bias(linear: Linear, device: torch.device) -> Tensor | None:
    bias: Tensor | None = getattr(linear, "bias", None)
    return None if bias is None else _floats(bias, device)


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()


def _floats(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, torch.float32).contiguous()

"""A gated DeltaNet layer of few tokens in one launch: all between its input and its output projection.

    q, k, v = silu(causal_conv(q | k | v));  q, k = unit(q) / sqrt(key_dim), unit(k)
    S = a S + k u^T,  u = b (v - a S^T k),  o = S^T q;   y = norm(o) * silu(z)

with a = exp(rate * softplus(a' + dt_bias)) and b = sigmoid(b'). One program takes one value head of one
sequence: its memory S stays in registers for all tokens of the sequence and is read and written once.
S^T k and S^T q are summed in one pass over the old S, since  S'^T q = a S^T q + (k . q) u.

A value head keeps its own copy of the last inputs of its key head's channels, so that no program reads
what another one writes: a tenth of a percent of the state. Where a sequence must be able to go back
(drafts that may be refused), each token's state is kept in a slot of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.causal_conv import causal_conv_reference
from qcoder.kernels.delta_net import L2_EPS, gated_delta_rule_reference
from qcoder.kernels.gpu.configs import Config
from qcoder.kernels.gpu.launch import launch

STEP = Config(block_n=128, block_k=128, warps=8, stages=1)
"""A memory of 128 x 128 is 64 registers a thread."""


@dataclass(frozen=True, slots=True, eq=False)
class GpuDeltaNet:
    """What a layer has between its projections; the fields are those of the layer on the CPU."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: Tensor  # [channels, taps]: all of q, then k, then v
    rate: Tensor  # [value_heads] float32: -exp(A_log)
    dt_bias: Tensor  # [value_heads] float32
    norm: Tensor  # [value_dim]
    eps: float

    def __post_init__(self) -> None:
        assert self.value_heads % self.key_heads == 0
        assert self.conv.shape == (self.channels, self.taps)
        assert self.conv.is_contiguous()

    @property
    def group(self) -> int:
        """Value heads that a key head serves."""
        return self.value_heads // self.key_heads

    @property
    def taps(self) -> int:
        """Inputs that the convolution sees."""
        return self.conv.shape[1]

    @property
    def channels(self) -> int:
        """Width of q, k and v together."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    @property
    def width(self) -> int:
        """Width of the input projection: q, k, v and z."""
        return self.channels + self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True, eq=False)
class DeltaNetStates:
    """What many sequences remember of one layer, a slot each; written in place.

    memory: [slots, value_heads, key_dim, value_dim] float32.
    history: [slots, value_heads, taps - 1, 2 * key_dim + value_dim] float32: the last inputs of the
    convolution, oldest first, of q, k and v of each value head.
    """

    memory: Tensor
    history: Tensor

    @staticmethod
    def empty(layer: GpuDeltaNet, slots: int, device: torch.device | str) -> DeltaNetStates:
        """Slots of sequences that have not begun."""
        heads, width = layer.value_heads, 2 * layer.key_dim + layer.value_dim
        return DeltaNetStates(
            torch.zeros(slots, heads, layer.key_dim, layer.value_dim, device=device),
            torch.zeros(slots, heads, layer.taps - 1, width, device=device),
        )


def split_qkvz(layer: GpuDeltaNet, qkvz: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k: [tokens, key_heads, key_dim]; v, z: [tokens, value_heads, value_dim]."""
    tokens, served = qkvz.shape[0], layer.group * layer.value_dim
    groups = qkvz.view(tokens, layer.key_heads, -1)
    q, k, v, z = torch.split(groups, [layer.key_dim, layer.key_dim, served, served], dim=-1)
    shape = (tokens, layer.value_heads, layer.value_dim)
    return q, k, v.reshape(shape), z.reshape(shape)


def delta_net_reference(
    qkvz: Tensor, ba: Tensor, layer: GpuDeltaNet, memory: Tensor, history: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of one sequence: y [tokens, value_heads * value_dim], new memory, new history; float32.

    qkvz: [tokens, width], by key head its q, its k, then v and z of the value heads that it serves;
    ba: [tokens, 2 * value_heads] likewise, b before a. memory, history: one slot of `DeltaNetStates`.
    """
    tokens, group, size = qkvz.shape[0], layer.group, layer.key_dim
    q, k, v, z = split_qkvz(layer, qkvz.float())
    b, a = (
        half.reshape(tokens, -1)
        for half in ba.float().view(tokens, layer.key_heads, -1).chunk(2, dim=-1)
    )
    before = history.transpose(0, 1).float()  # [taps - 1, value_heads, 2 * key_dim + value_dim]
    once = before[:, ::group]
    olds = (once[..., :size], once[..., size : 2 * size], before[..., 2 * size :])
    mixed, after = causal_conv_reference(
        torch.cat([part.flatten(1) for part in (q, k, v)], dim=-1),
        layer.conv.float(),
        torch.cat([part.flatten(1) for part in olds], dim=-1),
    )
    sizes = [q[0].numel(), k[0].numel(), v[0].numel()]
    q, k, v = (
        part.view(part.shape[0], -1, dim)
        for part, dim in zip(
            F.silu(mixed).split(sizes, dim=-1), (size, size, layer.value_dim), strict=True
        )
    )
    new_q, new_k, new_v = (part.unflatten(1, (-1, dim)) for part, dim in zip(
        after.split(sizes, dim=-1), (size, size, layer.value_dim), strict=True
    ))  # fmt: skip
    repeated = [part.repeat_interleave(group, dim=1) for part in (new_q, new_k)]
    decay = layer.rate.float() * F.softplus(a + layer.dt_bias.float())
    y, memory = gated_delta_rule_reference(q, k, v, decay, torch.sigmoid(b), memory.float())
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + layer.eps) * layer.norm.float()
    y = (y * F.silu(z)).flatten(1)
    return y, memory, torch.cat([*repeated, new_v], dim=-1).transpose(0, 1).contiguous()


def delta_net_step(
    qkvz: Tensor,
    ba: Tensor,
    layer: GpuDeltaNet,
    states: DeltaNetStates,
    starts: Tensor,
    slots: Tensor,
    kept: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """`delta_net_reference` for the next tokens of many sequences: [tokens, value_heads * value_dim].

    starts: [sequences + 1] int32, where the tokens of each begin; slots: [sequences] int32, where
    its state is; kept: [tokens] int32, the slot that gets the state behind a token, or -1. Only a
    sequence's last token may write where it is read from, and no slot is another sequence's.
    """
    tokens, dims = qkvz.shape[0], (layer.key_dim, layer.value_dim)
    assert qkvz.is_contiguous()
    assert qkvz.shape[1] == layer.width
    assert ba.is_contiguous()
    assert ba.shape == (tokens, 2 * layer.value_heads)
    assert states.memory.is_contiguous()
    assert states.history.is_contiguous()
    assert all(dim & (dim - 1) == 0 for dim in dims), "dimensions must be powers of two"
    width = layer.value_heads * layer.value_dim
    out = torch.empty(tokens, width, device=qkvz.device) if out is None else out
    launch(
        _step_kernel, (layer.value_heads, slots.shape[0]), STEP,
        qkvz, ba, layer.conv, layer.rate, layer.dt_bias, layer.norm, states.memory, states.history,
        starts, slots, kept, out, layer.eps, L2_EPS,
        KEY_HEADS=layer.key_heads, GROUP=layer.group, KEY_DIM=layer.key_dim,
        VALUE_DIM=layer.value_dim, TAPS=layer.taps,
        WINDOW=max(STEP.warps, triton.next_power_of_2(layer.taps)),
    )  # fmt: skip
    return out


@triton.jit
def silu(x):
    """x * sigmoid(x)."""
    return x * tl.sigmoid(x)


@triton.jit
def log_decay(rate, a):
    """rate * softplus(a): the logarithm of what a memory keeps.

    log(1 + y) for y = exp(-|a|) by Kahan's way: exact where 1 + y rounds.
    """
    y = tl.exp(-tl.abs(a))
    rounded = 1.0 + y
    change = rounded - 1.0
    log1p = tl.where(change == 0.0, y, tl.log(rounded) * (y / tl.where(change == 0.0, 1.0, change)))
    return rate * (tl.maximum(a, 0.0) + log1p)


@triton.jit
def past_inputs(
    x_ptr, stride, x_at, history_ptr, history_at, s, mask, TAPS: tl.constexpr, WIDTH: tl.constexpr
):
    """Inputs of the convolution at token s of the pass, float32; before 0 they are in the history.

    x_at and history_at are the columns, which s broadcasts with; s is at least 1 - TAPS where `mask`.
    """
    new = tl.load(x_ptr + s * stride + x_at, mask=mask & (s >= 0), other=0.0).to(tl.float32)
    past = history_ptr + (s + TAPS - 1) * WIDTH + history_at
    return new + tl.load(past, mask=mask & (s < 0), other=0.0)


@triton.jit
def _step_kernel(
    qkvz_ptr, ba_ptr, conv_ptr, rate_ptr, dt_ptr, norm_ptr, memory_ptr, history_ptr,
    starts_ptr, slots_ptr, kept_ptr, out_ptr, eps, unit_eps,
    KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    TAPS: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    HEADS: tl.constexpr = KEY_HEADS * GROUP
    SERVED: tl.constexpr = 2 * KEY_DIM + 2 * GROUP * VALUE_DIM
    WIDTH: tl.constexpr = 2 * KEY_DIM + VALUE_DIM
    MEMORY: tl.constexpr = KEY_DIM * VALUE_DIM
    PAST: tl.constexpr = (TAPS - 1) * WIDTH
    head = tl.program_id(0)
    start = tl.load(starts_ptr + tl.program_id(1))
    end = tl.load(starts_ptr + tl.program_id(1) + 1)
    place = tl.load(slots_ptr + tl.program_id(1)).to(tl.int64) * HEADS + head
    i, j = tl.arange(0, KEY_DIM), tl.arange(0, VALUE_DIM)
    at = i[:, None] * VALUE_DIM + j[None, :]
    memory = tl.load(memory_ptr + place * MEMORY + at)

    # The convolution's inputs are tiles [WINDOW, dim], oldest first. WINDOW is more than TAPS so that
    # they lie in the threads as the memory does: otherwise the compiler holds it twice.
    group, member = head // GROUP, head % GROUP
    row = KEY_HEADS * SERVED
    x_ptr = qkvz_ptr + start.to(tl.int64) * row + group * SERVED
    past_ptr = history_ptr + place * PAST
    tap = tl.arange(0, WINDOW)[:, None]
    inside = tap < TAPS
    qi, vj = i[None, :], j[None, :]
    v_at = 2 * KEY_DIM + member * VALUE_DIM
    taps_ptr = conv_ptr + tap
    q_taps = taps_ptr + (group * KEY_DIM + qi) * TAPS
    q_weight = tl.load(q_taps, mask=inside, other=0.0).to(tl.float32)
    k_taps = q_taps + KEY_HEADS * KEY_DIM * TAPS
    k_weight = tl.load(k_taps, mask=inside, other=0.0).to(tl.float32)
    v_taps = taps_ptr + (2 * KEY_HEADS * KEY_DIM + head * VALUE_DIM + vj) * TAPS
    v_weight = tl.load(v_taps, mask=inside, other=0.0).to(tl.float32)
    rate, dt = tl.load(rate_ptr + head), tl.load(dt_ptr + head)
    norm = tl.load(norm_ptr + j).to(tl.float32)

    for t in range(end - start):
        s = t + 1 - TAPS + tap
        q_past = past_inputs(x_ptr, row, qi, past_ptr, qi, s, inside, TAPS, WIDTH)
        k_at = KEY_DIM + qi
        k_past = past_inputs(x_ptr, row, k_at, past_ptr, k_at, s, inside, TAPS, WIDTH)
        v_past = past_inputs(
            x_ptr, row, v_at + vj, past_ptr, 2 * KEY_DIM + vj, s, inside, TAPS, WIDTH
        )
        q = silu(tl.sum(q_past * q_weight, 0))
        k = silu(tl.sum(k_past * k_weight, 0))
        v = silu(tl.sum(v_past * v_weight, 0))
        q *= tl.rsqrt((tl.sum(q * q, 0) + unit_eps) * KEY_DIM)
        k *= tl.rsqrt(tl.sum(k * k, 0) + unit_eps)
        of_token = ba_ptr + (start + t) * (2 * HEADS) + group * (2 * GROUP) + member
        beta = tl.sigmoid(tl.load(of_token).to(tl.float32))
        keep = tl.exp(log_decay(rate, tl.load(of_token + GROUP).to(tl.float32) + dt))

        known = tl.sum(memory * k[:, None], 0) * keep
        asked = tl.sum(memory * q[:, None], 0) * keep
        correction = beta * (v - known)
        memory = memory * keep + k[:, None] * correction[None, :]
        y = asked + tl.sum(q * k, 0) * correction

        y *= tl.rsqrt(tl.sum(y * y, 0) / VALUE_DIM + eps) * norm
        z = tl.load(x_ptr + t * row + GROUP * VALUE_DIM + v_at + j).to(tl.float32)
        tl.store(out_ptr + ((start + t) * HEADS + head) * VALUE_DIM + j, y * silu(z))

        slot = tl.load(kept_ptr + start + t)
        if slot >= 0:
            kept = slot.to(tl.int64) * HEADS + head
            # The slot may be the one that was read: every thread has read before one writes.
            tl.debug_barrier()
            tl.store(memory_ptr + kept * MEMORY + at, memory)
            to = history_ptr + kept * PAST + (tap - 1) * WIDTH
            recent = inside & (tap > 0)
            tl.store(to + qi, q_past, mask=recent)
            tl.store(to + KEY_DIM + qi, k_past, mask=recent)
            tl.store(to + 2 * KEY_DIM + vj, v_past, mask=recent)

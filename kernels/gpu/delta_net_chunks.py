"""A gated DeltaNet layer of many tokens of one sequence: matrix products over chunks of 64.

With the notation of `qcoder.kernels.delta_net`, the corrections of a chunk are

    u = T (b v) - T (b A k) S = U - W S,     T = (I + L)^-1

(Yang et al., arXiv 2406.06484 and 2412.06464). U, W and the products of queries with keys do not
depend on S: they are computed for all chunks at once. What is left of the sequence of chunks are four
products a chunk, in parallel over heads and blocks of the values. Five launches:

    convolve   q, k, v of all tokens, decays, the new history
    solve      T of each chunk
    apply      U, W, P = (q k^T) A_t / A_s of each chunk
    scan       u = U - W S,  o = A (q S) + P u,  S = A_C S + k^T (u A_C / A)
    finish     y = norm(o) * silu(z)

T is built by halves: the inverses X of the diagonal blocks of size s give those of size 2s by
X - X B X, where B are the blocks of L between two of them. In contrast to the product of the powers of
L this stays exact for tokens that repeat, whose keys are all alike. Here each factor is the sum of two
bfloat16 matrices, which is accurate to 16 bits; the other products take bfloat16. Sums are float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.delta_net import CHUNK, L2_EPS
from qcoder.kernels.gpu.configs import DOT, DOT_TORCH, Config
from qcoder.kernels.gpu.delta_net import DeltaNetStates, GpuDeltaNet, log_decay, past_inputs, silu
from qcoder.kernels.gpu.launch import launch

CONVOLVE = Config(block_m=32, block_n=1, block_k=128, warps=8, stages=1)
SOLVE = Config(block_m=CHUNK, block_n=CHUNK, block_k=128, warps=4, stages=1)
APPLY = Config(block_m=CHUNK, block_n=128, block_k=CHUNK, warps=4, stages=1)
SCAN = Config(block_m=CHUNK, block_n=32, block_k=128, warps=4, stages=2)
"""block_n values a program: with 32 heads of 128 these are 128 programs, one a multiprocessor."""
FINISH = Config(block_m=16, block_n=128, block_k=1, warps=4, stages=1)


def delta_net_prefill(
    qkvz: Tensor, ba: Tensor, layer: GpuDeltaNet, states: DeltaNetStates, slot: int, kept: int
) -> Tensor:
    """`delta_net_reference` of one sequence: [tokens, value_heads * value_dim], in the type of qkvz.

    The state is read from `slot` and left in `kept`, which may be the same.
    """
    tokens, heads = qkvz.shape[0], layer.value_heads
    assert qkvz.is_contiguous()
    assert qkvz.shape[1] == layer.width
    assert ba.is_contiguous()
    assert ba.shape == (tokens, 2 * heads)
    assert states.memory.is_contiguous()
    assert states.history.is_contiguous()
    chunks = triton.cdiv(tokens, CHUNK)
    sizes = {
        "KEY_HEADS": layer.key_heads, "GROUP": layer.group, "KEY_DIM": layer.key_dim,
        "VALUE_DIM": layer.value_dim,
    }  # fmt: skip

    def rows(of_heads: int, *width: int, dtype: torch.dtype = DOT_TORCH) -> Tensor:
        return torch.empty(of_heads, chunks * CHUNK, *width, dtype=dtype, device=qkvz.device)

    q, k = rows(layer.key_heads, layer.key_dim), rows(layer.key_heads, layer.key_dim)
    v, u = rows(heads, layer.value_dim), rows(heads, layer.value_dim)
    decay, beta = rows(heads, dtype=torch.float32), rows(heads, dtype=torch.float32)
    launch(
        _convolve_kernel, (chunks * CHUNK // CONVOLVE.block_m, layer.key_heads), CONVOLVE,
        qkvz, ba, layer.conv, layer.rate, layer.dt_bias, states.history, slot, kept,
        q, k, v, decay, beta, tokens, L2_EPS,
        TAPS=layer.taps, WINDOW=triton.next_power_of_2(layer.taps), ROWS=CONVOLVE.block_m, **sizes,
    )  # fmt: skip
    fades, w, p = rows(heads, dtype=torch.float32), rows(heads, layer.key_dim), rows(heads, CHUNK)
    solved = rows(heads, CHUNK)
    launch(
        _solve_kernel, (chunks, heads), SOLVE,
        k, decay, beta, fades, solved,
        DOT=DOT, CHUNK=CHUNK, HALVES=CHUNK.bit_length() - 1, **sizes,
    )  # fmt: skip
    launch(
        _apply_kernel, (chunks, heads), APPLY,
        q, k, v, fades, solved, u, w, p, DOT=DOT, CHUNK=CHUNK, **sizes,
    )  # fmt: skip
    block = min(SCAN.block_n, layer.value_dim)
    launch(
        _scan_kernel, (layer.value_dim // block, heads), SCAN,
        q, k, u, w, p, fades, states.memory, slot, kept, v, chunks,
        BLOCK=block, DOT=DOT, CHUNK=CHUNK, **sizes,
    )  # fmt: skip
    out = torch.empty(tokens, heads * layer.value_dim, dtype=qkvz.dtype, device=qkvz.device)
    launch(
        _finish_kernel, (triton.cdiv(tokens, FINISH.block_m), heads), FINISH,
        v, qkvz, layer.norm, out, tokens, chunks * CHUNK, layer.eps, ROWS=FINISH.block_m, **sizes,
    )  # fmt: skip
    return out


@triton.jit
def _convolved(
    x_ptr, stride, x_at, history_ptr, history_at, weight_ptr, t, mask, TAPS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """silu(causal_conv) of tokens t [rows, 1]; zero outside `mask`. weight_ptr: its rows [1, dim]."""
    y = 0.0
    for tap in tl.static_range(TAPS):
        s = t + (tap + 1 - TAPS)
        x = past_inputs(x_ptr, stride, x_at, history_ptr, history_at, s, mask, TAPS, WIDTH)
        y += x * tl.load(weight_ptr + tap).to(tl.float32)
    return silu(y)


@triton.jit
def _convolve_kernel(
    qkvz_ptr, ba_ptr, conv_ptr, rate_ptr, dt_ptr, history_ptr, slot, kept,
    q_ptr, k_ptr, v_ptr, decay_ptr, beta_ptr, tokens, unit_eps,
    KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    TAPS: tl.constexpr, WINDOW: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    HEADS: tl.constexpr = KEY_HEADS * GROUP
    SERVED: tl.constexpr = 2 * KEY_DIM + 2 * GROUP * VALUE_DIM
    WIDTH: tl.constexpr = 2 * KEY_DIM + VALUE_DIM
    PAST: tl.constexpr = (TAPS - 1) * WIDTH
    group = tl.program_id(1)
    first = tl.program_id(0) * ROWS
    padded = tl.num_programs(0) * ROWS
    token = first + tl.arange(0, ROWS)
    t = token.to(tl.int64)[:, None]
    mask = t < tokens
    row = KEY_HEADS * SERVED
    x_ptr = qkvz_ptr + group * SERVED
    i, j = tl.arange(0, KEY_DIM)[None, :], tl.arange(0, VALUE_DIM)[None, :]
    past = tl.cast(slot, tl.int64) * HEADS + group * GROUP
    past_ptr = history_ptr + past * PAST

    weight = conv_ptr + (group * KEY_DIM + i) * TAPS
    q = _convolved(x_ptr, row, i, past_ptr, i, weight, t, mask, TAPS, WIDTH)
    q *= tl.rsqrt((tl.sum(q * q, 1) + unit_eps) * KEY_DIM)[:, None]
    to = (group.to(tl.int64) * padded + t) * KEY_DIM + i
    tl.store(q_ptr + to, q.to(q_ptr.dtype.element_ty))
    weight += KEY_HEADS * KEY_DIM * TAPS
    k = _convolved(x_ptr, row, KEY_DIM + i, past_ptr, KEY_DIM + i, weight, t, mask, TAPS, WIDTH)
    k *= tl.rsqrt(tl.sum(k * k, 1) + unit_eps)[:, None]
    tl.store(k_ptr + to, k.to(k_ptr.dtype.element_ty))
    for member in tl.static_range(GROUP):
        head = group * GROUP + member
        v_at = 2 * KEY_DIM + member * VALUE_DIM + j
        weight = conv_ptr + (2 * KEY_HEADS * KEY_DIM + head * VALUE_DIM + j) * TAPS
        of_head = past_ptr + member * PAST
        v = _convolved(x_ptr, row, v_at, of_head, 2 * KEY_DIM + j, weight, t, mask, TAPS, WIDTH)
        of_rows = head.to(tl.int64) * padded
        tl.store(v_ptr + (of_rows + t) * VALUE_DIM + j, v.to(v_ptr.dtype.element_ty))
        of_tokens = ba_ptr + token.to(tl.int64) * (2 * HEADS) + group * (2 * GROUP) + member
        inside = token < tokens
        b = tl.load(of_tokens, mask=inside, other=0.0).to(tl.float32)
        a = tl.load(of_tokens + GROUP, mask=inside, other=0.0).to(tl.float32)
        decay = log_decay(tl.load(rate_ptr + head), a + tl.load(dt_ptr + head))
        # Tokens that are none change nothing: they neither fade the memory nor correct it.
        tl.store(decay_ptr + of_rows + token, tl.where(inside, decay, 0.0))
        tl.store(beta_ptr + of_rows + token, tl.where(inside, tl.sigmoid(b), 0.0))

    if first == 0:
        # The only program that reads the old history writes the new one, when all of it has read.
        tap = tl.arange(0, WINDOW)[:, None]
        recent = tap < TAPS - 1
        at = tl.cast(tokens, tl.int64) + 1 - TAPS + tap
        q_last = past_inputs(x_ptr, row, i, past_ptr, i, at, recent, TAPS, WIDTH)
        k_at = KEY_DIM + i
        k_last = past_inputs(x_ptr, row, k_at, past_ptr, k_at, at, recent, TAPS, WIDTH)
        kept_ptr = (
            history_ptr + (tl.cast(kept, tl.int64) * HEADS + group * GROUP) * PAST + tap * WIDTH
        )
        for member in tl.static_range(GROUP):
            v_at = 2 * KEY_DIM + member * VALUE_DIM + j
            of_head = past_ptr + member * PAST
            v_last = past_inputs(
                x_ptr, row, v_at, of_head, 2 * KEY_DIM + j, at, recent, TAPS, WIDTH
            )
            tl.debug_barrier()
            tl.store(kept_ptr + member * PAST + i, q_last, mask=recent)
            tl.store(kept_ptr + member * PAST + KEY_DIM + i, k_last, mask=recent)
            tl.store(kept_ptr + member * PAST + 2 * KEY_DIM + j, v_last, mask=recent)


@triton.jit
def _product(x, y, DOT: tl.constexpr):
    """x y of float32 matrices, nearly in float32: each is the sum of two of type DOT."""
    x_high, y_high = x.to(DOT), y.to(DOT)
    x_low = (x - x_high.to(tl.float32)).to(DOT)
    y_low = (y - y_high.to(tl.float32)).to(DOT)
    small = tl.dot(x_low, y_high, input_precision="ieee")
    small = tl.dot(x_high, y_low, small, input_precision="ieee")
    return tl.dot(x_high, y_high, small, input_precision="ieee")


@triton.jit
def _inverse(lower, CHUNK: tl.constexpr, HALVES: tl.constexpr, DOT: tl.constexpr):
    """(I + lower)^-1 of a strictly lower triangular matrix [CHUNK, CHUNK], CHUNK = 2^HALVES."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    x = tl.where(i == j, 1.0, 0.0) - tl.where((i % 2 == 1) & (j == i - 1), lower, 0.0)
    for bit in tl.range(1, HALVES):
        block = i >> bit
        between = tl.where((block % 2 == 1) & ((j >> bit) == block - 1), lower, 0.0)
        x -= _product(_product(x, between, DOT), x, DOT)
    return x


@triton.jit
def _solve_kernel(
    k_ptr, decay_ptr, beta_ptr, fades_ptr, solved_ptr,
    KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    DOT: tl.constexpr, CHUNK: tl.constexpr, HALVES: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    padded = tl.num_programs(0).to(tl.int64) * CHUNK
    token = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    of_key = ((head // GROUP) * padded + token)[:, None] * KEY_DIM + tl.arange(0, KEY_DIM)[None, :]
    of_head = head * padded + token
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    of_square = of_head[:, None] * CHUNK + j
    fades = tl.cumsum(tl.load(decay_ptr + of_head), 0)
    tl.store(fades_ptr + of_head, fades)
    quotients = tl.exp(tl.minimum(fades[:, None] - fades[None, :], 0.0))

    k = tl.load(k_ptr + of_key)
    alike = tl.dot(k, tl.trans(k), input_precision="ieee")
    beta = tl.load(beta_ptr + of_head)
    lower = tl.where(i > j, alike * quotients * beta[:, None], 0.0)
    solved = _inverse(lower, CHUNK, HALVES, DOT) * tl.load(beta_ptr + of_head)[None, :]
    tl.store(solved_ptr + of_square, solved.to(DOT))


@triton.jit
def _apply_kernel(
    q_ptr, k_ptr, v_ptr, fades_ptr, solved_ptr, u_ptr, w_ptr, p_ptr,
    KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    DOT: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    padded = tl.num_programs(0).to(tl.int64) * CHUNK
    token = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    of_head = head * padded + token
    key, value = tl.arange(0, KEY_DIM)[None, :], tl.arange(0, VALUE_DIM)[None, :]
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    of_square = of_head[:, None] * CHUNK + j
    of_key = ((head // GROUP) * padded + token)[:, None] * KEY_DIM + key
    of_value = of_head[:, None] * VALUE_DIM + value
    fades = tl.load(fades_ptr + of_head)
    k = tl.load(k_ptr + of_key)
    p = tl.dot(tl.load(q_ptr + of_key), tl.trans(k), input_precision="ieee")
    quotients = tl.exp(tl.minimum(fades[:, None] - fades[None, :], 0.0))
    tl.store(p_ptr + of_square, tl.where(i >= j, p * quotients, 0.0).to(DOT))

    solved = tl.load(solved_ptr + of_square)
    u = tl.dot(solved, tl.load(v_ptr + of_value), input_precision="ieee")
    tl.store(u_ptr + of_value, u.to(DOT))
    faded = (solved.to(tl.float32) * tl.exp(fades)[None, :]).to(DOT)
    w = tl.dot(faded, k, input_precision="ieee")
    tl.store(w_ptr + of_head[:, None] * KEY_DIM + key, w.to(DOT))


@triton.jit
def _scan_kernel(
    q_ptr, k_ptr, u_ptr, w_ptr, p_ptr, fades_ptr, memory_ptr, slot, kept, out_ptr, chunks,
    KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK: tl.constexpr, DOT: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    HEADS: tl.constexpr = KEY_HEADS * GROUP
    head = tl.program_id(1)
    i = tl.arange(0, KEY_DIM)
    j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row, column = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    of_memory = i[:, None] * VALUE_DIM + j[None, :]
    place = tl.cast(slot, tl.int64) * HEADS + head
    memory = tl.load(memory_ptr + place * (KEY_DIM * VALUE_DIM) + of_memory)
    keys = (head // GROUP).to(tl.int64) * chunks * CHUNK
    heads = head.to(tl.int64) * chunks * CHUNK
    for chunk in tl.range(chunks):
        at = heads + chunk * CHUNK
        of_key = (keys + chunk * CHUNK) * KEY_DIM + row * KEY_DIM + i[None, :]
        of_value = at * VALUE_DIM + row * VALUE_DIM + j[None, :]
        w = tl.load(w_ptr + at * KEY_DIM + row * KEY_DIM + i[None, :])
        u = tl.load(u_ptr + of_value).to(tl.float32)
        q, k = tl.load(q_ptr + of_key), tl.load(k_ptr + of_key)
        p = tl.load(p_ptr + at * CHUNK + row * CHUNK + column)
        fades = tl.load(fades_ptr + at + tl.arange(0, CHUNK))
        last = tl.load(fades_ptr + at + CHUNK - 1)

        known = memory.to(DOT)
        u -= tl.dot(w, known, input_precision="ieee")
        asked = tl.dot(q, known, input_precision="ieee") * tl.exp(fades)[:, None]
        out = tl.dot(p, u.to(DOT), asked, input_precision="ieee")
        tl.store(out_ptr + of_value, out.to(DOT))
        rest = (u * tl.exp(last - fades)[:, None]).to(DOT)
        memory = tl.dot(tl.trans(k), rest, memory * tl.exp(last), input_precision="ieee")
    place = tl.cast(kept, tl.int64) * HEADS + head
    tl.store(memory_ptr + place * (KEY_DIM * VALUE_DIM) + of_memory, memory)


@triton.jit
def _finish_kernel(
    o_ptr, qkvz_ptr, norm_ptr, out_ptr, tokens, padded, eps,
    KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    HEADS: tl.constexpr = KEY_HEADS * GROUP
    SERVED: tl.constexpr = 2 * KEY_DIM + 2 * GROUP * VALUE_DIM
    head = tl.program_id(1)
    t = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    j = tl.arange(0, VALUE_DIM)[None, :]
    mask = (t < tokens) & (j >= 0)
    of_head = head.to(tl.int64) * padded
    y = tl.load(o_ptr + (of_head + t) * VALUE_DIM + j, mask=mask, other=0.0).to(tl.float32)
    y *= tl.rsqrt(tl.sum(y * y, 1) / VALUE_DIM + eps)[:, None]
    y *= tl.load(norm_ptr + j).to(tl.float32)
    z_at = (head // GROUP) * SERVED + 2 * KEY_DIM + (GROUP + head % GROUP) * VALUE_DIM + j
    z = tl.load(qkvz_ptr + t * (KEY_HEADS * SERVED) + z_at, mask=mask, other=0.0).to(tl.float32)
    to = out_ptr + t * (HEADS * VALUE_DIM) + head * VALUE_DIM + j
    tl.store(to, (y * silu(z)).to(out_ptr.dtype.element_ty), mask=mask)

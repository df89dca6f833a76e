"""Attention of many new tokens over chosen blocks of keys, for prompts beyond what can be read in whole.

The blocks come from `block_choice`; the attention itself is that of `attention_prefill`, which walks
over a list in place of all blocks. Arguments are those of `attention_prefill.attention_blocks`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.block_choice import BLOCK, ChosenBlocks, Sparsity, choose_blocks
from qcoder.kernels.gpu.configs import DOT, Config, capability
from qcoder.kernels.gpu.launch import launch

SPARSE_FROM = 65_536
"""Keys from which on the estimate pays."""
DEFAULT = Sparsity()


def attention_over_reference(q: Tensor, k: Tensor, v: Tensor, taken: Tensor) -> Tensor:
    """Causal attention [tokens, heads, head_dim] float32 over the blocks of keys that are taken.

    q: [tokens, heads, head_dim] of the last tokens, scaled to scores in base 2; k, v: [kv_heads, total,
    head_dim]; both rotated. taken: [heads, query blocks, key blocks] bool.
    """
    tokens, heads, head_dim = q.shape
    kv_heads, total, _ = k.shape
    key = torch.arange(total, device=q.device)
    hidden = key > key[total - tokens :].unsqueeze(1)
    row = torch.arange(tokens, device=q.device) // BLOCK
    out = torch.empty(tokens, heads, head_dim, device=q.device)
    for h in range(heads):
        scores = q[:, h].float() @ k[h // (heads // kv_heads)].float().T * 0.6931471805599453
        left_out = hidden | ~taken[h][row][:, key // BLOCK]
        weights = scores.masked_fill(left_out, -torch.inf).softmax(-1)
        out[:, h] = weights @ v[h // (heads // kv_heads)].float()
    return out


def attention_sparse(q: Tensor, k: Tensor, v: Tensor, sparsity: Sparsity = DEFAULT) -> Tensor:
    """Attention over the blocks that matter: three launches, [tokens, heads, head_dim]."""
    return attention_over(q, k, v, choose_blocks(q, k, sparsity))


def sparse_config(head_dim: int, gpu: int) -> Config:
    """Sums of 256 values take half of the registers; before Hopper, factors do too."""
    wide = head_dim > 128
    if gpu < 90:
        return Config(block_m=64 if wide else BLOCK, block_n=32, warps=8, stages=2)
    return Config(block_m=BLOCK, block_n=32 if wide else 64, warps=8, stages=3)


def attention_over(q: Tensor, k: Tensor, v: Tensor, chosen: ChosenBlocks) -> Tensor:
    """`attention_over_reference` of lists; every list has the blocks that the queries lie in."""
    tokens, heads, head_dim = q.shape
    kv_heads, total, _ = k.shape
    assert q.is_contiguous()
    assert k.is_contiguous()
    assert v.is_contiguous()
    assert chosen.lists.shape[:2] == (heads, triton.cdiv(tokens, BLOCK))
    out = torch.empty_like(q)
    config = sparse_config(head_dim, capability(q.device))
    launch(
        _sparse_kernel, (chosen.lists.shape[1] * (BLOCK // config.block_m), heads), config,
        q, k, v, chosen.lists, chosen.counts, out, tokens, total, chosen.lists.shape[2],
        HEADS=heads, SERVED=heads // kv_heads, HEAD_DIM=head_dim, BLOCK=BLOCK,
        QUERIES=config.block_m, BLOCK_N=config.block_n, DOT=DOT,
    )  # fmt: skip
    return out


@triton.jit
def _attend(
    q, k_ptr, v_ptr, first, position, total, best, sums, acc,
    HEAD_DIM: tl.constexpr, MASKED: tl.constexpr, BLOCK_N: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """BLOCK_N keys from `first` on; MASKED: some of them are not seen by all queries."""
    # Offsets of a block in 32 bits: 64 bits a value would take most of the registers.
    j = tl.arange(0, BLOCK_N)
    n = first + j
    at = first * HEAD_DIM + j[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    inside = (n < total)[:, None]
    k = tl.load(k_ptr + at, mask=inside, other=0.0)
    scores = tl.dot(q, tl.trans(k.to(DOT)), input_precision="ieee")
    if MASKED:
        scores = tl.where(n[None, :] <= position[:, None], scores, float("-inf"))
    top = tl.maximum(best, tl.max(scores, axis=1))
    # The first block is taken always: from there on, every query has seen a key.
    fade = tl.exp2(best - top)
    p = tl.exp2(scores - top[:, None])
    v = tl.load(v_ptr + at, mask=inside, other=0.0)
    acc = tl.dot(p.to(DOT), v.to(DOT), acc * fade[:, None], input_precision="ieee")
    return top, sums * fade + tl.sum(p, axis=1), acc


@triton.jit
def _sparse_kernel(
    q_ptr, k_ptr, v_ptr, lists_ptr, counts_ptr, out_ptr, tokens, total, width,
    HEADS: tl.constexpr, SERVED: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    QUERIES: tl.constexpr, BLOCK_N: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = BLOCK // BLOCK_N
    # The last queries have the longest lists: they begin first.
    SHARES: tl.constexpr = BLOCK // QUERIES
    part = tl.num_programs(0) - 1 - tl.program_id(0)
    row = part // SHARES
    head = tl.program_id(1)
    t = part * QUERIES + tl.arange(0, QUERIES)
    at = (t.to(tl.int64)[:, None] * HEADS + head) * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    q = tl.load(q_ptr + at, mask=(t < tokens)[:, None], other=0.0).to(DOT)
    first = total - tokens + row * BLOCK
    position = total - tokens + t
    k_ptr += (head // SERVED).to(tl.int64) * total * HEAD_DIM
    v_ptr += (head // SERVED).to(tl.int64) * total * HEAD_DIM
    place = head * (tl.num_programs(0) // SHARES) + row
    list_ptr = lists_ptr + place.to(tl.int64) * width
    count = tl.load(counts_ptr + place)
    # The list ends with the blocks that some of the queries see in part: those they lie in.
    last = tl.minimum((first + BLOCK - 1) // BLOCK, (total - 1) // BLOCK)
    plain = count - (last - first // BLOCK + 1)
    best = tl.full([QUERIES], float("-inf"), tl.float32)
    sums = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, HEAD_DIM], tl.float32)
    for i in range(plain * PARTS):
        n = tl.load(list_ptr + i // PARTS) * BLOCK + i % PARTS * BLOCK_N
        best, sums, acc = _attend(
            q, k_ptr, v_ptr, n, position, total, best, sums, acc, HEAD_DIM, False, BLOCK_N, DOT
        )
    for i in range(plain * PARTS, count * PARTS):
        n = tl.load(list_ptr + i // PARTS) * BLOCK + i % PARTS * BLOCK_N
        best, sums, acc = _attend(
            q, k_ptr, v_ptr, n, position, total, best, sums, acc, HEAD_DIM, True, BLOCK_N, DOT
        )
    y = acc / sums[:, None]
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=(t < tokens)[:, None])

"""Which keys a block of queries needs: an estimate from some queries, for attention over very long prompts.

Every eighth query of a block is compared with all keys, which costs an eighth of all scores:

    ratio[i, b] = sum over the keys j of block b of 2^(q_i k_j) / estimated sum over all keys
    importance[b] = the greatest ratio / (1 + ratio) of the 16 sampled queries of a block

so that one question in a block of queries counts as much as what all of them look at. Of the blocks
that are not taken anyway (the first, where attention rests, and the neighbourhood) the most important
ones are taken until they cover `mass` of the estimate, and at most `share` of those in sight, which
bounds the time. The sum over all keys, which makes queries comparable, is estimated from an eighth of
the blocks, the first and the neighbourhood; where it is far too low, the ratio is still in order.

Antidiagonal sums (XAttention, arXiv 2503.16428) and means of neighbours cost the same, but a score that
stands alone is averaged with others there: what is copied token by token, as code is, drowns in noise.
The price here is that a question shorter than eight tokens may lie between two samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import DOT, Config
from qcoder.kernels.gpu.launch import launch

BLOCK = 128
"""Queries and keys that are taken or left together."""
EVERY = 8
"""One query of so many is looked at."""
SAMPLES = BLOCK // EVERY
GROUP = 4
"""Blocks of queries that a program estimates: 64 samples fill a matrix product."""
ALWAYS = 4
"""Blocks taken anyway: the first, and the one or two of the queries with the one before."""

SELECT = Config(warps=8)
LN2 = 0.6931471805599453


@dataclass(frozen=True, slots=True)
class Sparsity:
    """How much is left out; see above. `least` blocks may always be taken beside the fixed ones."""

    mass: float = 0.9
    share: float = 0.08
    least: int = 16

    def __post_init__(self) -> None:
        if not (0 < self.mass <= 1 and 0 < self.share <= 1 and self.least > 0):
            raise ValueError(f"sparsity out of range: {self}")

    def most(self, visible: int) -> int:
        """Blocks that may be taken of `visible`, beside the fixed ones."""
        return max(self.least, int(self.share * visible))


@dataclass(frozen=True, slots=True, eq=False)
class ChosenBlocks:
    """For each head and block of queries the blocks of keys, ascending.

    lists: [heads, query blocks, width] int32, of which `counts` [heads, query blocks] int32 count.
    """

    lists: Tensor
    counts: Tensor

    def mask(self, blocks: int) -> Tensor:
        """Which of `blocks` are taken: [heads, query blocks, blocks] bool."""
        heads, rows, width = self.lists.shape
        used = torch.arange(width, device=self.lists.device) < self.counts.unsqueeze(-1)
        mask = torch.zeros(heads, rows, blocks + 1, dtype=torch.bool, device=self.lists.device)
        at = torch.where(used, self.lists.long(), blocks)
        return mask.scatter_(-1, at, True)[..., :blocks]


def neighbourhood(before: int, query_block: int) -> tuple[int, int]:
    """First and last block of keys around a block of queries, `before` tokens behind the first."""
    first = before + query_block * BLOCK
    return max(first // BLOCK - 1, 0), (first + BLOCK - 1) // BLOCK


def importance_reference(q: Tensor, k: Tensor) -> Tensor:
    """[heads, query blocks, key blocks] float32; of use for blocks before the neighbourhood only.

    q: [tokens, heads, head_dim], scaled to scores in base 2; k: [kv_heads, total, head_dim], both rotated.
    """
    tokens, heads, _ = q.shape
    kv_heads, total, _ = k.shape
    before, rows, blocks = total - tokens, -(-tokens // BLOCK), -(-total // BLOCK)
    sampled = torch.arange(EVERY // 2, rows * BLOCK, EVERY, device=q.device)
    row = sampled // BLOCK
    sampled = sampled.clamp_max(tokens - 1)
    key = torch.arange(blocks * BLOCK, device=q.device)
    hidden = (key > before + sampled.unsqueeze(1)) | (key >= total)
    first_near = (before + row // GROUP * GROUP * BLOCK).div(BLOCK, rounding_mode="floor") - 1
    block = key // BLOCK
    near = (block == 0) | (block >= first_near.unsqueeze(1))
    sampled_blocks = (block % EVERY == EVERY // 2) & (block < first_near.unsqueeze(1))
    weights = near.float() + EVERY * sampled_blocks.float()
    importance = torch.empty(heads, rows, blocks, device=q.device)
    for h in range(heads):
        scores = torch.zeros(len(sampled), len(key), device=q.device)
        scores[:, :total] = q[sampled, h].float() @ k[h // (heads // kv_heads)].float().T
        scores = scores.masked_fill(hidden, -torch.inf)
        norm = torch.logsumexp(scores * LN2 + weights.log(), 1)
        ratio = torch.exp(scores * LN2 - norm.unsqueeze(1)).unflatten(1, (blocks, BLOCK)).sum(-1)
        ratio = ratio.clamp_max(1e6)
        importance[h] = (ratio / (1 + ratio)).view(rows, SAMPLES, blocks).amax(1)
    return importance


def choose_reference(importance: Tensor, before: int, sparsity: Sparsity) -> Tensor:
    """Which blocks of keys are taken: bool, in the shape of `importance`."""
    heads, query_blocks, blocks = importance.shape
    taken = torch.zeros_like(importance, dtype=torch.bool)
    for row in range(query_blocks):
        low, high = neighbourhood(before, row)
        for h in range(heads):
            others = importance[h, row, 1 : max(low, 1)]
            order = torch.sort(others, descending=True, stable=True).indices
            covered = others[order].cumsum(0) - others[order]
            wanted = int((covered < sparsity.mass * others.sum()).sum())
            best = order[: min(wanted, sparsity.most(min(high, blocks - 1) + 1))]
            taken[h, row, best[others[best] > 0] + 1] = True
        taken[:, row, low : high + 1] = True
    taken[:, :, 0] = True
    return taken


def choose_blocks(q: Tensor, k: Tensor, sparsity: Sparsity) -> ChosenBlocks:
    """`choose_reference` of `importance_reference`, in two launches."""
    tokens, heads, head_dim = q.shape
    kv_heads, total, _ = k.shape
    assert q.is_contiguous()
    assert k.is_contiguous()
    rows, blocks = triton.cdiv(tokens, BLOCK), triton.cdiv(total, BLOCK)
    importance = torch.empty(heads, rows, blocks, dtype=torch.float32, device=q.device)
    config = Config(block_m=GROUP * SAMPLES, block_n=BLOCK, warps=4, stages=3)
    if head_dim > 128:
        config = Config(block_m=GROUP * SAMPLES, block_n=BLOCK, warps=8, stages=2)
    launch(
        _estimate_kernel, (triton.cdiv(rows, GROUP), heads), config,
        q, k, importance, tokens, total, rows, blocks,
        HEADS=heads, SERVED=heads // kv_heads, HEAD_DIM=head_dim, BLOCK=BLOCK, EVERY=EVERY,
        GROUP=GROUP, SAMPLES=SAMPLES, DOT=DOT,
    )  # fmt: skip
    width = min(sparsity.most(blocks) + ALWAYS, blocks)
    lists = torch.empty(heads, rows, width, dtype=torch.int32, device=q.device)
    counts = torch.empty(heads, rows, dtype=torch.int32, device=q.device)
    launch(
        _select_kernel, (rows, heads), SELECT,
        importance, lists, counts, total - tokens, blocks, width, sparsity.mass, sparsity.share,
        sparsity.least, BLOCK=BLOCK, BLOCKS=triton.next_power_of_2(blocks),
    )  # fmt: skip
    return ChosenBlocks(lists, counts)


@triton.jit
def _tile_scores(
    q, k_ptr, tile, position, total, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, DOT: tl.constexpr
):  # fmt: skip
    """Scores [queries, BLOCK] of a block of keys; minus infinity for keys that a query does not see."""
    n = tile * BLOCK + tl.arange(0, BLOCK)
    at = n.to(tl.int64)[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    k = tl.load(k_ptr + at, mask=(n < total)[:, None], other=0.0)
    scores = tl.dot(q, tl.trans(k.to(DOT)), input_precision="ieee")
    return tl.where(n[None, :] <= position[:, None], scores, float("-inf"))


@triton.jit
def _add_tile(
    q, k_ptr, tile, position, total, best, sums, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """The running maximum and sum of powers with one block more."""
    scores = _tile_scores(q, k_ptr, tile, position, total, HEAD_DIM, BLOCK, DOT)
    top = tl.maximum(best, tl.max(scores, axis=1))
    safe = tl.where(top == float("-inf"), 0.0, top)
    return top, sums * tl.exp2(best - safe) + tl.sum(tl.exp2(scores - safe[:, None]), axis=1)


@triton.jit
def _estimate_kernel(
    q_ptr, k_ptr, importance_ptr, tokens, total, rows, blocks,
    HEADS: tl.constexpr, SERVED: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    EVERY: tl.constexpr, GROUP: tl.constexpr, SAMPLES: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    # The last queries see most keys: they begin first.
    group = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    COUNT: tl.constexpr = GROUP * SAMPLES
    # In place of queries beyond the last, the last: what a prompt ends with is often what it asks.
    t = group * (GROUP * BLOCK) + tl.arange(0, COUNT) * EVERY + EVERY // 2
    t = tl.minimum(t, tokens - 1)
    at = (t.to(tl.int64)[:, None] * HEADS + head) * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    q = tl.load(q_ptr + at).to(DOT)
    before = total - tokens
    position = before + t
    k_ptr += (head // SERVED).to(tl.int64) * total * HEAD_DIM
    first = before + group * (GROUP * BLOCK)
    near = tl.maximum(first // BLOCK - 1, 0)
    end = tl.minimum(tl.cdiv(first + GROUP * BLOCK, BLOCK), blocks)

    best = tl.full([COUNT], float("-inf"), tl.float32)
    sums = tl.zeros([COUNT], tl.float32)
    for tile in range(EVERY // 2, near, EVERY):
        best, sums = _add_tile(q, k_ptr, tile, position, total, best, sums, HEAD_DIM, BLOCK, DOT)
    sums *= EVERY
    for tile in range(tl.minimum(near, 1)):
        best, sums = _add_tile(q, k_ptr, tile, position, total, best, sums, HEAD_DIM, BLOCK, DOT)
    for tile in range(near, end):
        best, sums = _add_tile(q, k_ptr, tile, position, total, best, sums, HEAD_DIM, BLOCK, DOT)
    norm = best + tl.log2(sums)

    row = group * GROUP + tl.arange(0, GROUP)
    to = importance_ptr + (head * rows + row).to(tl.int64) * blocks
    # Blocks from the neighbourhood of the last queries on are taken by all that see them.
    for tile in range(tl.minimum(near + GROUP, end)):
        scores = _tile_scores(q, k_ptr, tile, position, total, HEAD_DIM, BLOCK, DOT)
        ratio = tl.sum(tl.exp2(scores - norm[:, None]), axis=1)
        # Far more than the estimate of the whole: no difference that would matter.
        ratio = tl.minimum(ratio, 1e6)
        greatest = tl.max(tl.reshape(ratio / (1 + ratio), [GROUP, SAMPLES]), axis=1)
        tl.store(to + tile, greatest, mask=row < rows)


@triton.jit
def _select_kernel(
    importance_ptr, lists_ptr, counts_ptr, before, blocks, width, mass, share, least,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    place = head * tl.num_programs(0) + row
    b = tl.arange(0, BLOCKS)
    first = before + row * BLOCK
    low = tl.maximum(first // BLOCK - 1, 0)
    high = tl.minimum((first + BLOCK - 1) // BLOCK, blocks - 1)
    others = (b >= 1) & (b < low)
    at = importance_ptr + place.to(tl.int64) * blocks + b
    importance = tl.load(at, mask=others, other=0.0)
    most = tl.maximum(least, (share * (high + 1)).to(tl.int32))
    wanted = mass * tl.sum(importance, 0)
    # Positive floats order as their bits do: two binary searches for the least that is taken, the
    # greatest that covers the mass and the smallest that leaves no more than `most`.
    bits = importance.to(tl.int32, bitcast=True)
    covers, beyond = 0, 0x40000000
    few, many = 0x40000000, 1
    for _ in range(31):
        middle = (covers + beyond + 1) // 2
        enough = tl.sum(tl.where(bits >= middle, importance, 0.0), 0) >= wanted
        covers = tl.where(enough, middle, covers)
        beyond = tl.where(enough, beyond, middle - 1)
        middle = (few + many) // 2
        fits = tl.sum((bits >= middle).to(tl.int32), 0) <= most
        few = tl.where(fits, middle, few)
        many = tl.where(fits, many, middle + 1)
    taken = others & (bits >= tl.maximum(tl.maximum(covers, few), 1))
    # Where equal ones are too many, the first of them.
    equal = others & (bits == few - 1) & (bits >= tl.maximum(covers, 1))
    left = most - tl.sum((bits >= few).to(tl.int32), 0)
    taken = taken | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= left))
    taken = taken | (b == 0) | ((b >= low) & (b <= high))
    order = tl.cumsum(taken.to(tl.int32), 0) - 1
    tl.store(lists_ptr + place.to(tl.int64) * width + order, b, mask=taken)
    tl.store(counts_ptr + place, tl.sum(taken.to(tl.int32), 0))

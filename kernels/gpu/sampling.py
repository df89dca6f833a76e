"""Choice of the next tokens on the GPU: argmax, or a draw after temperature, top-k, top-p and min-p.

The filters are those of a sorted vocabulary: all of them keep its beginning, by falling logit and then
by rising id. Top-k keeps what ties with the k-th as well; top-p the tokens before which less than p of
the mass lies; min-p those at least p times as probable as the first. A token is drawn where the sum of
what is kept passes `uniform` times the whole.

Two launches: blocks of the vocabulary give their best tokens, and one program a token merges them, each
by taking the greatest as often as top-k says: for the usual 20 to 40 that is less than sorting. A logit
and its id are one 64-bit number whose order is theirs. Only where others tie with the k-th token, the
program reads the vocabulary again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from qcoder.kernels.gpu.configs import Config
from qcoder.kernels.gpu.launch import launch

MOST_TOP_K = 64
"""A greater top-k is taken for this."""
LOWEST = tl.constexpr(-0x8000000000000000)
"""Less than any logit."""
COLDEST = 1e-4
"""Temperatures below are greedy, as for the sampler on the CPU."""

BEST = Config(block_n=4096, block_k=1, warps=8, stages=1)
ARGMAX = Config(block_n=4096, block_k=1, warps=8, stages=1)
CHOOSE = Config(block_n=4096, block_k=1, warps=8, stages=1)


@dataclass(frozen=True, slots=True, eq=False)
class GpuSampling:
    """How each of some tokens is drawn: all [tokens], on the GPU, so that a recorded step can be reused."""

    temperature: Tensor  # float32; below COLDEST greedy
    top_k: Tensor  # int32, 1 to MOST_TOP_K
    top_p: Tensor  # float32; 1 keeps all
    min_p: Tensor  # float32; 0 keeps all
    uniform: Tensor  # float32 in [0, 1): the chance


def argmax_reference(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest id of the greatest logit, and its log-probability; logits: [tokens, vocabulary]."""
    ids = torch.tensor([int((row == row.max()).nonzero()[0]) for row in logits], dtype=torch.int32)
    return ids, _logprobs_of(logits, ids)


def kept_probabilities(
    logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[Tensor, Tensor]:
    """Ids in the order of the draw and the probability of each, float64; logits: [vocabulary]."""
    scores = logits.double() / temperature
    order = torch.sort(scores, descending=True, stable=True).indices
    scores = scores[order]
    scores = scores[scores >= scores[min(top_k, len(scores)) - 1]]
    mass = (scores - scores[0]).exp()
    kept = mass.cumsum(0) - mass < top_p * mass.sum() if top_p < 1 else mass > 0
    mass = mass[kept & (mass >= min_p) & (mass > 0)]
    return order[: len(mass)], mass / mass.sum()


def sample_reference(logits: Tensor, sampling: GpuSampling) -> tuple[Tensor, Tensor]:
    """Ids [tokens] int32 and their log-probabilities before any filter [tokens] float32."""
    ids, _ = argmax_reference(logits)
    for t, temperature in enumerate(sampling.temperature.tolist()):
        if temperature < COLDEST:
            continue
        order, probabilities = kept_probabilities(
            logits[t], temperature, int(sampling.top_k[t]), float(sampling.top_p[t]),
            float(sampling.min_p[t]),
        )  # fmt: skip
        passed = (probabilities.cumsum(0) <= float(sampling.uniform[t])).sum()
        ids[t] = order[min(int(passed), len(order) - 1)]
    return ids, _logprobs_of(logits, ids)


def _logprobs_of(logits: Tensor, ids: Tensor) -> Tensor:
    return torch.log_softmax(logits.float(), -1).gather(1, ids.long().unsqueeze(1)).squeeze(1)


def argmax(logits: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`argmax_reference`; `out`: [tokens] integers of any type."""
    return _chosen(logits, None, out)


def sample(
    logits: Tensor, sampling: GpuSampling, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`sample_reference`; `out`: [tokens] integers of any type."""
    return _chosen(logits, sampling, out)


def _chosen(
    logits: Tensor, sampling: GpuSampling | None, out: Tensor | None
) -> tuple[Tensor, Tensor]:
    tokens, vocabulary = logits.shape
    assert logits.stride(1) == 1
    # One more than top-k, which tells whether a block has others like its last.
    config, keep = (ARGMAX, 1) if sampling is None else (BEST, MOST_TOP_K + 1)
    blocks = triton.cdiv(vocabulary, config.block_n)
    device = logits.device
    best = torch.empty(tokens, blocks, keep, dtype=torch.int64, device=device)
    sums = torch.empty(tokens, blocks, 2, dtype=torch.float32, device=device)
    launch(
        _best_kernel, (blocks, tokens), config, logits, best, sums,
        None if sampling is None else sampling.top_k, vocabulary, logits.stride(0),
        BLOCK=config.block_n, KEEP=keep,
    )  # fmt: skip
    ids = torch.empty(tokens, dtype=torch.int32, device=device) if out is None else out
    logprobs = torch.empty(tokens, dtype=torch.float32, device=device)
    if sampling is None:
        launch(
            _argmax_kernel, (tokens,), config, best, sums, ids, logprobs, blocks,
            BLOCKS=triton.next_power_of_2(blocks),
        )  # fmt: skip
        return ids, logprobs
    launch(
        _sample_kernel, (tokens,), CHOOSE, logits, best, sums, sampling.temperature,
        sampling.top_k, sampling.top_p, sampling.min_p, sampling.uniform, ids, logprobs,
        vocabulary, logits.stride(0), blocks, COLDEST,
        BLOCK=CHOOSE.block_n, BLOCKS=triton.next_power_of_2(blocks), KEEP=keep,
        LISTED=triton.next_power_of_2(blocks * keep), MOST=MOST_TOP_K,
    )  # fmt: skip
    return ids, logprobs


@triton.jit
def _ordered(score, token):
    """int64 that orders by score, then by lower id: the score's bits as an integer, then the id."""
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.to(tl.int64) << 32) | (0x7FFFFFFF - token).to(tl.int64)


@triton.jit
def _score(ordered):
    """The score of `_ordered`."""
    bits = (ordered >> 32).to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _token(ordered):
    """The id of `_ordered`."""
    return 0x7FFFFFFF - (ordered & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def _best_kernel(
    logits_ptr, best_ptr, sums_ptr, top_k_ptr, vocabulary, stride, BLOCK: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    block, row = tl.program_id(0), tl.program_id(1)
    token = block * BLOCK + tl.arange(0, BLOCK)
    at = logits_ptr + row.to(tl.int64) * stride + token
    x = tl.load(at, mask=token < vocabulary, other=float("-inf")).to(tl.float32)
    place = row * tl.num_programs(0) + block
    ordered = _ordered(x, token)
    if KEEP == 1:
        tl.store(best_ptr + place, tl.max(ordered, 0))
    else:
        rounds = tl.minimum(tl.load(top_k_ptr + row) + 1, KEEP)
        for r in range(rounds):
            best = tl.max(ordered, 0)
            tl.store(best_ptr + place * KEEP + r, best)
            ordered = tl.where(ordered == best, LOWEST, ordered)
    top = tl.max(x, 0)
    tl.store(sums_ptr + place * 2, top)
    # Where every token is ruled out, the greatest is minus infinity and there is no sum.
    mass = tl.sum(tl.where(x > float("-inf"), tl.exp(x - top), 0.0), 0)
    tl.store(sums_ptr + place * 2 + 1, mass)


@triton.jit
def _log_sum(sums_ptr, row, blocks, BLOCKS: tl.constexpr):
    """log of the sum of exp(logit) over the vocabulary."""
    i = tl.arange(0, BLOCKS)
    at = sums_ptr + (row * blocks + i) * 2
    tops = tl.load(at, mask=i < blocks, other=float("-inf"))
    mass = tl.load(at + 1, mask=i < blocks, other=0.0)
    top = tl.max(tops, 0)
    return top + tl.log(tl.sum(tl.where(mass > 0, mass * tl.exp(tops - top), 0.0), 0))


@triton.jit
def _argmax_kernel(best_ptr, sums_ptr, ids_ptr, logprobs_ptr, blocks, BLOCKS: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCKS)
    ordered = tl.max(tl.load(best_ptr + row * blocks + i, mask=i < blocks, other=LOWEST), 0)
    tl.store(ids_ptr + row, _token(ordered).to(ids_ptr.dtype.element_ty))
    tl.store(logprobs_ptr + row, _score(ordered) - _log_sum(sums_ptr, row, blocks, BLOCKS))


@triton.jit
def _ties(row_ptr, border, wanted, vocabulary, BLOCK: tl.constexpr):
    """How many logits equal `border`, and the id of the one with `wanted` of them before it."""
    seen, found = 0, 0
    for first in tl.range(0, vocabulary, BLOCK):
        token = first + tl.arange(0, BLOCK)
        x = tl.load(row_ptr + token, mask=token < vocabulary, other=float("nan")).to(tl.float32)
        equal = (x == border).to(tl.int32)
        before = seen + tl.cumsum(equal, 0) - equal
        found += tl.sum(tl.where((equal == 1) & (before == wanted), token, 0), 0)
        seen += tl.sum(equal, 0)
    return seen, found


@triton.jit
def _sample_kernel(
    logits_ptr, best_ptr, sums_ptr, temperature_ptr, top_k_ptr, top_p_ptr, min_p_ptr,
    uniform_ptr, ids_ptr, logprobs_ptr, vocabulary, stride, blocks, coldest,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr, KEEP: tl.constexpr, LISTED: tl.constexpr,
    MOST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    row_ptr = logits_ptr + row.to(tl.int64) * stride
    temperature = tl.load(temperature_ptr + row)
    top_k = tl.minimum(tl.maximum(tl.load(top_k_ptr + row), 1), tl.minimum(MOST, vocabulary))
    i, place = tl.arange(0, LISTED), tl.arange(0, MOST)
    lists_ptr = best_ptr + row * (blocks * KEEP)
    listed = (i < blocks * KEEP) & (i % KEEP <= top_k)
    lists = tl.load(lists_ptr + i, mask=listed, other=LOWEST)
    merged = tl.full([MOST], LOWEST, tl.int64)
    for r in range(top_k):
        best = tl.max(lists, 0)
        merged = tl.where(place == r, best, merged)
        lists = tl.where(lists == best, LOWEST, lists)
    token = _token(merged)
    # Beyond top-k, and beyond a vocabulary that is smaller than it, there is nothing.
    score = tl.where((place < top_k) & (token < vocabulary), _score(merged), float("-inf"))

    # The first `above` tokens have more than the k-th; as much as it have `ties` others.
    border = tl.max(tl.where(place == top_k - 1, score, float("-inf")), 0)
    first = tl.max(score, 0)
    above = tl.sum((score > border).to(tl.int32), 0)
    ties = tl.sum(((score == border) & (place < top_k)).to(tl.int32), 0)
    # The best that is left in the lists: it ties where any does, by one more a block than top-k.
    cut = (_score(tl.max(lists, 0)) == border) & (border > float("-inf"))
    if cut:
        ties, _ = _ties(row_ptr, border, 0, vocabulary, BLOCK)

    scale = 1.0 / tl.maximum(temperature, coldest)
    mass = tl.where(score > border, tl.exp((score - first) * scale), 0.0)
    tie = tl.exp((border - first) * scale)
    sums = tl.cumsum(mass, 0)
    whole = tl.sum(mass, 0)
    top_p, min_p = tl.load(top_p_ptr + row), tl.load(min_p_ptr + row)
    reach = tl.where(top_p < 1.0, top_p * (whole + ties * tie), float("inf"))
    mass = tl.where((sums - mass < reach) & (mass >= min_p), mass, 0.0)
    part = tl.sum(mass, 0)
    # Ties are kept while less than `reach` lies before them; none where they have no mass.
    rest = tl.ceil(tl.maximum(reach - whole, 0.0) / tl.maximum(tie, 1e-38))
    kept_ties = tl.minimum(rest, ties.to(tl.float32))
    kept_ties = tl.where((tie >= min_p) & (tie > 0.0), kept_ties, 0.0)

    target = tl.load(uniform_ptr + row) * (part + kept_ties * tie)
    kept = tl.sum((mass > 0.0).to(tl.int32), 0)
    passed = tl.sum(((tl.cumsum(mass, 0) <= target) & (mass > 0.0)).to(tl.int32), 0)
    nth = tl.floor((target - part) / tl.maximum(tie, 1e-38))
    nth = tl.maximum(tl.minimum(nth, kept_ties - 1.0), 0.0).to(tl.int32)
    of_ties = (target >= part) & (kept_ties > 0.0)
    chosen = tl.where(of_ties, above + nth, tl.minimum(passed, tl.maximum(kept - 1, 0)))
    chosen = tl.where(temperature < coldest, 0, chosen)
    found = tl.sum(tl.where(place == chosen, token, 0), 0)
    drawn = tl.max(tl.where(place == chosen, score, float("-inf")), 0)
    if cut & of_ties & (temperature >= coldest):
        _, found = _ties(row_ptr, border, nth, vocabulary, BLOCK)
        drawn = border
    tl.store(ids_ptr + row, found.to(ids_ptr.dtype.element_ty))
    tl.store(logprobs_ptr + row, drawn - _log_sum(sums_ptr, row, blocks, BLOCKS))

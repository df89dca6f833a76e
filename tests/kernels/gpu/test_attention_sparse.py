"""Attention over chosen blocks: the choice, the attention, and that questions find their answers."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from qcoder.kernels.gpu.attention_sparse import (
    attention_over,
    attention_over_reference,
    attention_sparse,
)
from qcoder.kernels.gpu.block_choice import (
    BLOCK,
    ChosenBlocks,
    Sparsity,
    choose_blocks,
    choose_reference,
    importance_reference,
    neighbourhood,
)
from qcoder.kernels.gpu.configs import assuming

ALL = Sparsity(1.0, 1.0, 1)


def noise(
    tokens: int, total: int, heads: int = 2, kv_heads: int = 1, dim: int = 16
) -> list[Tensor]:
    torch.manual_seed(tokens + total)
    q = torch.randn(tokens, heads, dim) * (2 * math.log2(math.e) / dim**0.5)
    return [q, torch.randn(kv_heads, total, dim), torch.randn(kv_heads, total, dim)]


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shape = (q.shape[1], -(-q.shape[0] // BLOCK), -(-k.shape[1] // BLOCK))
    return attention_over_reference(q, k, v, torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize(("tokens", "total"), [(1, 1), (129, 129), (64, 700)])
def test_with_all_blocks_it_is_plain_attention(tokens: int, total: int) -> None:
    q, k, v = noise(tokens, total)
    assert torch.allclose(attention_sparse(q, k, v, ALL), dense(q, k, v), atol=1e-5)


def test_before_hopper_two_programs_share_a_list() -> None:
    q, k, v = noise(140, 200, dim=256)
    with assuming(80):
        assert torch.allclose(attention_sparse(q, k, v, ALL), dense(q, k, v), atol=1e-5)


def test_heads_read_their_own_keys() -> None:
    q, k, v = noise(70, 200, heads=4, kv_heads=2)
    assert torch.allclose(attention_sparse(q, k, v, ALL), dense(q, k, v), atol=1e-5)


@pytest.mark.parametrize(("tokens", "total"), [(257, 1500), (100, 1290)])
@pytest.mark.parametrize(
    "sparsity", [Sparsity(0.5, 0.01, 20), Sparsity(1.0, 0.01, 2), Sparsity(0.8, 0.3, 1)]
)
def test_choice_equals_its_reference(tokens: int, total: int, sparsity: Sparsity) -> None:
    q, k, _ = noise(tokens, total)
    chosen = choose_blocks(q, k, sparsity)
    wanted = choose_reference(importance_reference(q, k), total - tokens, sparsity)
    assert torch.equal(chosen.mask(wanted.shape[-1]), wanted)
    assert torch.equal(chosen.counts, wanted.sum(-1).int())


def test_attention_reads_nothing_but_the_list() -> None:
    q, k, v = noise(200, 900)
    taken = torch.rand(2, 2, 8) < 0.4
    taken[:, :, 0] = True
    for row in range(2):
        low, high = neighbourhood(700, row)
        taken[:, row, low : high + 1] = True
        taken[:, row, high + 1 :] = False
    counts = taken.sum(-1).int()
    lists = torch.zeros(2, 2, 8, dtype=torch.int32)
    for h, row in ((0, 0), (0, 1), (1, 0), (1, 1)):
        lists[h, row, : counts[h, row]] = taken[h, row].nonzero().flatten().int()
    got = attention_over(q, k, v, ChosenBlocks(lists, counts))
    assert torch.allclose(got, attention_over_reference(q, k, v, taken), atol=1e-5)


def test_no_more_than_the_share_is_taken() -> None:
    torch.manual_seed(1)
    importance = torch.rand(1, 1, 1000)
    taken = choose_reference(importance, 999 * BLOCK, Sparsity(1.0, 0.05, 1))
    assert int(taken.sum()) == 50 + 3  # the first and two of the neighbourhood


@pytest.mark.parametrize(("aligned", "strength"), [(False, 4.0), (True, 8.0)])
def test_questions_find_their_answers_in_few_blocks(aligned: bool, strength: float) -> None:
    folder = str(Path(__file__).resolve().parents[3] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        from gpu_shapes.needles import Haystack, accuracy, make_task
    finally:
        sys.path.remove(folder)
    hay = Haystack(8192, tokens=256, heads=2, questions=4, strength=strength, aligned=aligned)
    sparsity = Sparsity(least=4)
    plain = found = taken = 0.0
    for seed in range(4):
        task = make_task(hay, seed)
        mask = choose_reference(importance_reference(task.q, task.k), 8192 - 256, sparsity)
        plain += accuracy(task, dense, hay.run) / 4
        found += (
            accuracy(task, lambda q, k, v, m=mask: attention_over_reference(q, k, v, m), hay.run)
            / 4
        )
        taken += float(mask.float().mean()) / 4
    assert plain >= 0.95, "the task itself must be solved"
    assert found >= plain - 0.01
    assert taken <= 0.14  # five of 64 blocks by choice, and those taken always

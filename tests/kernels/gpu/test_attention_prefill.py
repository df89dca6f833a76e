"""Attention of many new tokens, in one piece and behind what is in pages."""

import pytest
import torch

from qcoder.kernels.gpu.attention_prefill import (
    attention_blocks,
    attention_prefill,
    attention_prefill_reference,
)
from qcoder.kernels.gpu.heads import Heads, split_heads
from qcoder.kernels.gpu.pages import PAGE, layer_pages, rotation
from qcoder.kernels.rotary import Yarn


def heads(dim: int, **more: object) -> Heads:
    norms = {"q_norm": torch.rand(dim) + 0.5, "k_norm": torch.rand(dim) + 0.5}
    return Heads(4, 2, dim, 1e-6, **norms, **more)


CASES = [
    (heads(32), 32, None, torch.float32, 3e-5),
    (heads(32, gated=True), 16, Yarn(4.0, 64), torch.float32, 3e-5),
    (heads(16, window=40), 16, None, torch.float32, 3e-5),
    (heads(32), 32, None, torch.int8, 0.06),
    (Heads(2, 1, 16, 1e-6), 16, None, torch.float32, 3e-5),
]


@pytest.mark.parametrize("case", CASES)
def test_pieces_equal_the_whole(case: tuple[Heads, int, Yarn | None, torch.dtype, float]) -> None:
    torch.manual_seed(0)
    shape, rotary_dim, yarn, dtype, bound = case
    turns = rotation(rotary_dim, 1e4, yarn, 1024, "cpu")
    pages = layer_pages(8, shape.kv_heads, shape.head_dim, dtype, "cpu")
    table = torch.randperm(8)[: -(-150 // PAGE)].int()
    qkv = torch.randn(150, shape.width)
    empty = torch.zeros(0, shape.kv_heads, shape.head_dim)
    wanted = attention_prefill_reference(qkv, shape, turns, empty, empty)
    parts, start = [], 0
    for count in (70, 1, 79):
        part = qkv[start : start + count].contiguous()
        parts.append(attention_prefill(part, shape, turns, pages, table, start))
        start += count
    assert (torch.cat(parts) - wanted).abs().max() < bound
    _, k, v, _ = split_heads(qkv, shape)
    behind = attention_prefill_reference(qkv[100:], shape, turns, k[:100], v[:100])
    assert torch.allclose(behind, wanted[100:], atol=1e-5)


@pytest.mark.parametrize(("tokens", "before"), [(1, 0), (33, 31), (64, 1)])
def test_blocks_end_where_the_tokens_end(tokens: int, before: int) -> None:
    torch.manual_seed(1)
    q, total = torch.randn(tokens, 2, 16), tokens + before
    k, v = torch.randn(1, total, 16), torch.randn(1, total, 16)
    hidden = torch.arange(total) > torch.arange(before, total).unsqueeze(1)
    scores = torch.einsum("qhd,td->hqt", q, k[0]) * 0.6931471805599453
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    wanted = torch.einsum("hqt,td->qhd", weights, v[0])
    assert torch.allclose(attention_blocks(q, k, v), wanted, atol=1e-5)

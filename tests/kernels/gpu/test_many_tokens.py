"""Products of many tokens: norm, one matrix, and experts."""

import pytest
import torch

from qcoder.kernels.gpu.grouped import (
    experts_many,
    experts_many_reference,
    for_matrix,
    many_linear,
    sort_by_expert,
)
from qcoder.kernels.gpu.matrix import quantize
from qcoder.kernels.gpu.rms_norm import rms_norm, rms_norm_reference

KINDS = [("float", 0), ("int8", 32), ("int8", 128), ("fp8", 128), ("int4", 32), ("int4", 128)]


@pytest.mark.parametrize("size", [7, 100, 384])
def test_norm_equals_its_reference(size: int) -> None:
    x, weight = torch.randn(3, size), torch.rand(size) + 0.5
    assert torch.allclose(rms_norm(x, weight, 1e-6), rms_norm_reference(x, weight, 1e-6), atol=1e-5)


@pytest.mark.parametrize(("kind", "group"), KINDS)
def test_product_of_many_tokens(kind: str, group: int) -> None:
    torch.manual_seed(0)
    rows, columns, tokens = 70, 384, 19
    matrix = quantize(torch.randn(rows, columns) / columns**0.5, kind, group)
    x, bias = torch.randn(tokens, columns), torch.randn(rows)
    got = many_linear(for_matrix(x, matrix), matrix, bias)
    assert torch.allclose(got, x @ matrix.floats().T + bias, atol=2e-5)


def test_every_pair_has_a_place_in_a_block_of_its_expert() -> None:
    torch.manual_seed(1)
    chosen = torch.randint(0, 6, (40, 3))
    order = sort_by_expert(chosen, 7)
    rows = order.row.view(-1, order.block)
    assert sorted(rows[rows >= 0].tolist()) == list(range(120))
    for expert, row in zip(order.expert.tolist(), rows, strict=True):
        held = row[row >= 0]
        assert (chosen.flatten()[held.long()] == expert).all()


@pytest.mark.parametrize(
    ("kind", "group"), [("float", 0), ("int8", 128), ("fp8", 128), ("int4", 32)]
)
def test_experts_of_many_tokens(kind: str, group: int) -> None:
    torch.manual_seed(2)
    experts, hidden, size, slots, tokens = 5, 256, 128, 2, 21
    gate_up = quantize(torch.randn(experts, 2 * size, hidden) / hidden**0.5, kind, group)
    down = quantize(torch.randn(experts, hidden, size) / size**0.5, kind, group)
    chosen = torch.stack([torch.randperm(experts - 1)[:slots] for _ in range(tokens)]).int()
    arguments = (
        torch.randn(tokens, hidden), gate_up, down, chosen, torch.rand(tokens, slots),
        torch.randn(tokens, hidden),
    )  # fmt: skip
    got, wanted = experts_many(*arguments), experts_many_reference(*arguments)
    assert torch.allclose(got, wanted, atol=5e-5)

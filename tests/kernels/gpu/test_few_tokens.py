"""Products of few tokens and experts: what the kernels compute equals the plain versions."""

import pytest
import torch

from qcoder.kernels.gpu.experts import experts_inner, experts_outer, experts_reference
from qcoder.kernels.gpu.linear import linear, linear_reference
from qcoder.kernels.gpu.matrix import GpuMatrix, pack_int4, quantize, unpack_int4
from qcoder.kernels.gpu.router import Routed

KINDS = [("float", 0), ("int8", 32), ("int8", 128), ("fp8", 128), ("int4", 32), ("int4", 128)]


def bound(kind: str) -> float:
    """Of the difference: int4 takes off a sum of ones, a fiftieth of what bfloat16 weights would lose."""
    return 3e-4 if kind == "int4" else 2e-5


def with_offsets(matrix: GpuMatrix) -> GpuMatrix:
    """Asymmetric int4, as GPTQ and AWQ have it."""
    assert matrix.scale is not None
    offset = -torch.rand(matrix.scale.shape).mul(16) * matrix.scale
    return GpuMatrix("int4", matrix.data, matrix.columns, matrix.scale, offset.half(), matrix.group)


@pytest.mark.parametrize("columns", [32, 96, 384])
def test_int4_words_hold_their_values(columns: int) -> None:
    values = torch.randint(0, 16, (2, 5, columns), dtype=torch.uint8)
    words = pack_int4(values)
    assert words.dtype == torch.int32
    assert words.shape == (2, 5, columns // 8)
    assert torch.equal(unpack_int4(words), values)


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize(("kind", "group"), KINDS)
def test_linear_equals_its_reference(kind: str, group: int, tokens: int) -> None:
    torch.manual_seed(0)
    rows, columns = 37, 384
    matrix = quantize(torch.randn(rows, columns) / columns**0.5, kind, group)
    x, norm, bias = torch.randn(tokens, columns), torch.rand(columns) + 0.5, torch.randn(rows)
    residual = torch.randn(tokens, rows)
    arguments = (x, matrix, norm, 1e-6, bias, residual)
    assert torch.allclose(linear(*arguments), linear_reference(*arguments), atol=bound(kind))
    assert torch.allclose(linear(x, matrix), linear_reference(x, matrix), atol=bound(kind))


def test_linear_of_asymmetric_int4() -> None:
    torch.manual_seed(1)
    matrix = with_offsets(quantize(torch.randn(20, 256), "int4", 32))
    x = torch.randn(2, 256)
    assert torch.allclose(linear(x, matrix), linear_reference(x, matrix), rtol=1e-4, atol=1e-3)


def test_rows_of_floats_need_not_divide() -> None:
    matrix, x = quantize(torch.randn(5, 70), "float"), torch.randn(1, 70)
    assert torch.allclose(linear(x, matrix), linear_reference(x, matrix), atol=1e-5)


def routed(tokens: int, hidden: int, experts: int, slots: int) -> Routed:
    chosen = torch.stack([torch.randperm(experts)[:slots] for _ in range(tokens)]).int()
    x, factor = torch.randn(tokens, hidden), torch.rand(tokens) + 0.5
    return Routed(x, x * (torch.rand(hidden) + 0.5), factor, chosen, torch.rand(tokens, slots))


@pytest.mark.parametrize(("kind", "group"), KINDS)
def test_experts_equal_their_reference(kind: str, group: int) -> None:
    torch.manual_seed(2)
    experts, hidden, size = 4, 256, 128
    gate_up = quantize(torch.randn(experts, 2 * size, hidden) / hidden**0.5, kind, group)
    down = quantize(torch.randn(experts, hidden, size) / size**0.5, kind, group)
    tokens = routed(2, hidden, experts, 2)
    got = experts_outer(experts_inner(tokens, gate_up), tokens, down)
    assert torch.allclose(got, experts_reference(tokens, gate_up, down), atol=bound(kind))


def test_experts_of_odd_size() -> None:
    torch.manual_seed(3)
    gate_up = quantize(torch.randn(3, 2 * 37, 50), "float")
    down = quantize(torch.randn(3, 50, 37), "float")
    tokens = routed(2, 50, 3, 2)
    got = experts_outer(experts_inner(tokens, gate_up), tokens, down)
    assert torch.allclose(got, experts_reference(tokens, gate_up, down), rtol=1e-4, atol=1e-3)

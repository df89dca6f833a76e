"""Every fast op against its plain reference, at odd sizes."""

import math

import pytest
import torch
from torch import Tensor

from qcoder.kernels.attention import attention_cpu, attention_reference, causal_mask
from qcoder.kernels.dispatch import backend, choose
from qcoder.kernels.int8_linear import int8_linear_cpu, int8_linear_reference, pack_int8
from qcoder.kernels.moe import (
    FEW_TOKENS,
    experts_cpu,
    experts_int8,
    experts_reference,
    route,
)
from qcoder.kernels.rms_norm import rms_norm_cpu, rms_norm_reference
from qcoder.kernels.rotary import Yarn, rotary_table, rotate_cpu, rotate_reference

SIZES = (1, 2, 3, 63, 100, 257)
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(fast: Tensor, reference: Tensor, tolerance: float) -> None:
    assert fast.dtype == reference.dtype
    assert fast.shape == reference.shape
    scale = float(reference.float().abs().max()) + 1e-6
    assert float((fast.float() - reference.float()).abs().max()) / scale <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 7), (1, 384), (3, 100), (257, 63), (1, 8, 64), (5, 3, 2)])
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight = 3 * noise(*shape, dtype=dtype), noise(shape[-1], seed=1, dtype=dtype)
    check(rms_norm_cpu(x, weight, 1e-6), rms_norm_reference(x, weight, 1e-6), DTYPES[dtype])


def test_rms_norm_with_a_weight_a_head() -> None:
    x, weight = noise(4, 3, 10), noise(3, 10, seed=1)
    by_head = [rms_norm_reference(x[:, h], weight[h], 1e-6) for h in range(3)]
    check(rms_norm_cpu(x, weight, 1e-6), torch.stack(by_head, 1), 1e-6)


def test_rms_norm_of_zeros_is_zero() -> None:
    assert torch.equal(rms_norm_cpu(torch.zeros(1, 9), torch.ones(9), 1e-6), torch.zeros(1, 9))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", SIZES)
def test_rotate(tokens: int, dtype: torch.dtype) -> None:
    x, table = noise(tokens, 3, 10, dtype=dtype), rotary_table(10, 1e4, tokens)
    check(rotate_cpu(x, table), rotate_reference(x, table), DTYPES[dtype])


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    table = rotary_table(16, 1e4, 300)
    q, k = noise(1, 1, 16), noise(1, 1, 16, seed=1)

    def product(i: int, j: int) -> float:
        return float((rotate_cpu(q, table[:, [i]]) * rotate_cpu(k, table[:, [j]])).sum())

    assert math.isclose(product(7, 3), product(254, 250), rel_tol=1e-4)
    assert not math.isclose(product(7, 3), product(7, 4), rel_tol=1e-2)
    turned = rotate_cpu(q, table[:, [299]])
    assert math.isclose(float(turned.norm()), float(q.norm()), rel_tol=1e-5)


def test_angles_at_a_million_tokens_are_exact() -> None:
    position, theta, dim = 1_000_003, 10.0, 4
    table = rotary_table(dim, theta, position + 1)
    angle = position * theta ** (-2 / dim)
    assert abs(float(table[0, position, 1]) - math.cos(angle)) < 1e-6
    assert abs(float(table[1, position, 1 + dim // 2]) - math.sin(angle)) < 1e-6


def test_yarn_keeps_fast_frequencies_and_divides_slow_ones() -> None:
    yarn = Yarn(factor=4.0, original_context=262_144)
    kept = yarn.kept(128, 1e7)
    assert math.isclose(yarn.scale, 1.13863, abs_tol=1e-5)
    assert (int((kept == 1).sum()), int((kept > 0).sum())) == (29, 43)
    plain, scaled = rotary_table(128, 1e7, 9), rotary_table(128, 1e7, 9, yarn)
    check(scaled[:, :, :29], plain[:, :, :29] * yarn.scale, 1e-6)


def test_yarn_refuses_to_shrink() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Yarn(0.5, 1024)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (6, 1)])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 63), (2, 2), (5, 100), (63, 257), (100, 100)])
def test_attention(sizes: tuple[int, int], heads: tuple[int, int], dtype: torch.dtype) -> None:
    (new, total), (q_heads, kv_heads) = sizes, heads
    q = noise(new, q_heads, 10, dtype=dtype)
    k, v = noise(kv_heads, total, 10, seed=1, dtype=dtype), noise(kv_heads, total, 10, seed=2)
    v = v.to(dtype)
    fast = attention_cpu(q, k, v, causal_mask(new, total))
    check(fast, attention_reference(q, k, v), DTYPES[dtype])


def test_attention_never_sees_the_future() -> None:
    q, k, v = noise(5, 2, 8), noise(1, 9, 8, seed=1), noise(1, 9, 8, seed=2)
    before = attention_cpu(q, k, v, causal_mask(5, 9))
    k[:, 7:], v[:, 7:] = 100.0, -100.0
    after = attention_cpu(q, k, v, causal_mask(5, 9))
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3], after[3])


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_route_is_softmax_then_top_k(top_k: int, renormalize: bool) -> None:
    x, router = noise(63, 12), noise(5, 12, seed=1)
    weights, chosen = route(x, router, top_k, renormalize)
    full = torch.softmax(x @ router.T, -1)
    check(full.gather(1, chosen), full.sort(-1, descending=True).values[:, :top_k], 1e-6)
    expected = full.gather(1, chosen)
    if renormalize:
        expected = expected / expected.sum(-1, keepdim=True)
    check(weights, expected, 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("tokens", sorted({*SIZES, FEW_TOKENS, FEW_TOKENS + 1}))
def test_experts(tokens: int, top_k: int, dtype: torch.dtype) -> None:
    x = noise(tokens, 12, dtype=dtype)
    gate_up, down = noise(5, 14, 12, seed=1, dtype=dtype), noise(5, 12, 7, seed=2, dtype=dtype)
    weights, chosen = route(x, noise(5, 12, seed=3, dtype=dtype), top_k, True)
    fast = experts_cpu(x, gate_up, down, weights, chosen)
    check(fast, experts_reference(x, gate_up, down, weights, chosen), DTYPES[dtype])


def test_experts_that_nobody_chose_are_not_read() -> None:
    gate_up, down = noise(3, 8, 6), noise(3, 6, 4)
    gate_up[2], down[2] = torch.nan, torch.nan
    for tokens in (1, 50):
        x = noise(tokens, 6, seed=4)
        chosen = torch.tensor([[0, 1]] * tokens)
        y = experts_cpu(x, gate_up, down, torch.full((tokens, 2), 0.5), chosen)
        assert bool(y.isfinite().all())


def int8_rows(*shape: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-127, 128, shape, generator=generator).to(torch.int8)
    return rows, 0.001 + torch.rand(shape[:-1], generator=generator) / 100


@pytest.mark.parametrize("shape", [(1, 1), (7, 63), (257, 100), (640, 384), (3, 2)])
@pytest.mark.parametrize("tokens", [1, 2, 3, 63])
def test_int8_linear(tokens: int, shape: tuple[int, int]) -> None:
    rows, scale = int8_rows(*shape, seed=1)
    x, table = noise(tokens, shape[1]), pack_int8(rows)
    fast = int8_linear_cpu(x, table, scale)
    check(fast, int8_linear_reference(x, table, scale), 3e-6)
    check(fast, x @ (rows.float() * scale.unsqueeze(1)).T, 3e-6)


def test_int8_linear_is_exact_on_whole_numbers() -> None:
    rows, _ = int8_rows(100, 63, seed=2)
    rows[0], rows[1] = 127, -127
    x = torch.arange(-31.0, 32.0).unsqueeze(0)
    y = int8_linear_cpu(x, pack_int8(rows), torch.ones(100))
    assert torch.equal(y, x @ rows.float().T)


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 3, 25])
def test_experts_int8(tokens: int, top_k: int) -> None:
    first, first_scale = int8_rows(4, 14, 12, seed=1)
    second, second_scale = int8_rows(4, 12, 7, seed=2)
    x = noise(tokens, 12)
    weights, chosen = route(x, noise(4, 12, seed=3), top_k, True)
    fast = experts_int8(
        x,
        torch.stack([pack_int8(m) for m in first]),
        first_scale,
        torch.stack([pack_int8(m) for m in second]),
        second_scale,
        weights,
        chosen,
    )
    floats = (first * first_scale.unsqueeze(-1), second * second_scale.unsqueeze(-1))
    check(fast, experts_reference(x, *floats, weights, chosen), 3e-6)


@pytest.mark.parametrize(
    ("value", "expected"), [("", "cpu"), ("cpu", "cpu"), ("reference", "reference")]
)
def test_the_environment_chooses_the_kernels(value: str, expected: str) -> None:
    assert backend({"QCODER_KERNELS": value}) == expected
    assert backend({}) == "cpu"


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"QCODER_KERNELS=cuda .* cpu, torch, reference"):
        backend({"QCODER_KERNELS": "cuda"})


def test_choose_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, op in (("reference", rms_norm_reference), ("cpu", rms_norm_cpu)):
        monkeypatch.setenv("QCODER_KERNELS", name)
        assert choose(cpu=rms_norm_cpu, reference=rms_norm_reference) is op

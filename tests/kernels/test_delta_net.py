"""Linear attention and its convolution: one token, chunks and halves against the plain rule."""

import pytest
import torch
from torch import Tensor

from qcoder.kernels.causal_conv import causal_conv_cpu, causal_conv_reference
from qcoder.kernels.delta_net import (
    CHUNK,
    gated_delta_rule_cpu,
    gated_delta_rule_reference,
    unit,
)
from qcoder.kernels.native_library import Native, instruction_sets, library

TOLERANCE = 2e-6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(
    tokens: int, key_heads: int = 2, group: int = 3, fade: float = 1.0, width: int = 7
) -> list[Tensor]:
    heads = key_heads * group
    rates = fade * torch.rand(tokens, heads, generator=torch.Generator().manual_seed(9))
    q, k = (noise(tokens, key_heads, 33, seed=seed) for seed in (1, 2))
    return [q, k, noise(tokens, heads, width, seed=3), -rates, torch.sigmoid(noise(tokens, heads))]


@pytest.fixture(params=instruction_sets() or ["plain"])
def native(request: pytest.FixtureRequest) -> Native:
    """Each instruction set that is here."""
    if library() is None:
        pytest.skip("the compiled kernels are not installed (no C++ compiler)")
    return Native(2, request.param)


def check(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert torch.allclose(one.float(), other.float(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("fade", [0.0, 0.01, 1.0, 80.0])
@pytest.mark.parametrize("tokens", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 131])
def test_chunks_equal_the_rule_token_by_token(tokens: int, fade: float) -> None:
    memory = 0.3 * noise(6, 33, 7, seed=4)
    args = inputs(tokens, fade=fade)
    check(gated_delta_rule_cpu(*args, memory), gated_delta_rule_reference(*args, memory))


@pytest.mark.parametrize("fade", [0.0, 0.01, 1.0, 80.0])
@pytest.mark.parametrize(("tokens", "width"), [(1, 32), (2, 96), (63, 64), (131, 32)])
def test_compiled_kernels_equal_the_rule(
    native: Native, tokens: int, width: int, fade: float
) -> None:
    memory = 0.3 * noise(6, 33, width, seed=4)
    args, before = inputs(tokens, fade=fade, width=width), memory.clone()
    found = native.delta(*args, memory)
    check(found, gated_delta_rule_reference(*args, memory))
    assert torch.equal(memory, before)
    cut = tokens // 2
    if cut:
        first, between = native.delta(*(x[:cut] for x in args), memory)
        second, after = native.delta(*(x[cut:] for x in args), between)
        assert torch.equal(torch.cat([first, second]), found[0]), "the same bits, cut or whole"
        assert torch.equal(after, found[1])


def test_memories_of_other_widths_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr("qcoder.kernels.delta_net.native", called.append)
    gated_delta_rule_cpu(*inputs(2, width=48), torch.zeros(6, 33, 48))
    assert called == []
    gated_delta_rule_cpu(*inputs(2, width=64), torch.zeros(6, 33, 64))
    assert called == [torch.get_num_threads()], "asked for, and done without"


@pytest.mark.parametrize("cut", [1, 63, 100])
def test_a_memory_continues_where_it_was_left(cut: int) -> None:
    args, memory = inputs(101), torch.zeros(6, 33, 7)
    whole = gated_delta_rule_cpu(*args, memory)
    first, between = gated_delta_rule_cpu(*(x[:cut] for x in args), memory)
    second, after = gated_delta_rule_cpu(*(x[cut:] for x in args), between)
    check((torch.cat([first, second]), after), whole)


@pytest.mark.parametrize("tokens", [1, 70])
def test_the_memory_given_is_not_changed(tokens: int) -> None:
    memory = noise(6, 33, 7)
    before = memory.clone()
    gated_delta_rule_cpu(*inputs(tokens), memory)
    assert torch.equal(memory, before)


def test_a_value_is_read_back_by_its_key() -> None:
    k, v = noise(1, 1, 33), noise(1, 1, 7, seed=1)
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    out, memory = gated_delta_rule_cpu(k, k, v, none, one, torch.zeros(1, 33, 7))
    assert torch.allclose(out * 33**0.5, v, atol=1e-5)
    other = noise(1, 1, 7, seed=2)
    out, memory = gated_delta_rule_cpu(k, k, other, none, one, memory)
    assert torch.allclose(out * 33**0.5, other, atol=1e-5), "the delta rule replaces, not adds"
    out, _ = gated_delta_rule_cpu(k, k, v, none - 200, none, memory)
    assert float(out.abs().max()) == 0, "a full decay forgets"


def test_tokens_see_no_later_ones() -> None:
    args, memory = inputs(100), torch.zeros(6, 33, 7)
    before, _ = gated_delta_rule_cpu(*args, memory)
    for x in args:
        x[60:] = 0.5
    after, _ = gated_delta_rule_cpu(*args, memory)
    assert float((before[:60] - after[:60]).abs().max()) <= TOLERANCE
    assert float((before[60:] - after[60:]).abs().max()) > 0.01


def test_smaller_types_are_computed_in_float32() -> None:
    args, memory = inputs(70), noise(6, 33, 7)
    small = [x.bfloat16() for x in args]
    out, state = gated_delta_rule_cpu(*small, memory)
    expected, _ = gated_delta_rule_reference(*(x.float() for x in small), memory)
    assert (out.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert torch.allclose(out.float(), expected, atol=1e-2)


def test_a_zero_vector_has_no_direction() -> None:
    assert torch.equal(unit(torch.zeros(1, 4)), torch.zeros(1, 4))
    assert torch.allclose(unit(noise(3, 4)).norm(dim=-1), torch.ones(3), atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 63])
def test_causal_conv(tokens: int, kernel: int) -> None:
    x, weight, history = noise(tokens, 11), noise(11, kernel), noise(kernel - 1, 11, seed=1)
    found = causal_conv_cpu(x, weight, history)
    check(found, causal_conv_reference(x, weight, history))
    assert torch.equal(found[1], torch.cat([history, x])[tokens:])

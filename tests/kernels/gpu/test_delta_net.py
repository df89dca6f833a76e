"""Linear attention on a GPU: a step of many sequences and chunks equal the rule token by token."""

import pytest
import torch
from torch import Tensor

from qcoder.kernels.gpu.delta_net import (
    DeltaNetStates,
    GpuDeltaNet,
    delta_net_reference,
    delta_net_step,
)
from qcoder.kernels.gpu.delta_net_chunks import delta_net_prefill


def small_layer(
    key_heads: int = 2, group: int = 2, key_dim: int = 16, value_dim: int = 32, taps: int = 4
) -> GpuDeltaNet:
    heads = key_heads * group
    channels = 2 * key_heads * key_dim + heads * value_dim
    return GpuDeltaNet(
        key_heads, heads, key_dim, value_dim, torch.randn(channels, taps) / 2,
        -torch.rand(heads), torch.randn(heads), torch.rand(value_dim) + 0.5, 1e-6,
    )  # fmt: skip


def noisy_states(layer: GpuDeltaNet, slots: int) -> DeltaNetStates:
    empty = DeltaNetStates.empty(layer, slots, "cpu")
    return DeltaNetStates(
        0.3 * torch.randn_like(empty.memory), shared_history(layer, torch.randn_like(empty.history))
    )


def shared_history(layer: GpuDeltaNet, history: Tensor) -> Tensor:
    """q and k of a key head are the same for all the value heads that it serves."""
    both = 2 * layer.key_dim
    first = history[:, :: layer.group, :, :both].repeat_interleave(layer.group, dim=1)
    return torch.cat([first, history[..., both:]], dim=-1).contiguous()


def inputs(layer: GpuDeltaNet, tokens: int) -> tuple[Tensor, Tensor]:
    return torch.randn(tokens, layer.width), torch.randn(tokens, 2 * layer.value_heads)


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def close(found: Tensor, expected: Tensor, atol: float = 3e-6) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= atol


@pytest.mark.parametrize(("taps", "group"), [(4, 2), (2, 1), (3, 3)])
def test_one_token_updates_its_state_in_place(taps: int, group: int) -> None:
    torch.manual_seed(taps)
    layer = small_layer(group=group, taps=taps)
    states, (qkvz, ba) = noisy_states(layer, 2), inputs(layer, 1)
    expected = delta_net_reference(qkvz, ba, layer, states.memory[1], states.history[1])
    untouched = states.memory[0].clone()
    y = delta_net_step(qkvz, ba, layer, states, int32(0, 1), int32(1), int32(1))
    close(y, expected[0])
    close(states.memory[1], expected[1])
    assert torch.equal(states.history[1], expected[2])
    assert torch.equal(states.memory[0], untouched)


def test_sequences_of_different_lengths_share_a_launch() -> None:
    torch.manual_seed(1)
    layer, lengths, slots = small_layer(), (3, 1, 5), (2, 0, 3)
    states, (qkvz, ba) = noisy_states(layer, 4), inputs(layer, 9)
    before = [(states.memory[s].clone(), states.history[s].clone()) for s in slots]
    starts, kept = int32(0, 3, 4, 9), int32(-1, -1, 2, 0, -1, -1, -1, -1, 3)
    y = delta_net_step(qkvz, ba, layer, states, starts, int32(*slots), kept)
    start = 0
    for length, slot, (memory, history) in zip(lengths, slots, before, strict=True):
        at = slice(start, start + length)
        expected = delta_net_reference(qkvz[at], ba[at], layer, memory, history)
        close(y[at], expected[0])
        close(states.memory[slot], expected[1])
        assert torch.equal(states.history[slot], expected[2])
        start += length


def test_a_sequence_goes_back_to_any_draft() -> None:
    torch.manual_seed(2)
    layer, drafts = small_layer(), 4
    states, (qkvz, ba) = noisy_states(layer, 1 + drafts), inputs(layer, drafts)
    memory, history = states.memory[0].clone(), states.history[0].clone()
    kept = int32(*range(1, 1 + drafts))
    delta_net_step(qkvz, ba, layer, states, int32(0, drafts), int32(0), kept)
    assert torch.equal(states.memory[0], memory)
    for accepted in range(1, 1 + drafts):
        expected = delta_net_reference(qkvz[:accepted], ba[:accepted], layer, memory, history)
        close(states.memory[accepted], expected[1])
        assert torch.equal(states.history[accepted], expected[2])


@pytest.mark.parametrize("a", [-40.0, -8.0, 0.0, 25.0, 80.0])
def test_decay_is_right_at_both_ends(a: float) -> None:
    torch.manual_seed(3)
    layer = small_layer(key_heads=1, group=1)
    states, (qkvz, ba) = noisy_states(layer, 1), inputs(layer, 1)
    ba[:, 1] = a
    expected = delta_net_reference(qkvz, ba, layer, states.memory[0], states.history[0])
    y = delta_net_step(qkvz, ba, layer, states, int32(0, 1), int32(0), int32(0))
    close(y, expected[0])
    close(states.memory[0], expected[1], 1e-6)


def prefill_equals_reference(layer: GpuDeltaNet, qkvz: Tensor, ba: Tensor, atol: float) -> None:
    states = noisy_states(layer, 2)
    expected = delta_net_reference(qkvz, ba, layer, states.memory[1], states.history[1])
    y = delta_net_prefill(qkvz, ba, layer, states, 1, 1)
    close(y, expected[0], atol)
    close(states.memory[1], expected[1], atol)
    assert torch.equal(states.history[1], expected[2])


@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 131])
def test_chunks_equal_the_rule_token_by_token(tokens: int) -> None:
    torch.manual_seed(tokens)
    layer = small_layer(key_heads=1)
    prefill_equals_reference(layer, *inputs(layer, tokens), atol=1e-5)


@pytest.mark.parametrize("a", [-30.0, 6.0, 60.0])
def test_chunks_bear_memories_that_fade_never_or_at_once(a: float) -> None:
    torch.manual_seed(4)
    layer = small_layer(key_heads=1)
    qkvz, ba = inputs(layer, 100)
    ba[:, 2:] = a + torch.randn(100, 2)
    prefill_equals_reference(layer, qkvz, ba, atol=2e-4)


def test_chunks_of_one_repeated_token_stay_exact() -> None:
    torch.manual_seed(5)
    layer = small_layer(key_heads=1)
    qkvz, ba = (row.repeat(128, 1) for row in inputs(layer, 1))
    ba[:] = torch.tensor([9.0, 9.0, -30.0, -30.0])
    prefill_equals_reference(layer, qkvz, ba, atol=2e-5)


def test_steps_go_on_where_chunks_ended() -> None:
    torch.manual_seed(6)
    layer, tokens = small_layer(), 70
    states, (qkvz, ba) = noisy_states(layer, 3), inputs(layer, tokens)
    expected = delta_net_reference(qkvz, ba, layer, states.memory[0], states.history[0])
    first = delta_net_prefill(qkvz[:68], ba[:68], layer, states, 0, 2)
    rest = delta_net_step(qkvz[68:], ba[68:], layer, states, int32(0, 2), int32(2), int32(-1, 1))
    close(torch.cat([first, rest]), expected[0], 1e-5)
    close(states.memory[1], expected[1], 1e-5)
    assert torch.equal(states.history[1], expected[2])

"""Models with linear attention: their state beside the KV cache, and reuse from snapshots only."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from qcoder.kernels.causal_conv import causal_conv_reference
from qcoder.kernels.delta_net import gated_delta_rule_reference
from qcoder.model import delta_net
from qcoder.model.generation import PREFILL_CHUNK
from qcoder.model.kv_cache import MAX_SNAPSHOTS, CacheShape, LayerState, StateShape
from qcoder.model.kv_cache import Sequence as KvSequence
from qcoder.model.local import LocalEngine
from qcoder.model.prefix_cache import PrefixCache, boundaries
from qcoder.model.request import GenerationRequest, Prompt

STATE = StateShape(layers=2, heads=1, key_dim=2, value_dim=3, channels=5, history=3)
SHAPE = CacheShape(layers=1, kv_heads=1, head_dim=2, max_tokens=2000, state=STATE)


@pytest.fixture
def engine(tiny_next: Any) -> LocalEngine:
    return LocalEngine.load(str(tiny_next.folder))


def run(engine: LocalEngine, ids: Sequence[int], max_tokens: int = 6) -> list[int]:
    request = GenerationRequest(Prompt(tuple(ids)), max_tokens=max_tokens)
    return [out.id for out in engine.generate(request)]


def prompt(engine: LocalEngine, *sizes: int, seed: int = 0) -> list[int]:
    """Files of the given sizes, with a special token before each."""
    rng, separator = random.Random(seed), engine.tokenizer.special["<|file_sep|>"]
    return [i for size in sizes for i in (separator, *(rng.randrange(300) for _ in range(size)))]


def fill(sequence: KvSequence, count: int) -> None:
    """Append tokens; the states hold the length behind them, as a forward pass would."""
    sequence.reserve(len(sequence) + count)
    for layer in range(STATE.layers):
        mark = float(len(sequence) + count + layer)
        state = LayerState(torch.full((1, 2, 3), mark), torch.full((3, 5), mark))
        sequence.set_state(layer, state)
    sequence.write(0, torch.ones(count, 1, 2), torch.ones(count, 1, 2))
    sequence.extend([7] * count)


def marks(sequence: KvSequence) -> list[float]:
    return [float(sequence.state(layer).memory[0, 0, 0]) for layer in range(STATE.layers)]


def test_cached_generation_equals_full_passes(engine: LocalEngine) -> None:
    ids, out = prompt(engine, 70, 90), []
    for _ in range(6):
        out.append(int(engine.logits([*ids, *out])[-1].argmax()))
    assert run(engine, ids) == out
    assert run(engine, ids) == out
    engine.check_integrity()


def test_the_same_prompt_again_costs_one_token(engine: LocalEngine) -> None:
    ids = prompt(engine, PREFILL_CHUNK + 30)
    run(engine, ids)
    run(engine, ids)
    assert engine.stats().last.reused_tokens == len(ids) - 1


def test_reuse_goes_back_to_the_last_boundary_before_the_change(engine: LocalEngine) -> None:
    first = prompt(engine, 50, 40, 30)
    run(engine, first)
    changed = [*first[:100], first[100] ^ 1, *first[101:]]
    found = run(engine, changed)
    assert engine.stats().last.reused_tokens == 51 + 41
    fresh = LocalEngine.load(engine.info.path)
    assert found == run(fresh, changed)
    changed = [*first[:20], first[20] ^ 1, *first[21:]]
    run(engine, changed)
    assert engine.stats().last.reused_tokens == 0
    engine.check_integrity()


def test_random_edits_never_change_what_is_generated(engine: LocalEngine) -> None:
    rng, ids = random.Random(0), prompt(engine, 20, 30, 25)
    fresh = LocalEngine.load(engine.info.path)
    reused = 0
    for _ in range(12):
        at = rng.randrange(len(ids))
        ids = [*ids[:at], *(rng.randrange(300) for _ in range(rng.randrange(3))), *ids[at + 1 :]]
        fresh._cache = PrefixCache(fresh._model.new_sequence)
        assert run(engine, ids, 3) == run(fresh, ids, 3)
        reused += engine.stats().last.reused_tokens
        engine.check_integrity()
    assert reused > 0


def test_a_pass_that_fails_leaves_the_state_as_it_was(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt(engine, 40)
    expected = run(engine, ids)

    def failing(*args: Any) -> torch.Tensor:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(engine._model, "layers", [*engine._model.layers[:-1], failing])
        with pytest.raises(MemoryError):
            run(engine, [*ids, 5, 6, 7])
    engine.check_integrity()
    assert run(engine, ids) == expected


def test_a_state_counts_only_once_the_tokens_do() -> None:
    sequence = KvSequence(SHAPE)
    fill(sequence, 5)
    sequence.set_state(0, LayerState(torch.zeros(1, 2, 3), torch.zeros(3, 5)))
    assert marks(sequence) == [5.0, 6.0]


def test_a_sequence_is_cut_at_snapshots_only() -> None:
    sequence = KvSequence(SHAPE)
    fill(sequence, 5)
    sequence.snapshot()
    fill(sequence, 5)
    assert [sequence.cuttable(n) for n in (0, 4, 5, 9, 10, 11)] == [0, 0, 5, 5, 10, 10]
    copy = sequence.copy_prefix(5)
    with pytest.raises(AssertionError, match="none was kept"):
        sequence.truncate(7)
    fill(sequence, 3)
    for one in (sequence, copy):
        one.truncate(5)
        assert marks(one) == [5.0, 6.0]
        fill(one, 2)
        assert marks(one) == [7.0, 8.0]
        one.check_integrity()
    copy.truncate(0)
    assert marks(copy) == [0.0, 0.0]
    assert copy.cuttable(9) == 0


def test_old_snapshots_go_and_all_are_counted() -> None:
    sequence = KvSequence(SHAPE)
    before = sequence.size_bytes
    for _ in range(MAX_SNAPSHOTS + 2):
        fill(sequence, 1)
        sequence.snapshot()
    sequence.check_integrity()
    assert sequence.cuttable(2) == 0
    assert sequence.cuttable(3) == 3
    assert sequence.size_bytes - before == MAX_SNAPSHOTS * SHAPE.state_bytes
    assert SHAPE.state_bytes == 2 * 4 * (2 * 3 + 3 * 5)


def test_a_number_that_is_none_in_a_state_is_found() -> None:
    sequence = KvSequence(SHAPE)
    fill(sequence, 1)
    sequence.set_state(1, LayerState(torch.full((1, 2, 3), torch.nan), torch.zeros(3, 5)))
    sequence.extend([])
    with pytest.raises(AssertionError):
        sequence.check_integrity()


@pytest.mark.parametrize(
    ("specials", "length", "expected"),
    [
        ([], 1, []),
        ([], 9, [8]),
        ([0], 9, [8]),
        ([0, 4], 9, [4, 8]),
        ([0, 3, 5, 7], 9, [3, 5, 7, 8]),
        ([*range(0, 100, 10), 103], 105, [20, 40, 70, 90, 103, 104]),
        ([8], 9, [8]),
    ],
)
def test_states_are_kept_before_special_tokens(
    specials: list[int], length: int, expected: list[int]
) -> None:
    ids = [1 if at in specials else 0 for at in range(length)]
    assert boundaries(ids, {1}) == expected
    assert len(expected) <= MAX_SNAPSHOTS


def test_the_plain_kernels_give_the_same_logits(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt(engine, 100)
    expected = engine.logits(ids)
    monkeypatch.setattr(delta_net, "gated_delta_rule", gated_delta_rule_reference)
    monkeypatch.setattr(delta_net, "causal_conv", causal_conv_reference)
    # The logits of these wide weights reach 15, their rounding 1e-4.
    assert float((engine.logits(ids) - expected).abs().max()) <= 5e-4


def test_bfloat16_means_nearly_the_same(tiny_next: Any, engine: LocalEngine) -> None:
    half = LocalEngine.load(str(tiny_next.folder), dtype="bfloat16")
    ids = prompt(engine, 100)
    exact, found = (e.logits(ids).log_softmax(-1) for e in (engine, half))
    divergence = (exact.exp() * (exact - found)).sum(-1)
    assert float(divergence.median()) <= 0.02, "a few tokens go to other experts, the rest agrees"
    assert run(half, ids) == run(half, ids)
    half.check_integrity()

"""Reuse of computed prefixes: what is found, kept, cut and thrown away."""

import random

import pytest
import torch

from qcoder.model.kv_cache import FIRST_CAPACITY, CacheShape, Sequence
from qcoder.model.prefix_cache import PrefixCache, common_prefix

SHAPE = CacheShape(layers=2, kv_heads=1, head_dim=3, max_tokens=2000)


def fill(sequence: Sequence, ids: list[int]) -> None:
    """Append ids whose columns hold the id and the position, as a forward pass would."""
    sequence.reserve(len(sequence) + len(ids))
    start = len(sequence)
    marks = [100.0 * i + at for at, i in enumerate(ids, start)]
    columns = torch.tensor(marks).view(-1, 1, 1).expand(-1, 1, 3)
    for layer in range(2):
        sequence.write(layer, columns + layer, -columns - layer)
    sequence.ids.extend(ids)


def check_columns(sequence: Sequence) -> None:
    for layer in range(2):
        none = torch.empty(0, 1, 3)
        keys, values = sequence.write(layer, none, none)
        marks = torch.tensor([100.0 * i + at for at, i in enumerate(sequence.ids)]) + layer
        assert torch.equal(keys[0, :, 0], marks)
        assert torch.equal(values[0, :, 2], -marks)


def use(cache: PrefixCache, ids: list[int]) -> int:
    sequence, reused = cache.acquire(ids, len(ids) + 5)
    assert sequence.ids == ids[:reused]
    fill(sequence, ids[reused:])
    check_columns(sequence)
    cache.check_integrity()
    return reused


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([2], [1], 0)],
)
def test_common_prefix(a: list[int], b: list[int], expected: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == expected


def test_appending_reuses_all_and_editing_reuses_up_to_the_edit() -> None:
    cache, ids = PrefixCache(lambda: Sequence(SHAPE)), list(range(100))
    assert use(cache, ids) == 0
    assert use(cache, [*ids, 7]) == 100
    assert use(cache, [*ids, 7]) == 100, "the last token is computed again"
    assert use(cache, [*ids[:63], 500, *ids[64:]]) == 63
    assert use(cache, ids[:1]) == 0
    assert len(cache) == 2


def test_prompts_that_share_little_do_not_overwrite_each_other() -> None:
    cache = PrefixCache(lambda: Sequence(SHAPE))
    head, one, two = list(range(20)), [1000 + i for i in range(80)], [2000 + i for i in range(80)]
    assert use(cache, head + one) == 0
    assert use(cache, head + two) == 20
    assert use(cache, head + one) == 99
    assert use(cache, head + two) == 99
    assert len(cache) == 2


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(lambda: Sequence(SHAPE), max_sequences=3)
    prompts = [[n * 10 + i for i in range(9)] for n in range(4)]
    for prompt in prompts[:3]:
        use(cache, prompt)
    assert use(cache, prompts[0]) == 8
    use(cache, prompts[3])
    assert [use(cache, p) for p in (prompts[0], prompts[2], prompts[3])] == [8, 8, 8]
    assert use(cache, prompts[1]) == 0


def test_the_size_cap_holds_but_never_takes_the_newest() -> None:
    one = FIRST_CAPACITY * SHAPE.token_bytes
    cache = PrefixCache(lambda: Sequence(SHAPE), max_bytes=2 * one)
    for n in range(4):
        use(cache, [n, n, n])
    assert (len(cache), cache.size_bytes) == (2, 2 * one)
    use(cache, list(range(1500)))
    assert len(cache) == 1
    assert use(cache, list(range(1500))) == 1499


@pytest.mark.parametrize("size", [1, 63, 100, 257, 1025])
def test_growing_keeps_the_columns(size: int) -> None:
    sequence = Sequence(SHAPE, capacity=1)
    for start in range(0, size, 100):
        fill(sequence, list(range(start, min(start + 100, size))))
    check_columns(sequence)
    sequence.check_integrity()
    assert size <= sequence.capacity <= max(2 * size, FIRST_CAPACITY)


def test_a_sequence_never_outgrows_the_context() -> None:
    sequence = Sequence(SHAPE)
    with pytest.raises(ValueError, match="2001 tokens, the cache holds 2000"):
        sequence.reserve(2001)
    sequence.reserve(2000)
    assert sequence.size_bytes == 2000 * SHAPE.token_bytes


def test_random_edits_always_find_the_longest_prefix() -> None:
    rng = random.Random(0)
    cache, prompts = PrefixCache(lambda: Sequence(SHAPE), max_sequences=4), [[0] * 30]
    for _ in range(200):
        ids = rng.choice(prompts)[:]
        at = rng.randrange(len(ids) + 1)
        ids[at : at + rng.randrange(4)] = [rng.randrange(50) for _ in range(rng.randrange(6))]
        ids = ids[:60] or [1]
        held = [list(s.ids) for s in cache._sequences]
        longest = max((common_prefix(h, ids) for h in held), default=0)
        assert use(cache, ids) == min(longest, len(ids) - 1)
        prompts = [*prompts[-5:], ids]

"""Pages at other positions: what is attached, that positions are right, that nothing else changes."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcoder.kernels.native_decoder import PAGE_TOKENS
from qcoder.kernels.native_library import library
from qcoder.model.decoder import Pass
from qcoder.model.errors import Interrupted
from qcoder.model.generation import passes, to_compute
from qcoder.model.local import LocalEngine
from qcoder.model.native_model import NativeModel
from qcoder.model.paged_cache import PagedSequence
from qcoder.model.prefix_cache import PrefixCache
from qcoder.model.request import GenerationRequest, Prompt
from qcoder.model.segment_reuse import MODES, ReuseMode, allowed, reusable

pytestmark = pytest.mark.skipif(
    library() is None, reason="the compiled kernels are not installed (no C++ compiler)"
)

FREE = ReuseMode(lead=0, tail=1, least=1, oldest=9)
SHAPE = {
    "hidden_size": 64,
    "moe_intermediate_size": 64,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}


@pytest.fixture(autouse=True, scope="module")
def without_compiled_kernels() -> Iterator[None]:
    """Here they are used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCODER_KERNELS", "cpu")
        yield


@pytest.fixture(scope="module")
def folder(make_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    from qcoder.model.import_plan import Options
    from qcoder.model.importer import import_model

    tiny = make_tiny(seed=3, **SHAPE)
    target = tmp_path_factory.mktemp("imported") / "int8"
    import_model(tiny.folder, target, Options("int8"))
    return str(target)


@pytest.fixture(scope="module")
def model(folder: str) -> NativeModel:
    found = LocalEngine.load(folder, reuse="balanced")._model
    assert isinstance(found, NativeModel)
    return found


def ids_of(size: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300) for _ in range(size)]


def computed(model: NativeModel, ids: list[int]) -> PagedSequence:
    sequence = model.new_sequence()
    with torch.inference_mode():
        model.forward(ids, sequence)
    return sequence


def fill(model: NativeModel, sequence: PagedSequence, ids: list[int], stretches: Any) -> Any:
    """Compute and attach up to the end; the logits of the last token."""
    for stretch in stretches:
        if stretch.start > len(sequence):
            with torch.inference_mode():
                model.forward(ids[len(sequence) : stretch.start], sequence)
        sequence.attach(stretch.pages, stretch.end)
    with torch.inference_mode():
        return model.forward(ids[len(sequence) :], sequence)


@pytest.mark.parametrize("chunk", [1, 7, 31, 50, 64, 300])
def test_a_pass_over_several_stretches_is_that_of_one_after_the_other(
    model: NativeModel, chunk: int
) -> None:
    parts = [ids_of(size, seed) for seed, size in enumerate((40, 170, 200, 90, 64))]
    source = computed(model, [token for part in parts for token in part])
    ids = [*parts[3], 5, 6, *parts[1], *ids_of(9, 9), *parts[2], 7, *parts[4], 8, 9]
    stretches = reusable(ids, 0, [source], FREE)
    assert len(stretches) >= 3
    model._store._free.clear()  # new memory is zeros, so that whole pages can be compared
    slow, fast = model.new_sequence(), model.new_sequence()
    expected = fill(model, slow, ids, stretches)
    asked = []
    with torch.inference_mode():
        for end, between in passes(0, len(ids), stretches, chunk=chunk):
            begin = len(fast)
            new = to_compute(ids, begin, end, between)
            asked.append(len(new))
            if end > begin:
                keep = int(end == len(ids))
                (found,) = model.compute([Pass(new, fast, keep, prefill=True, moved=between)])
    fast.check_integrity()
    assert fast.ids == slow.ids == ids
    assert torch.equal(found[-1], expected)
    assert all(torch.equal(a.data, b.data) for a, b in zip(fast.pages, slow.pages, strict=True))
    assert [p.age for p in fast.pages] == [p.age for p in slow.pages]
    assert max(asked) <= chunk
    assert len(asked) <= sum(asked) // chunk + 2


def test_a_page_that_was_never_full_is_not_said_to_be(model: NativeModel) -> None:
    source = computed(model, ids_of(96, 1))
    sequence = computed(model, ids_of(42, 2))  # ten tokens in its second page
    sequence.attach(source.pages)
    sequence.truncate(47)  # within the first attached page, which is copied when it is written
    with torch.inference_mode():
        model.forward(ids_of(60, 3), sequence)
    sequence.check_integrity()
    assert sequence.starts[:4] == [0, 32, 42, 74]
    assert [len(page.ids) for page in sequence.pages[:4]] == [32, 0, 32, 32]


def test_a_pass_over_stretches_that_is_interrupted_leaves_nothing(model: NativeModel) -> None:
    old = ids_of(300, 1)
    source = computed(model, old)
    ids = [*old[:70], 5, *old[80:]]
    sequence = source.copy_prefix(70)
    stretches = reusable(ids, 70, [source], FREE)
    new = [*ids[70 : stretches[0].start], *ids[stretches[-1].end :]]
    asked = iter([False, True])
    with torch.inference_mode(), pytest.raises(Interrupted):
        model.compute(
            [Pass(new, sequence, 1, prefill=True, stop=lambda: next(asked), moved=stretches)]
        )
    assert sequence.ids == old[:70]
    sequence.check_integrity()
    with torch.inference_mode():
        (found,) = model.compute([Pass(new, sequence, 1, prefill=True, moved=stretches)])
    assert torch.equal(found[0], fill(model, source.copy_prefix(70), ids, stretches))


def test_a_line_edited_in_the_middle_keeps_what_is_behind_it(model: NativeModel) -> None:
    old = ids_of(500, 1)
    new = [*old[:240], *ids_of(7, 2), *old[250:]]
    sequence = computed(model, old)
    mode = MODES["balanced"]
    assert mode is not None
    (stretch,) = reusable(new, 240, [sequence], mode)
    # The first whole page behind the edit, old[256:288], at 253 now, is the lead, computed anew.
    assert stretch.start == 253 + PAGE_TOKENS * mode.lead
    assert len(new) - mode.tail - PAGE_TOKENS < stretch.end <= len(new) - mode.tail
    first = 256 + PAGE_TOKENS * mode.lead
    assert [page.ids for page in stretch.pages] == [
        tuple(old[at : at + PAGE_TOKENS])
        for at in range(first, first + PAGE_TOKENS * len(stretch.pages), PAGE_TOKENS)
    ]


def test_a_lead_is_computed_anew(model: NativeModel) -> None:
    old = ids_of(300, 1)
    mode = ReuseMode(lead=1, tail=8, least=2, oldest=0)
    (stretch,) = reusable([5, *old], 0, [computed(model, old)], mode)
    assert stretch.start == 33


def test_a_file_that_moved_within_the_prompt_is_found(model: NativeModel) -> None:
    head, first, second, end = ids_of(40, 1), ids_of(170, 2), ids_of(200, 3), ids_of(60, 4)
    sequence = computed(model, head + first + second + end)
    ids = head + second + first + end
    found = reusable(ids, 40, [sequence], FREE)
    attached = sum(stretch.end - stretch.start for stretch in found)
    assert len(found) >= 2
    assert attached >= 0.75 * (len(first) + len(second))


def test_attached_pages_are_seen_at_their_new_positions(model: NativeModel) -> None:
    # One page alone: in layer 0 keys and values depend on nothing before it, and a model cut after
    # layer 0 says exactly what it says without the cache, whichever position the page is moved to.
    decoder, page = model._decoder, ids_of(32, 5)
    one = NativeModel(decoder, type(model._kernels)(
        model._kernels.native, model._kernels.shape, model._kernels.layers[:1], decoder.norm,
        model._kernels.head, model._kernels.frequency,
    ), "fast")  # fmt: skip
    source = computed(one, ids_of(64, 6) + page)
    for lead in (1, 31, 32, 77, 500):
        ids = [*ids_of(lead, lead), *page, 7, 8, 9]
        stretches = reusable(ids, 0, [source], FREE)
        assert [s.start for s in stretches] == [lead]
        found = fill(one, one.new_sequence(), ids, stretches)
        expected = fill(one, one.new_sequence(), ids, [])
        # The last bits of rotations differ, and with them now and then what rounds to int8.
        assert (found - expected).norm() < 0.03 * expected.norm()
        astray = one.new_sequence()
        fill(one, astray, ids[:lead], [])
        astray.attach(stretches[0].pages)
        astray._turns[-1] = one._kernels.turn(lead + 9)
        astray._table["turn"][len(astray.pages) - 1] = astray._turns[-1].data_ptr()
        with torch.inference_mode():
            wrong = one.forward(ids[-3:], astray)
        assert (wrong - expected).norm() > 2 * (found - expected).norm(), "positions matter"


def test_nothing_that_is_attached_is_written(model: NativeModel) -> None:
    old = ids_of(300, 8)
    source = computed(model, old)
    held = [page.data.clone() for page in source.pages]
    new = [*ids_of(9, 9), *old[32:200], *ids_of(80, 10)]
    stretches = reusable(new, 0, [source], FREE)
    taken = model.new_sequence()
    fill(model, taken, new, stretches)
    # Both are cut inside of what they share, and go on differently.
    for sequence, cut in ((taken, 9 + 40), (source, 70)):
        sequence.truncate(cut)
        with torch.inference_mode():
            model.forward(ids_of(50, cut), sequence)
        sequence.check_integrity()
    for page, before in zip(stretches[0].pages, held[1:], strict=False):
        assert torch.equal(page.data, before)


def test_what_was_computed_behind_attached_pages_ages(model: NativeModel) -> None:
    old = ids_of(320, 11)
    source = computed(model, old)
    assert {page.age for page in source.pages} == {0}
    new = [*ids_of(5, 12), *old]
    sequence = model.new_sequence()
    fill(model, sequence, new, reusable(new, 0, [source], FREE))
    assert sequence.exact == 5
    assert sequence.pages[-1].age == 1
    young = ReuseMode(lead=0, tail=1, least=1, oldest=0)
    again = [*ids_of(6, 13), *new[-40:], 5]
    assert reusable(again, 0, [sequence], young) == []


def test_exact_mode_attaches_nothing_and_keeps_only_what_is_exact(folder: str) -> None:
    exact = LocalEngine.load(folder, reuse="exact")._model
    assert isinstance(exact, NativeModel)
    old = ids_of(400, 14)
    source = computed(exact, old)
    assert exact.reusable([1, *old], 0, [source]) == []
    sequence = exact.new_sequence()
    with torch.inference_mode():
        exact.forward([1, 2, 3], sequence)
    sequence.attach(source.pages[:3])
    assert sequence.cuttable(50) == 3


def test_a_generation_reuses_and_says_so(folder: str) -> None:
    engine = LocalEngine.load(folder, reuse="balanced")
    old = ids_of(600, 15)
    new = [*old[:200], 3, *old[205:]]
    for ids in (old, new):
        list(engine.generate(GenerationRequest(Prompt(tuple(ids)), max_tokens=2, mixture=False)))
        engine.check_integrity()
    last = engine.stats().last
    assert last.prompt_tokens == len(new)
    assert last.reused_tokens > 0.8 * len(new)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_random_edits_never_break_the_cache(model: NativeModel, data: st.DataObject) -> None:
    cache: PrefixCache[PagedSequence] = PrefixCache(model.new_sequence, max_sequences=3)
    text = ids_of(260, 1)
    for _ in range(6):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 40))
        new = ids_of(data.draw(st.integers(0, 40)), data.draw(st.integers(0, 5)))
        text = ([*text[:at], *new, *text[at + gone :]] or [1])[:400]
        moved = reusable(text, cache.longest(text), cache.sequences, FREE)
        assert all(
            text[s.start : s.end] == [id for page in s.pages for id in page.ids][: s.end - s.start]
            for s in moved
        )
        sequence, _ = cache.acquire(text, len(text))
        logits = fill(model, sequence, text, moved)
        assert sequence.ids == text
        assert bool(logits.isfinite().all())
        cache.check_integrity()


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({}, "balanced"),
        ({"kv_reuse": {"fast": {"mean_kl_nats": 1, "greedy_agreement": 0}}}, "balanced"),
        ({"kv_reuse": {"balanced": {"mean_kl_nats": 0.01, "greedy_agreement": 0.98}}}, "balanced"),
        ({"kv_reuse": {"balanced": {"mean_kl_nats": 0.011, "greedy_agreement": 1.0}}}, "exact"),
        ({"kv_reuse": {"balanced": {"mean_kl_nats": 0.0, "greedy_agreement": 0.97}}}, "exact"),
        ({"kv_reuse": {"balanced": {"mean_kl_nats": "much"}}}, "exact"),
    ],
)
def test_a_mode_that_lost_too_much_is_refused(manifest: dict[str, Any], expected: str) -> None:
    assert allowed("balanced", manifest) == expected


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ValueError, match="reuse 'all' is unknown; use one of: exact, balanced"):
        allowed("all", {})

"""Drafts change how fast tokens come, never which."""

from collections.abc import Generator, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qcoder.kernels.native_library import library
from qcoder.model.decoder import Pass
from qcoder.model.local import LocalEngine
from qcoder.model.ngram import LONGEST_DRAFT, Draft
from qcoder.model.request import GenerationRequest, Prompt, SamplingParams
from qcoder.model.speculation import Experience, Stepper

PIECES = (
    "class Reader:\n    def __init__(self, path: str, limit: int) -> None:\n        self.path = path\n",
    "for name, value in items.items():\n    if name not in seen:\n        seen[name] = value\n",
    "assert first == 1\nassert second == 2\nassert third == 3\nassert fourth ==",
    "import os\nimport sys\n\n\ndef main() -> int:\n    return os.path.join(sys.argv[1], sys.argv[2])\n",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    if library() is None:
        pytest.skip("the compiled kernels are not installed (no C++ compiler)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCODER_KERNELS", "cpu")
        yield LocalEngine.load("default", threads=1)


def generate(engine: LocalEngine, text: str, sampling: SamplingParams) -> list[tuple[int, float]]:
    ids = tuple(engine.tokenizer.encode(text))
    outs = engine.generate(GenerationRequest(Prompt(ids), max_tokens=24, sampling=sampling))
    return [(out.id, out.logprob) for out in outs]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_output_is_that_of_plain_decoding(
    engine: LocalEngine, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [a + b + a[: len(a) // 2] for a in PIECES for b in PIECES]
    texts += [a + a.replace("first", "one").replace("name", "key")[:60] for a in PIECES]
    samplings = [SamplingParams(temperature=temperature, seed=seed) for seed in range(2)]
    # Whatever it costs: the longest drafts.
    monkeypatch.setattr(Experience, "length", lambda self, matched, most: min(most, LONGEST_DRAFT))
    engine._experience = Experience()
    with_drafts = [generate(engine, text, s) for text in texts for s in samplings]
    assert engine._experience.accepted > 50
    assert engine._experience.drafted > engine._experience.accepted
    monkeypatch.setattr(engine._model, "drafts", False)
    assert with_drafts == [generate(engine, text, s) for text in texts for s in samplings]
    engine.check_integrity()


class Counting:
    """A network over a sequence of ids: the logits behind a token are that token, and the length."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def __len__(self) -> int:
        return len(self.ids)

    def truncate(self, length: int) -> None:
        del self.ids[length:]

    def compute(self, one: Pass) -> Tensor:
        assert one.sequence is self
        assert one.keep == len(one.ids)
        rows = []
        ids = one.ids
        for token in ids:
            self.ids.append(token)
            rows.append(torch.tensor([float(token), float(len(self.ids))]))
        return torch.stack(rows)


def driven(work: Generator[Pass, Tensor | None, Tensor], network: Counting) -> Tensor:
    rows = None
    while True:
        try:
            rows = network.compute(work.send(rows))
        except StopIteration as done:
            return done.value


@given(
    text=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    drafts=st.lists(st.lists(st.integers(0, 3), max_size=7), min_size=1, max_size=9),
)
def test_whatever_is_drafted_the_logits_are_those_of_the_text(
    text: list[int], drafts: list[list[int]]
) -> None:
    network, experience = Counting(), Experience()
    turn = iter(drafts * 40)
    steps = Stepper(network, experience, lambda: Draft(tuple(next(turn)), LONGEST_DRAFT))
    for position, token in enumerate(text, start=1):
        logits = driven(steps.after(token, len(text) - position + 1), network)
        assert logits.tolist() == [token, position]
        assert network.ids[:position] == text[:position]
        assert len(network.ids) <= len(text), "no more than there is room for"


def test_drafts_that_are_never_right_are_given_up() -> None:
    experience = Experience({1: 1.0, 2: 1.1, 3: 1.2, 4: 1.3})
    assert experience.length(matched=9, most=3) == 3
    for _ in range(60):
        experience.judged(9, False)
    assert experience.length(matched=9, most=3) == 0
    assert experience.length(matched=2, most=3) >= 0


def test_passes_that_cost_as_much_as_their_tokens_are_not_made() -> None:
    experience = Experience({1: 1.0, 2: 2.0, 3: 3.0})
    assert experience.length(matched=32, most=2) == 0


def test_an_unlucky_pass_is_forgotten_sooner_than_a_quick_one() -> None:
    slow, quick = Experience({4: 1.0}), Experience({4: 1.0})
    slow.took(4, 2.0)
    quick.took(4, 0.5)
    assert slow.cost(4) - 1 < 2 * (1 - quick.cost(4))

"""Token healing: what is generated spells the given bytes, and does not emit them again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from qcoder.model.healing import IMPOSSIBLE, Healing, PrefixIndex
from qcoder.model.local import LocalEngine
from qcoder.model.request import GenerationRequest, Prompt, SamplingParams

WORDS = [b"", b"a", b"b", b"ab", b"abc", b"abd", b" a", b"b\xff", "é".encode()]


@dataclass(frozen=True)
class Words:
    """A vocabulary of a few words."""

    def token_bytes(self, token_id: int) -> bytes:
        return WORDS[token_id]


INDEX = PrefixIndex(Words(), len(WORDS))


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        (b"a", {b"a", b"ab", b"abc", b"abd"}),
        (b"ab", {b"a", b"ab", b"abc", b"abd"}),
        (b"abx", {b"a", b"ab"}),
        (b" ", {b" a"}),
        (b"b", {b"b", b"b\xff"}),
        (b"\xc3", {"é".encode()}),
        (b"x", set()),
    ],
)
def test_compatible_tokens_continue_or_begin_the_bytes(wanted: bytes, fitting: set[bytes]) -> None:
    assert {WORDS[i] for i in INDEX.compatible(wanted)} == fitting


def test_constrained_probabilities_sum_to_one_among_the_fitting() -> None:
    logprobs = np.log(np.full(len(WORDS), 1 / len(WORDS), dtype=np.float32))
    out = Healing(INDEX, b"ab").constrain(logprobs)
    assert np.isclose(np.exp(out).sum(), 1.0)
    assert (out == IMPOSSIBLE).sum() == len(WORDS) - 4


def test_bytes_that_no_token_spells_are_given_up() -> None:
    healing = Healing(INDEX, b"xyz")
    logprobs = np.zeros(len(WORDS), dtype=np.float32)
    assert (healing.constrain(logprobs) == logprobs).all()
    assert healing.pending == b""
    assert healing.take(b"abc") == b"abc"


def test_only_what_lies_beyond_the_given_bytes_is_emitted() -> None:
    healing = Healing(INDEX, b"abab")
    assert [healing.take(data) for data in (b"ab", b"abc", b"d")] == [b"", b"c", b"d"]


@pytest.mark.parametrize("seed", range(4))
def test_generation_spells_the_healed_bytes_and_emits_the_rest(tiny: Any, seed: int) -> None:
    engine = LocalEngine.load(str(tiny.folder))
    prompt = Prompt((1, 2, 3), healed=b"self.na")
    sampling = SamplingParams(temperature=1.5, seed=seed)
    outs = list(engine.generate(GenerationRequest(prompt, 24, sampling)))
    spelled = b"".join(engine.tokenizer.token_bytes(o.id) for o in outs if o.id >= 0)
    assert spelled.startswith(b"self.na")
    emitted = "".join(o.text for o in outs)
    assert spelled[7:].decode("utf-8", "replace").startswith(emitted.rstrip("\ufffd"))
    assert all(o.logprob > -1e6 for o in outs)

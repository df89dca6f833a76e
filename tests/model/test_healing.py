"""Token healing: what is generated spells the given bytes, and does not emit them again."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

from qcoder.model.healing import Healing, PrefixIndex, healable
from qcoder.model.line_ends import IMPOSSIBLE
from qcoder.model.local import LocalEngine
from qcoder.model.request import GenerationRequest, Prompt, SamplingParams

WORDS = [b"", b"a", b"b", b"ab", b"abc", b"abd", b" a", b"b\xff", "é".encode()]


@dataclass(frozen=True)
class Words:
    """A vocabulary of a few words."""

    words: tuple[bytes, ...] = tuple(WORDS)

    def token_bytes(self, token_id: int) -> bytes:
        return self.words[token_id]


INDEX = PrefixIndex(Words(), len(WORDS))


@pytest.mark.parametrize(
    ("pieces", "healed"),
    [
        (["return", " p", "at"], " pat"),
        (["self", ".", "na"], "na"),
        (["f", "("], "("),
        (["x", " =", " "], " "),
        (["pass", "\n"], ""),
        (["pass", "\n", "   "], "   "),
        (["a"] * 9, "aaaa"),
        (["x", ".é", "t"], ".ét"),
        ([], ""),
    ],
)
def test_the_unfinished_word_is_left_to_the_generation(pieces: list[str], healed: str) -> None:
    kept, left = healable(list(range(len(pieces))), Words(tuple(p.encode() for p in pieces)))
    assert left.decode() == healed
    assert "".join(pieces[i] for i in kept) + healed == "".join(pieces)


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


@pytest.mark.parametrize(
    ("given", "banned"),
    [(b"", {b" a"}), (b"a", set()), (b"b", set())],
)
def test_an_indented_line_is_not_indented_further(given: bytes, banned: set[bytes]) -> None:
    healing = Healing(INDEX, given, indented=True)
    logprobs = np.zeros(len(WORDS), dtype=np.float32)
    fitting = {WORDS[i] for i in INDEX.compatible(given)} if given else set(WORDS)
    out = healing.constrain(logprobs)
    assert {WORDS[i] for i in np.flatnonzero(out > IMPOSSIBLE)} == fitting - banned
    assert np.isclose(np.exp(out).sum(), 1.0)


def test_blanks_are_free_again_behind_the_first_character() -> None:
    words = Words((b"", b"  ", b"   ", b"  a", b"a", b" a"))
    index = PrefixIndex(words, 6)
    logprobs = np.zeros(6, dtype=np.float32)
    healing = Healing(index, b"  ", indented=True)
    assert np.flatnonzero(healing.constrain(logprobs) > IMPOSSIBLE).tolist() == [1, 3]
    assert healing.take(b"  ") == b""
    assert healing.active
    assert np.flatnonzero(healing.constrain(logprobs) > IMPOSSIBLE).tolist() == [0, 4]
    assert healing.take(b"a") == b"a"
    assert not healing.active


def test_generation_does_not_begin_with_blanks_where_the_line_is_indented(tiny: Any) -> None:
    engine = LocalEngine.load(str(tiny.folder))
    texts = []
    for seed, healed in product(range(6), (b"", b"   ")):
        prompt = Prompt((1, 2, 3), healed=healed, indented=True)
        sampling = SamplingParams(temperature=1.5, seed=seed)
        outs = engine.generate(GenerationRequest(prompt, 12, sampling))
        texts.append("".join(out.text for out in outs))
    assert sum(map(bool, texts)) > 6
    assert not any(text.startswith((" ", "\t")) for text in texts)


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

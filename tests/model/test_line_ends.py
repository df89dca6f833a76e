"""Tokens that end a line alike are one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qcoder.model.decoder import Pass
from qcoder.model.generation import Parts, generate
from qcoder.model.healing import PrefixIndex
from qcoder.model.line_ends import LineEnds
from qcoder.model.pace import Pace
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.request import FinishReason, GenerationRequest, Prompt, StopRules, TokenOut
from qcoder.model.speculation import Experience
from qcoder.model.tokenizer import Tokenizer

TOKENS = (b"", b"a", b"\n", b"\n    ", b")", b")\n\n", b")\n", b"\r\n", b" \n")
ENDS = LineEnds(TOKENS, {0})


def test_tokens_are_grouped_by_the_text_before_the_break() -> None:
    standing_for = ENDS.standing_for(len(TOKENS))
    assert standing_for.tolist() == [0, 1, 0, 0, 4, 6, 6, 0, 8]


def test_one_token_gets_the_probability_of_its_group() -> None:
    logprobs = np.log(np.full(9, 1 / 9, dtype=np.float32))
    merged = np.exp(ENDS.merged(logprobs))
    assert merged == pytest.approx(np.array([4, 1, 0, 0, 1, 0, 2, 0, 1]) / 9, abs=1e-6)
    assert logprobs == pytest.approx(np.log(1 / 9)), "the argument stays as it was"


def test_what_cannot_come_stays_so() -> None:
    logprobs = np.full(12, -1e9, dtype=np.float32)
    logprobs[1] = 0.0  # and more logits than tokens, as padded checkpoints give
    merged = ENDS.merged(logprobs)
    assert merged.argmax() == 1
    assert np.isfinite(merged).all()


def test_an_end_that_no_single_token_makes_likely_wins_together() -> None:
    probabilities = np.array([0.2, 0.3, 0.2, 0.15, 0.05, 0.02, 0.03, 0.03, 0.02], dtype=np.float32)
    assert probabilities.argmax() == 1
    assert ENDS.merged(np.log(probabilities)).argmax() == 0


def test_without_breaks_and_end_tokens_nothing_changes() -> None:
    logprobs = np.log(np.array([0.5, 0.5], dtype=np.float32))
    assert LineEnds((b"a", b"b"), ()).merged(logprobs).tolist() == logprobs.tolist()


def test_the_default_model_has_them() -> None:
    tokenizer = Tokenizer.load(Path(DEFAULT_FOLDER))
    ends = tokenizer.line_ends
    assert ends is tokenizer.line_ends
    assert set(tokenizer.eos_ids) <= set(ends.members.tolist())
    for token, chosen in enumerate(ends.standing_for(tokenizer.vocab_size).tolist()):
        data = tokenizer.token_bytes(token)
        if b"\n" not in data:
            assert chosen == token or token in tokenizer.eos_ids
        else:
            before = data.partition(b"\n")[0].removesuffix(b"\r")
            assert tokenizer.token_bytes(chosen).partition(b"\n")[0] == before


@pytest.mark.parametrize(("strings", "ended"), [(("\n",), True), ((), False), (("x",), False)])
def test_a_generation_of_one_line_ends_where_all_ends_together_are_likeliest(
    strings: tuple[str, ...], ended: bool
) -> None:
    tokenizer = Tokenizer.load(Path(DEFAULT_FOLDER))
    word = tokenizer.encode("a")[0]
    breaks = [i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i)[:1] == b"\n"][:3]
    logits = torch.full((1, tokenizer.vocab_size), -30.0)
    logits[0, word] = np.log(0.25)
    logits[0, [*breaks, min(tokenizer.eos_ids)]] = np.log(0.75 / 4)
    parts = Parts(
        tokenizer,
        lambda: PrefixIndex(tokenizer, tokenizer.vocab_size),
        None,
        Experience(),
        Pace.guessed(1),
        False,
    )
    request = GenerationRequest(Prompt((word,)), stop=StopRules(strings=strings))
    work = generate(parts, request, [], (), (), 8)
    assert isinstance(next(work), Pass)
    out = work.send(logits)
    assert isinstance(out, TokenOut)
    assert (out.finish == FinishReason.STOP) is ended
    assert out.logprob == pytest.approx(np.log(0.75 if ended else 0.25), abs=1e-3)
    assert out.text == ("" if ended else "a")

"""The scripted engine obeys the same rules as the real one."""

from typing import Any

import pytest

from qcoder.model.engine import Engine
from qcoder.model.errors import PromptTooLongError
from qcoder.model.fake import FakeEngine, pieces
from qcoder.model.request import CancelToken, FinishReason, GenerationRequest, Prompt, StopRules


def run(engine: FakeEngine, **options: Any) -> tuple[str, FinishReason | None]:
    outs = list(engine.generate(GenerationRequest(Prompt((1, 2)), **options)))
    return "".join(o.text for o in outs), outs[-1].finish


def test_it_is_an_engine_and_answers_in_order() -> None:
    engine = FakeEngine(["one two", "three"])
    assert isinstance(engine, Engine)
    assert [run(engine)[0] for _ in range(3)] == ["one two", "three", "three"]
    assert len(engine.requests) == engine.stats().requests == 3
    assert engine.stats().last.prompt_tokens == 2
    assert tuple(engine.logits([1, 2, 3]).shape) == (3, engine.tokenizer.vocab_size)


def test_a_script_may_read_the_request() -> None:
    engine = FakeEngine(lambda request: engine.tokenizer.decode(request.prompt.ids))
    prompt = Prompt(tuple(engine.tokenizer.encode("wie geht's?")))
    assert "".join(o.text for o in engine.generate(GenerationRequest(prompt))) == "wie geht's?"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("x = 1\ny = 2", FinishReason.STOP)),
        ({"stop": StopRules(max_lines=1)}, ("x = 1", FinishReason.STOP)),
        ({"stop": StopRules(strings=("1\ny",))}, ("x = ", FinishReason.STOP)),
        ({"max_tokens": 2}, ("x =", FinishReason.LENGTH)),
        ({"deadline": 0.0}, ("", FinishReason.DEADLINE)),
    ],
)
def test_rules_are_honoured(options: dict[str, Any], expected: tuple[str, FinishReason]) -> None:
    assert run(FakeEngine(["x = 1\ny = 2"]), **options) == expected


def test_cancelling_ends_it_at_the_next_token() -> None:
    cancel = CancelToken()
    stream = FakeEngine(["a b c d"]).generate(GenerationRequest(Prompt((1,)), cancel=cancel))
    next(stream)
    cancel.cancel()
    (last,) = stream
    assert (last.id, last.finish) == (-1, FinishReason.CANCELLED)


def test_a_prompt_can_be_too_long() -> None:
    with pytest.raises(PromptTooLongError):
        run(FakeEngine(["x"], max_context=2))


@pytest.mark.parametrize("text", ["", "a", "def f(x):\n    return x\n", "\n\n", "a  b\t\n c"])
def test_pieces_make_up_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(pieces(text))


def test_loading_needs_no_files() -> None:
    engine: Engine = FakeEngine.load(max_context=100)
    assert engine.info.max_context == 100
    assert [o.finish for o in engine.generate(GenerationRequest(Prompt((1,))))] == [
        FinishReason.STOP
    ]

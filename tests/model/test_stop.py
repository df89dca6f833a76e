"""Stop rules over text that comes in pieces, and temperatures."""

import random
import time

import pytest

from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    Prompt,
    StopRules,
)
from qcoder.model.stop import StopFilter, interrupted, overlap
from qcoder.model.temperature import FULL_ENTROPY_NATS, temperature_for


def split(text: str, rng: random.Random) -> list[str]:
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(len(text) + 1)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize(
    ("rules", "text", "expected", "stopped"),
    [
        (StopRules(), "any\ntext", "any\ntext", False),
        (StopRules(strings=("END",)), "abcENDdef", "abc", True),
        (StopRules(strings=("END",)), "abcEN", "abcEN", False),
        (StopRules(strings=("ENDE", "NX")), "abENX", "abE", True),
        (StopRules(strings=("aab",)), "aaab!", "a", True),
        (StopRules(strings=("",)), "abc", "abc", False),
        (StopRules(strings=("b", "abc")), "xabc", "xa", True),
        (StopRules(max_lines=1), "one\ntwo", "one", True),
        (StopRules(max_lines=1), "\n  \n  one\ntwo", "\n  \n  one", True),
        (StopRules(max_lines=2), "one\n\ntwo", "one\n", True),
        (StopRules(max_lines=3), "one\ntwo\n", "one\ntwo\n", False),
        (StopRules(max_lines=1, strings=("\n\n",)), "one\n\ntwo", "one", True),
        (StopRules(max_lines=1, strings=("two",)), "one\ntwo", "one", True),
    ],
)
def test_rules_do_not_depend_on_how_the_text_is_cut(
    rules: StopRules, text: str, expected: str, stopped: bool
) -> None:
    rng = random.Random(0)
    for pieces in ([text], list(text), *(split(text, rng) for _ in range(30))):
        stop, out = StopFilter(rules), ""
        for piece in pieces:
            out += stop.push(piece)
            assert expected.startswith(out), "nothing may be taken back"
            if stop.stopped:
                break
        assert (out + stop.flush(), stop.stopped) == (expected, stopped), pieces


def test_only_the_possible_start_of_a_stop_string_is_held_back() -> None:
    stop = StopFilter(StopRules(strings=("```\n",)))
    assert [stop.push(p) for p in ("x = 1", "``", "y", "`", "``")] == ["x = 1", "", "``y", "", ""]
    assert stop.flush() == "```"
    assert stop.flush() == ""


def test_overlap_is_proper() -> None:
    assert [overlap(a, "abab") for a in ("", "a", "ab", "xaba", "abab", "b")] == [0, 1, 2, 3, 2, 0]


def test_a_request_is_interrupted_by_its_token_or_its_deadline() -> None:
    cancel, prompt = CancelToken(), Prompt((1,))
    assert interrupted(GenerationRequest(prompt, cancel=cancel)) is None
    assert interrupted(GenerationRequest(prompt, deadline=time.monotonic() + 1e6)) is None
    late = GenerationRequest(prompt, cancel=cancel, deadline=time.monotonic())
    assert interrupted(late) is FinishReason.DEADLINE
    cancel.cancel()
    assert interrupted(late) is FinishReason.CANCELLED


@pytest.mark.parametrize(
    ("task", "entropy", "expected"),
    [
        ("completion", 9.0, 0.0),
        ("review", 9.0, 0.0),
        ("alternative", 0.0, 0.2),
        ("alternative", FULL_ENTROPY_NATS / 2, 0.5),
        ("alternative", 99.0, 0.8),
        ("alternative", -1.0, 0.2),
        ("docstring", 99.0, 0.3),
    ],
)
def test_temperature_follows_task_and_entropy(task: str, entropy: float, expected: float) -> None:
    assert temperature_for(task, entropy) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rewritten", "expected"), [(None, 0.5), (0.1, 0.5), (0.0, 0.7), (0.2, 0.3), (1.0, 0.3)]
)
def test_who_rewrites_much_gets_colder_alternatives(
    rewritten: float | None, expected: float
) -> None:
    assert temperature_for("alternative", FULL_ENTROPY_NATS / 2, rewritten) == pytest.approx(
        expected
    )
    assert temperature_for("completion", 0.0, rewritten) == 0.0

import torch

from qcoder.lsp_server.surprisal import Surprise, surprising_spans
from qcoder.model.fake import FakeEngine
from qcoder.model.request import CancelToken

CLEAN = "total = first + second\n" * 20
WRONG = CLEAN[:230] + CLEAN[230:].replace("second", "thirds", 1)


class Certain(FakeEngine):
    """Predicts the clean text byte by byte, whatever it is shown, with 99 %."""

    def logits(self, ids: list[int]) -> torch.Tensor:
        out = torch.full((len(ids), self.tokenizer.vocab_size), -12.0)
        header = len("a.py\n") + 1
        for row in range(header - 1, len(ids)):
            out[row, CLEAN.encode()[(row - header + 1) % len(CLEAN)]] = 0.0
        return out


def spans(text: str, changed: frozenset[int] | None = None) -> list[Surprise]:
    return surprising_spans(text, "a.py", Certain([], max_context=4096), changed)


def test_a_name_against_a_sure_expectation_is_found() -> None:
    found = spans(WRONG)
    assert [(s.line, s.column, s.text, s.expected) for s in found] == [(10, 16, "thirds", "s")]


def test_expected_text_gives_nothing() -> None:
    assert spans(CLEAN) == []


def test_unchanged_lines_are_not_reported() -> None:
    assert spans(WRONG, frozenset({9, 11})) == []
    assert len(spans(WRONG, frozenset({10}))) == 1


def test_cancelled_review_ends_at_once() -> None:
    cancel = CancelToken()
    cancel.cancel()
    assert surprising_spans(WRONG, "a.py", Certain([]), None, cancel) == []

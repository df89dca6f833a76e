from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qcoder.context.segments import Document
from qcoder.lsp_server.completion import budget_tokens, complete
from qcoder.lsp_server.settings import CompletionSettings, PrivacySettings, Settings
from qcoder.lsp_server.snapshot import Snapshot, Suggestion, is_refused
from qcoder.lsp_server.writing import sure_beginnings
from qcoder.model.fake import FakeEngine
from qcoder.model.request import CancelToken, GenerationRequest, TokenOut


def snapshot(source: str, path: str = "a.py", settings: Settings | None = None) -> Snapshot:
    document = Document(f"file:///{path}", 1, "python", source)
    return Snapshot(document, path, Path("/ws"), None, settings or Settings())


def suggest(
    marked: str,
    answer: str,
    *,
    path: str = "a.py",
    invoked: bool = False,
    logprob: float = -0.1,
    settings: Settings | None = None,
    engine: FakeEngine | None = None,
) -> Suggestion | None:
    """The suggestion at the mark of a source, from an engine that answers `answer`."""
    prefix, suffix = marked.split("‸")
    line, column = prefix.count("\n"), len(prefix) - prefix.rfind("\n") - 1
    engine = engine or FakeEngine([answer], logprob=logprob)
    return complete(
        snapshot(prefix + suffix, path, settings), line, column, engine, invoked=invoked
    )


def test_suggestion_says_what_it_is_and_what_it_cost() -> None:
    found = suggest("x = ‸\n", "compute(1)\n")
    assert found is not None
    assert found.text == "compute(1)"
    assert (found.edit.start_line, found.edit.start_column, found.edit.end_column) == (0, 4, 4)
    assert set(found.timings_ms) == {"index", "pack", "prefill", "decode", "post", "total"}
    assert found.sources["model"] == found.tokens
    assert 0.6 < found.confidence < 1
    assert found.prompt_tokens == sum(len(s) for s in ("a.py\n", "x =", "\n")) + 4


@pytest.mark.parametrize(("marked", "errors"), [("x = ‸\n", False), ("def (:\nx = ‸\n", True)])
def test_suggestion_says_whether_the_document_has_errors_with_it(marked: str, errors: bool) -> None:
    found = suggest(marked, "compute(1)\n")
    assert found is not None
    assert bool(found.errors) == errors


def test_edit_covers_the_closers_that_the_text_brings_along() -> None:
    found = suggest("x = f(‸)\n", "a, b)\n")
    assert found is not None
    line = "x = f()"
    replaced = line[: found.edit.start_column] + found.text + line[found.edit.end_column :]
    assert replaced == "x = f(a, b)"


@pytest.mark.parametrize(
    ("marked", "answer"),
    [
        ("na‸me = 1\n", "xyz"),
        ("x = ‸\n", ""),
        ("x = ‸\n", "   "),
        ("x = ‸\n", "a"),
        ("a = first(1)\n‸\n", "a = first(1)"),
    ],
)
def test_nothing_is_better_than_something_useless(marked: str, answer: str) -> None:
    assert suggest(marked, answer) is None


def test_unsure_model_stays_silent_unless_it_is_asked() -> None:
    assert suggest("x = ‸\n", "compute(1)", logprob=-1.7) is None
    assert suggest("x = ‸\n", "compute(1)", logprob=-1.7, invoked=True) is not None
    assert suggest("x = ‸\n", "compute(1)", logprob=-9.0, invoked=True) is None


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (".env", "A=‸"),
        ("deploy/server.pem", "‸"),
        ("private/a.py", "x = ‸"),
        ("a.py", "key = '''-----BEGIN RSA PRIVATE KEY-----'''\nx = ‸\n"),
    ],
)
def test_refused_documents_never_reach_the_engine(path: str, source: str) -> None:
    engine = FakeEngine(["secret"])
    settings = Settings(privacy=PrivacySettings(exclude=("private/",)))
    assert suggest(source, "", path=path, engine=engine, settings=settings) is None
    assert engine.requests == []


def test_what_the_workspace_keeps_out_is_kept_out_when_it_is_open_too(tmp_path: Path) -> None:
    (tmp_path / ".qcoderignore").write_text("customers/\n")
    for path, kept_out in (("customers/a.py", True), ("orders/a.py", False)):
        engine = FakeEngine(["compute(1)\n"])
        here = replace(snapshot("x = \n", path), root=tmp_path)
        assert is_refused(here) == kept_out
        assert (complete(here, 0, 4, engine) is None) == kept_out
        assert (not engine.requests) == kept_out


@pytest.mark.parametrize(
    ("marked", "invoked", "lines"),
    [
        ("def f():\n    ‸\n", False, 1),
        ("def f():\n    ‸\n", True, 2),
        ("def f():\n    ‸\n    return 3\n", True, 2),
        ("x = ‸\n", True, 1),
        ("# a comment:\n# ‸\n", True, 1),
    ],
)
def test_small_model_writes_several_lines_only_when_asked(
    marked: str, invoked: bool, lines: int
) -> None:
    found = suggest(marked, "a = 1\n    b = 2\n\ndef g():\n    pass\n", invoked=invoked)
    assert found is not None
    assert len(found.text.split("\n")) == lines


def test_policy_of_the_settings_decides_over_lines() -> None:
    always = Settings(completion=CompletionSettings(multiline="always"))
    never = Settings(completion=CompletionSettings(multiline="never"))
    answer = "a = 1\n    b = 2\n"
    many = suggest("def f():\n    ‸\n", answer, settings=always)
    one = suggest("def f():\n    ‸\n", answer, settings=never, invoked=True)
    assert many is not None
    assert one is not None
    assert (many.text.count("\n"), one.text.count("\n")) == (1, 0)


def test_generation_ends_with_the_block() -> None:
    engine = FakeEngine(["a = 1\n" + "\nclass B:\n    pass\n" * 40])
    found = suggest("def f():\n    ‸\n", "", invoked=True, engine=engine)
    assert found is not None
    assert found.text == "a = 1"
    assert found.tokens < 12


def test_cancelled_request_gives_nothing() -> None:
    cancel = CancelToken()
    cancel.cancel()
    assert complete(snapshot("x = \n"), 0, 4, FakeEngine(["abc"]), cancel=cancel) is None


@pytest.mark.parametrize(("line", "column"), [(-1, 0), (0, 99), (7, 0)])
def test_position_outside_the_document_gives_nothing(line: int, column: int) -> None:
    assert complete(snapshot("x = \n"), line, column, FakeEngine(["abc"])) is None


def test_prompt_and_answer_fit_the_context() -> None:
    engine = FakeEngine(["compute(1)"], max_context=512)
    long = "value = compute(1, 2, 3)\n" * 400
    found = suggest(long + "x = ‸\n" + long, "", engine=engine)
    assert found is not None
    (request,) = engine.requests
    assert len(request.prompt.ids) + request.max_tokens <= 512
    assert budget_tokens(engine, 10_000, 48) <= 512


class Doubtful(FakeEngine):
    """A scripted engine whose tokens have these log-probabilities, the last one for all further."""

    def __init__(self, answer: str, *logprobs: float) -> None:
        super().__init__([answer])
        self.logprobs = logprobs

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        for number, out in enumerate(super().generate(request)):
            logprob = self.logprobs[min(number, len(self.logprobs) - 1)]
            yield replace(out, logprob=logprob)


@pytest.mark.parametrize(
    ("logprobs", "shown", "finish"),
    [
        ((-0.01,), "compute(first, second)", "stop"),
        ((-0.01, -0.01, -0.01, -2.0), "compute(first", "part"),
        ((-0.01, -0.01, -3.0), "compute(", "part"),
        ((-0.7, -2.0), None, ""),
    ],
)
def test_of_a_doubtful_line_the_sure_beginning_is_shown(
    logprobs: tuple[float, ...], shown: str | None, finish: str
) -> None:
    source = "def compute(first, second): ...\n\nx =‸\n"
    found = suggest(source, "", engine=Doubtful(" compute(first, second)", *logprobs))
    assert (found.text.strip() if found else None) == shown
    assert (found.finish_reason if found else "") == finish
    never = Settings(completion=CompletionSettings(partial=False))
    engine = Doubtful(" compute(first, second)", *logprobs)
    whole = suggest(source, "", engine=engine, settings=never)
    assert whole is None or whole.finish_reason == "stop"


def test_a_beginning_never_ends_inside_a_word() -> None:
    outs = [TokenOut(1, t, -0.1, "model") for t in ("self", ".na", "me", "d_", "value", "(")]
    assert [text for text, _ in sure_beginnings(outs)] == [
        "self.named_value(",
        "self.named_value",
        "self",
    ]
    assert sure_beginnings([]) == ()


def test_names_that_nothing_knows_lower_the_confidence() -> None:
    known = suggest("def compute(): ...\n\nx = ‸\n", "compute()")
    made_up = suggest("x = ‸\n", "compute()")
    assert known is not None
    assert made_up is not None
    assert made_up.confidence == pytest.approx(0.8 * known.confidence)
    many = "invent(alpha_one, beta_two, gamma_three)"
    assert suggest("x = ‸\n", many, logprob=-0.5) is None

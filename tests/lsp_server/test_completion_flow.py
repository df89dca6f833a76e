import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import completion, completion_ahead, session
from qcoder.lsp_server.usage_store import usage_path
from qcoder.model.fake import FakeEngine
from qcoder.model.request import GenerationRequest, TokenOut

pytestmark = pytest.mark.asyncio(loop_scope="function")

CANCELLED = -32800
CALIBRATED = {"weights": {"sum": 1.0, "lowest": 1.0, "log_tokens": 0.0}, "bias": 2.0}


class StepEngine(FakeEngine):
    """A scripted engine that emits a token when it is told to, and ends when it is cancelled."""

    def __init__(self, *script: str, free: bool = False) -> None:
        super().__init__(script)
        self.steps = threading.Semaphore(0)
        self.free = free

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """One token a step."""
        for out in super().generate(request):
            while not (self.free or request.max_tokens == 0 or self.steps.acquire(timeout=0.001)):
                if request.cancel.cancelled:
                    break
            yield out


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_ahead, "PREFILL_DELAY_S", 0.0)
    monkeypatch.setattr(completion_ahead, "LOOK_AHEAD_S", 1e6)


async def begin(
    editor: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, text: str
) -> str:
    """Start with an engine and an open document whose tables are built."""
    monkeypatch.setattr(session, "load_engine", lambda *_: engine)
    await editor.start(folder, options={"completion": {"debounceMs": 0}})
    uri = str(editor.open(folder / "a.py", text))
    await editor.until(lambda: uri in editor.server.session._tables)
    return uri


async def text_at(editor: Any, uri: str, line: int, column: int, invoked: bool = False) -> Any:
    """The suggested text; "" for nothing, None for null."""
    _, answer = editor.inline(uri, line, column, invoked)
    result = (await answer)["result"]
    return result and "".join(item["insertText"] for item in result["items"])


async def test_typing_what_is_suggested_needs_no_engine(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    assert await text_at(editor, uri, 0, 4) == "compute(1)"
    for typed, rest in (("c", "ompute(1)"), ("omp", "ute(1)"), ("ute", "(1)")):
        column = len("x = compute(1)") - len(typed + rest)
        editor.change(uri, typed, (0, column))
        assert await text_at(editor, uri, 0, column + len(typed)) == rest
    editor.change(uri, "()", (0, 11))
    _, answer = editor.inline(uri, 0, 12)
    (item,) = (await answer)["result"]["items"]
    assert (item["insertText"], item["range"]["end"]["character"]) == ("1)", 13)
    assert (len(engine.requests), len(engine.prefilled)) == (1, 0)
    counts = {"requests": 5, "cached": 4, "joined": 0, "generations": 1, "decoded": 1}
    ahead = {"prefills": 0, "looked_ahead": 0}
    assert await editor.ask("qcoder/counts", None) == counts | ahead


async def test_typing_something_else_asks_the_engine_again(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)", "ther", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    assert await text_at(editor, uri, 0, 4) == "compute(1)"
    editor.change(uri, "o", (0, 4))
    assert await text_at(editor, uri, 0, 5) == "ther"


async def test_that_nothing_is_suggested_is_remembered(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("", "late", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    assert await text_at(editor, uri, 0, 4) == ""
    assert await text_at(editor, uri, 0, 4) == ""
    assert len(engine.requests) == 1
    assert await text_at(editor, uri, 0, 4, invoked=True) == "late"


async def test_a_generation_answers_the_request_that_types_along_with_it(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    _, first = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    editor.change(uri, "com", (0, 4))
    _, second = editor.inline(uri, 0, 7)
    assert (await first)["result"] is None  # at once: the engine has not moved
    engine.steps.release(99)
    assert (await second)["result"]["items"][0]["insertText"] == "pute(1)"
    assert len(engine.requests) == 1
    assert (await editor.ask("qcoder/counts", None))["joined"] == 1


async def test_a_generation_that_writes_something_else_is_left(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)", "ther(2)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    _, first = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    editor.change(uri, "o", (0, 4))
    _, second = editor.inline(uri, 0, 5)
    assert (await first)["result"] is None
    engine.steps.release(99)
    assert (await second)["result"]["items"][0]["insertText"] == "ther(2)"
    assert len(engine.requests) == 2


async def test_an_edit_elsewhere_ends_the_generation_before_the_next_request(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \ny = \n")
    _, first = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    editor.change(uri, "z", (1, 4))
    assert (await first)["result"] is None
    assert engine.requests[0].cancel.cancelled


@pytest.mark.parametrize("typed_on", [True, False])
async def test_a_cancelled_request_ends_its_generation_unless_the_user_types_along(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed_on: bool
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    number, first = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    if typed_on:
        editor.change(uri, "c", (0, 4))
    editor.tell("$/cancelRequest", {"id": number})
    assert (await first)["error"]["code"] == CANCELLED
    assert engine.requests[0].cancel.cancelled is not typed_on
    engine.steps.release(99)
    if typed_on:
        assert await text_at(editor, uri, 0, 5) == "ompute(1)"
        assert len(engine.requests) == 1


async def test_the_prompt_is_computed_while_the_user_types(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x =\n")
    editor.change(uri, " ", (0, 3))
    await editor.until(lambda: engine.prefilled)
    assert await text_at(editor, uri, 0, 4) == "compute(1)"
    assert engine.prefilled[0].prompt is engine.requests[0].prompt


async def test_a_request_comes_before_a_prefill(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x =\n")
    editor.change(uri, " ", (0, 3))
    assert await text_at(editor, uri, 0, 4) == "compute(1)"
    assert not engine.prefilled


@pytest.mark.parametrize("marked", ["x = ‸y\n", "# password‸\n"])
async def test_nothing_is_computed_where_nothing_would_be_shown(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked: str
) -> None:
    engine, prepared = StepEngine("compute(1)", free=True), []

    def prepare(*arguments: Any, **options: Any) -> Any:
        prepared.append(completion.prepare(*arguments, **options))
        return prepared[-1]

    monkeypatch.setattr(completion_ahead, "prepare", prepare)
    monkeypatch.setattr(session, "load_engine", lambda *_: engine)
    name = "secrets.pem" if "#" in marked else "a.py"
    head, tail = marked.split("‸")
    await editor.start(tmp_path)
    uri = editor.open(tmp_path / name, head + tail)
    editor.change(uri, "z", (0, len(head)))
    await editor.until(lambda: prepared)
    assert prepared == [None]
    assert not engine.prefilled


async def test_a_document_that_changed_meanwhile_gets_no_stale_text(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    _, answer = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    editor.change(uri, "c", (0, 4))
    engine.steps.release(99)
    assert (await answer)["result"] is None


async def test_a_closed_document_ends_its_work(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    _, answer = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    editor.tell("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert (await answer)["result"] is None
    assert engine.requests[0].cancel.cancelled


async def test_a_failing_engine_is_answered_with_null_and_asked_again(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_: GenerationRequest) -> str:
        if len(engine.requests) == 1:
            raise RuntimeError("out of memory")
        return "compute(1)"

    engine = FakeEngine(answer)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    assert await text_at(editor, uri, 0, 4) is None
    assert await text_at(editor, uri, 0, 4) == "compute(1)"


async def test_a_burst_of_requests_is_answered_once_each_and_computed_once(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    answers = []
    for at, key in enumerate("comp"):
        editor.change(uri, key, (0, 4 + at))
        answers.append(editor.inline(uri, 0, 5 + at)[1])
    engine.steps.release(999)
    results = [(await answer)["result"] for answer in answers]
    assert results[:-1] == [None] * 3
    assert results[-1] is not None


async def test_who_asks_explicitly_gets_three_distinct_suggestions(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("one(1)", "one(1)", "two(2)", "", "three(3)", "four(4)", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    _, answer = editor.inline(uri, 0, 4, True)
    texts = [item["insertText"] for item in (await answer)["result"]["items"]]
    assert texts == ["one(1)", "two(2)", "three(3)"]
    warmth = [request.sampling.temperature for request in engine.requests]
    assert warmth[0] == 0 < warmth[1]
    assert warmth == sorted(set(warmth))
    _, again = editor.inline(uri, 0, 4, True)
    assert [item["insertText"] for item in (await again)["result"]["items"]] == texts
    editor.change(uri, "t", (0, 4))
    assert await text_at(editor, uri, 0, 5) == "wo(2)"
    assert len(engine.requests) == 5


async def test_the_completion_menu_asks_for_one_suggestion(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("one(1)", "two(2)", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    where = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 4}}
    answer = await editor.ask("textDocument/completion", where)
    assert [item["label"] for item in answer["items"]] == ["one(1)"]
    assert len(engine.requests) == 1


@pytest.mark.parametrize("accepted", [True, False])
async def test_the_next_line_is_known_before_it_is_reached(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    """Behind a suggestion that is taken, and behind a line that the model takes to be over."""
    monkeypatch.setattr(completion_ahead, "LOOK_AHEAD_S", 0.0)
    first = "compute(1)" if accepted else ""
    engine = StepEngine(first, "after(2)", free=True)
    line = "    x = " if accepted else "    x = compute(1)"
    uri = await begin(editor, tmp_path, monkeypatch, engine, f"def f():\n{line}\n")
    assert await text_at(editor, uri, 1, len(line)) == first
    await editor.until(lambda: len(engine.requests) == 2)
    assert [request.priority for request in engine.requests] == [0, 3]
    editor.change(uri, first + "\n    ", (1, len(line)))
    await editor.until(lambda: editor.server.session.engine_thread._running is None)
    assert await text_at(editor, uri, 2, 4) == "after(2)"
    counts = await editor.ask("qcoder/counts", None)
    assert (counts["cached"], counts["generations"]) == (1, 1)


async def test_nothing_is_computed_beyond_a_place_that_the_user_leaves(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_ahead, "LOOK_AHEAD_S", 0.01)
    engine = StepEngine("compute(1)", "other", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    assert await text_at(editor, uri, 0, 4) == "compute(1)"
    editor.change(uri, "y", (0, 4))
    await editor.until(lambda: engine.prefilled)
    assert (await editor.ask("qcoder/counts", None))["looked_ahead"] == 0


async def test_a_generation_that_begins_badly_is_not_decoded(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(["compute(1)"], logprob=-3.0)
    engine.info = replace(engine.info, manifest={"confidence": CALIBRATED})
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    assert await text_at(editor, uri, 0, 4) == ""
    counts = await editor.ask("qcoder/counts", None)
    assert (counts["generations"], counts["decoded"]) == (1, 0)


async def test_the_server_says_why_it_answered_as_it_did(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)\ncompute(1)", "", "x = other", free=True)
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \nx = other\n\n")
    assert (await editor.ask("qcoder/explainLast", None))["status"]["kind"] == "Normal"

    async def reason(line: int, column: int) -> tuple[str, str]:
        await text_at(editor, uri, line, column)
        told = await editor.ask("qcoder/explainLast", {"uri": uri})
        assert told["line"] == line
        assert told["shown"] == (told["reason"] == "shown")
        assert "compute" not in str(told)
        return told["origin"], told["reason"]

    assert await reason(0, 4) == ("new generation", "shown")
    assert await reason(0, 4) == ("cache", "shown")
    assert await reason(1, 9) == ("new generation", "empty")
    assert await reason(2, 0) == ("new generation", "filtered")
    assert await reason(1, 2) == ("new generation", "mid-line")
    assert (await editor.ask("qcoder/explainLast", {"uri": uri}))["message"].startswith(
        "text follows"
    )
    assert "reason" not in await editor.ask("qcoder/explainLast", {"uri": "file:///none.py"})


@pytest.mark.parametrize("enabled", [True, False])
async def test_statistics_are_kept_unless_they_are_switched_off(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    engine = StepEngine("compute(1)", free=True)
    monkeypatch.setattr(session, "load_engine", lambda *_: engine)
    await editor.start(tmp_path, options={"statistics": {"enabled": enabled}})
    uri = editor.open(tmp_path / "a.py", "x = \n")
    assert await text_at(editor, uri, 0, 4) == "compute(1)"
    editor.change(uri, "compute(1)", (0, 4))
    figures = await editor.ask("qcoder/statistics", {"days": 1})
    assert figures["accepted"] == enabled
    await editor.ask("shutdown", None)
    assert usage_path().exists() is enabled


@pytest.mark.parametrize("look_ahead_s", [0.0, 1e6])
async def test_an_engine_that_is_restarted_is_kept_by_nobody(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_ahead_s: float
) -> None:
    monkeypatch.setattr(completion_ahead, "LOOK_AHEAD_S", look_ahead_s)
    engines: list[weakref.ref[FakeEngine]] = []
    alive_at_load: list[int] = []

    def load(*_: Any) -> FakeEngine:
        alive_at_load.append(sum(engine() is not None for engine in engines))
        engine = FakeEngine(["compute(1)"])
        engines.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(session, "load_engine", load)
    await editor.start(tmp_path, options={"completion": {"debounceMs": 0}})
    uri = editor.open(tmp_path / "a.py", "import os\nx = \n")
    editor.change(uri, " ", (1, 4))
    counts = editor.server.completions.counts
    await editor.until(lambda: counts()["prefills"] == 1)
    assert await text_at(editor, uri, 1, 5) == "compute(1)"
    await editor.until(lambda: look_ahead_s or counts()["looked_ahead"] == 1)
    row = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
    place = {"textDocument": {"uri": uri}, "range": row, "context": {"diagnostics": []}}
    await editor.ask("textDocument/codeAction", place)
    await editor.until(lambda: not editor.server.session.engine_thread.pending)
    await editor.ask("workspace/executeCommand", {"command": "qcoder.restartEngine"})
    await editor.until(lambda: len(engines) == 2 and editor.server.session.engine is not None)
    assert alive_at_load == [0, 0]


async def test_a_restart_answers_what_waits_for_the_engine(
    editor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StepEngine("compute(1)")
    uri = await begin(editor, tmp_path, monkeypatch, engine, "x = \n")
    _, answer = editor.inline(uri, 0, 4)
    await editor.until(lambda: engine.requests)
    await editor.ask("workspace/executeCommand", {"command": "qcoder.restartEngine"})
    assert (await answer)["result"] is None
    engine.free = True
    await editor.until(lambda: editor.server.session.engine is engine)
    assert await text_at(editor, uri, 0, 4) == "compute(1)"

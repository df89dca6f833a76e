from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server import cli
from qcoder.lsp_server.daemon import Daemon
from qcoder.lsp_server.daemon_socket import MAX_PATH_BYTES, connect, listening, socket_path
from qcoder.model.engine import Engine
from qcoder.model.errors import CheckpointError, ModelError, PromptTooLongError
from qcoder.model.fake import ByteTokenizer, FakeEngine
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import (
    FinishReason,
    GenerationRequest,
    Priority,
    Prompt,
    SegmentSpan,
    StopRules,
    TokenOut,
)
from qcoder.model.scoring import TokenScores, joined
from qcoder.model.shared import SharedEngine, going_on, told
from qcoder.model.shared_frames import (
    ModelSpec,
    packed,
    request_frame,
    request_of,
    token_frame,
    unpacked,
)

SPEC = ModelSpec("/models/one")
PATIENCE_S = 20
WORDS = "one two three four five six seven"


class SteppedEngine(FakeEngine):
    """A scripted engine that emits a token when it is told to."""

    def __init__(self, script: Any = (WORDS,), free: bool = True) -> None:
        super().__init__(script)
        self.steps, self.free = threading.Semaphore(0), free

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        for out in super().generate(request):
            while not (self.free or self.steps.acquire(timeout=0.001)):
                if request.cancel.cancelled:
                    break
            yield out


@contextmanager
def daemon(folder: Path, *engines: Engine, idle_s: float = 60.0) -> Iterator[Daemon]:
    """A daemon in a thread; its models are these, in the order of their loading."""
    left = list(engines)
    folder.chmod(0o700)
    with listening(folder / "s") as listener:
        running = Daemon(listener, lambda spec: left.pop(0), idle_s)
        thread = threading.Thread(target=running.serve)
        thread.start()
        try:
            yield running
        finally:
            running.stop()
            thread.join(PATIENCE_S)
            break_off(running)


def break_off(running: Daemon) -> None:
    """What clients see when the process of a daemon dies."""
    for peer in tuple(running._peers):
        # A client that is leaving may have closed it.
        with suppress(OSError), socket.socket(fileno=os.dup(peer.connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)


def client(
    folder: Path,
    spec: ModelSpec = SPEC,
    here: Callable[[], Engine] | None = None,
    reach: Callable[[], Connection] | None = None,
) -> SharedEngine:
    """An engine of that daemon; `here` is loaded when it is lost, which fails unless given."""

    def nowhere() -> Engine:
        raise AssertionError("the model was loaded in the client")

    tokenizer: Any = ByteTokenizer()
    return SharedEngine(
        spec, reach or (lambda: connect(folder / "s")), lambda info: tokenizer, here or nowhere
    )


def request(**more: Any) -> GenerationRequest:
    return GenerationRequest(Prompt((1, 2, 3)), **more)


def text_of(outs: Iterator[TokenOut] | list[TokenOut]) -> str:
    return "".join(out.text for out in outs)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_request_survives_the_way() -> None:
    prompt = Prompt((1, 70_000), (SegmentSpan(0, 1, "key"),), b"\xffpre", ((3, 4), (5,)), True)
    stop = StopRules(frozenset({7, 8}), ("\n",), 2)
    table = SuffixTable.build([1, 2, 3, 1, 2])
    sent = GenerationRequest(prompt, 9, stop=stop, priority=Priority.REVIEW, copy_tables=(table,))
    frame = unpacked(packed(request_frame(sent, [11])))
    assert request_of(frame, {11: table}, sent.cancel) == sent


def test_clients_share_a_model_and_get_what_it_says(tmp_path: Path) -> None:
    engine = SteppedEngine([WORDS, "other text"])
    with daemon(tmp_path, engine):
        one, two = client(tmp_path), client(tmp_path)
        assert one.info == engine.info
        wanted = list(FakeEngine([WORDS]).generate(request(max_tokens=5)))
        assert list(one.generate(request(max_tokens=5))) == wanted
        assert text_of(two.generate(request())) == "other text"
        assert one.stats().last.generated_tokens == 5
        with connect(tmp_path / "s") as asker:
            status = told(asker, "status")
        assert (status["models"], status["clients"]) == (["fake"], 3)
        one.close()
        two.close()


def test_models_of_different_settings_are_different(tmp_path: Path) -> None:
    with daemon(tmp_path, FakeEngine(["a"]), FakeEngine(["b"])):
        one, two = client(tmp_path), client(tmp_path, ModelSpec("/models/two"))
        assert [text_of(c.generate(request())) for c in (two, one)] == ["b", "a"]
        one.close()
        two.close()


def test_copy_tables_are_sent_once_and_dropped_with_age(tmp_path: Path) -> None:
    engine = SteppedEngine()
    with daemon(tmp_path, engine) as running:
        one = client(tmp_path)
        tables = [SuffixTable.build([n, 1, 2, n]) for n in range(20)]
        for table in (*tables, tables[-1], tables[0]):
            list(one.generate(request(copy_tables=(table,))))
            (got,) = engine.requests[-1].copy_tables
            assert got.ids.tolist() == table.ids.tolist()
            assert got.order.tolist() == table.order.tolist()
        (peer,) = running._peers
        until(lambda: len(peer.tables) == 16)
        one.close()


@pytest.mark.parametrize("by_closing", [True, False])
def test_an_answer_that_nobody_wants_ends_in_the_daemon(tmp_path: Path, by_closing: bool) -> None:
    engine = SteppedEngine(free=False)
    with daemon(tmp_path, engine):
        one, wanted = client(tmp_path), request()
        engine.steps.release(2)
        stream = one.generate(wanted)
        assert next(stream).text == "one"
        if by_closing:
            stream.close()  # type: ignore[attr-defined]
        else:
            wanted.cancel.cancel()
            assert list(stream)[-1].finish == FinishReason.CANCELLED
        until(lambda: engine.requests[0].cancel.cancelled)
        engine.free = True
        assert text_of(one.generate(request())) == WORDS
        one.close()


def test_a_completion_goes_before_a_review_which_then_goes_on(tmp_path: Path) -> None:
    engine = SteppedEngine(lambda asked: WORDS if asked.priority else "now", free=False)
    with daemon(tmp_path, engine):
        slow, fast = client(tmp_path), client(tmp_path)
        engine.steps.release(3)
        stream = slow.generate(request(priority=Priority.REVIEW))
        begun = [next(stream), next(stream)]
        answer: list[str] = []
        asks = threading.Thread(target=lambda: answer.append(text_of(fast.generate(request()))))
        asks.start()
        until(lambda: len(engine.requests) == 2)
        engine.free = True
        asks.join(PATIENCE_S)
        assert answer == ["now"]
        assert text_of([*begun, *stream]) == WORDS
        slow.close()
        fast.close()


def test_a_completion_that_reads_its_prompt_gives_way_once(tmp_path: Path) -> None:
    reading, asked = threading.Event(), []

    class Reads(FakeEngine):
        def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
            asked.append(request.prompt.ids[0])
            long = request.prompt.ids[0] == 9
            while long and not request.cancel.cancelled and asked.count(9) == 1:
                reading.set()
                time.sleep(0.001)
            return super().generate(request)

    with daemon(tmp_path, Reads(lambda asked: str(asked.prompt.ids[0]))):
        one, two = client(tmp_path), client(tmp_path)
        found: list[str] = []
        first = GenerationRequest(Prompt((9, 1)))
        asks = threading.Thread(target=lambda: found.append(text_of(one.generate(first))))
        asks.start()
        reading.wait(PATIENCE_S)
        found.append(text_of(two.generate(request())))
        asks.join(PATIENCE_S)
        assert sorted(found) == ["1", "9"]
        assert asked == [9, 1, 9]
        one.close()
        two.close()


def test_logits_are_computed_once_also_beside_completions(tmp_path: Path) -> None:
    begun, go_on, computed = threading.Event(), threading.Event(), []

    class Slow(SteppedEngine):
        def logits(self, ids: list[int]) -> Any:
            computed.append(ids)
            begun.set()
            go_on.wait(PATIENCE_S)
            return super().logits(ids)

    with daemon(tmp_path, Slow()) as running:
        slow, fast = client(tmp_path), client(tmp_path)
        scores = threading.Thread(target=lambda: slow.logits([1, 2]))
        scores.start()
        begun.wait(PATIENCE_S)
        answers: list[str] = []
        asks = threading.Thread(target=lambda: answers.append(text_of(fast.generate(request()))))
        asks.start()
        until(lambda: any(job.preempted for job in running._thread._latest.values()))
        go_on.set()
        asks.join(PATIENCE_S)
        scores.join(PATIENCE_S)
        assert answers == [WORDS]
        assert text_of(slow.generate(request())) == WORDS
        assert len(computed) == 1
        slow.close()
        fast.close()


def test_the_model_is_maintained_when_a_prompt_was_computed_ahead(tmp_path: Path) -> None:
    class Maintained(SteppedEngine):
        times = 0

        def maintain(self) -> None:
            self.times += 1

    engine = Maintained()
    with daemon(tmp_path, engine):
        one = client(tmp_path)
        list(one.generate(request()))
        assert engine.times == 0
        list(one.generate(request(max_tokens=0)))
        until(lambda: engine.times == 1)
        one.close()


@pytest.mark.parametrize("by_deadline", [True, False])
def test_a_silent_daemon_holds_nobody_who_wants_no_answer_any_more(by_deadline: bool) -> None:
    ours, theirs = Pipe()
    engine = FakeEngine([WORDS])
    opened = {"op": "opened", "info": asdict(engine.info), "stats": asdict(engine.stats())}
    theirs.send_bytes(packed(opened))
    tokenizer: Any = ByteTokenizer()
    one = SharedEngine(SPEC, lambda: ours, lambda info: tokenizer, lambda: engine)
    asked = request(deadline=time.monotonic() if by_deadline else None)
    outs: list[TokenOut] = []
    stream = threading.Thread(target=lambda: outs.extend(one.generate(asked)), daemon=True)
    stream.start()
    if not by_deadline:
        asked.cancel.cancel()
    stream.join(PATIENCE_S)
    finish = FinishReason.DEADLINE if by_deadline else FinishReason.CANCELLED
    assert [out.finish for out in outs] == [finish]
    said = [unpacked(theirs.recv_bytes()) for _ in range(3)]
    assert [frame["op"] for frame in said] == ["open", "generate", "cancel"]
    late, number = said[1]["number"], said[1]["number"] + 1
    ended = {"op": "ended", "stats": asdict(engine.stats())}
    stop = TokenOut(5, "new", 0.0, "model", finish=FinishReason.STOP)
    for frame in (
        token_frame(TokenOut(4, "old", 0.0, "model"), late),
        {**ended, "number": late},
        token_frame(stop, number),
        {**ended, "number": number},
    ):
        theirs.send_bytes(packed(frame))
    assert list(one.generate(request())) == [stop]
    one.close()
    theirs.close()


def test_what_begins_again_goes_on_or_ends_but_never_changes_its_mind() -> None:
    def outs(*ids: int) -> Iterator[TokenOut]:
        return iter([TokenOut(n, str(n), 0.0, "model") for n in ids])

    seen: list[int] = []
    assert text_of(going_on(outs(1, 2), seen)) == "12"
    assert text_of(going_on(outs(1, 2, 3), seen)) == "3"
    (last,) = going_on(outs(1, 7, 3), seen)
    assert (last.finish, last.text) == (FinishReason.CANCELLED, "")
    assert seen == [1, 2, 3]


def test_errors_of_the_model_reach_the_client_that_caused_them(tmp_path: Path) -> None:
    def load(spec: ModelSpec) -> Engine:
        if spec.path == "/models/none":
            raise CheckpointError("no such model")
        return SteppedEngine()

    tmp_path.chmod(0o700)
    with listening(tmp_path / "s") as listener:
        running = Daemon(listener, load)
        thread = threading.Thread(target=running.serve)
        thread.start()
        with pytest.raises(CheckpointError, match="no such model"):
            client(tmp_path, ModelSpec("/models/none"))
        one = client(tmp_path)
        with pytest.raises(PromptTooLongError):
            list(one.generate(GenerationRequest(Prompt((1,) * 5000))))
        assert text_of(one.generate(request())) == WORDS
        running.stop()
        thread.join(PATIENCE_S)
        one.close()


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"junk", packed({"op": 1}), packed({"op": "rm -rf"}), packed({"a": 1})]
)
def test_a_client_that_talks_nonsense_is_dropped_alone(tmp_path: Path, data: bytes) -> None:
    with daemon(tmp_path, SteppedEngine()):
        one = client(tmp_path)
        with connect(tmp_path / "s") as rude:
            rude.send_bytes(data)
            with pytest.raises((EOFError, OSError)):
                rude.recv_bytes()
        assert text_of(one.generate(request())) == WORDS
        one.close()


def test_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with daemon(tmp_path), connect(tmp_path / "s") as old:
        old.send_bytes(packed({"op": "open", "protocol": 0, "model": {}}))
        assert "qcoder daemon --stop" in unpacked(old.recv_bytes())["message"]


def test_a_lost_daemon_is_found_again_and_the_answer_goes_on(tmp_path: Path) -> None:
    first, second = SteppedEngine(free=False), SteppedEngine()
    (tmp_path / "b").mkdir(mode=0o700)
    with daemon(tmp_path, first) as running, daemon(tmp_path / "b", second):
        where = [tmp_path / "s", tmp_path / "b" / "s"]
        one = client(tmp_path, reach=lambda: connect(where.pop(0)))
        first.steps.release(3)
        stream = one.generate(request())
        seen = [next(stream), next(stream)]
        break_off(running)
        first.free = True
        assert text_of([*seen, *stream]) == WORDS
        assert not one.is_here
        assert len(second.requests) == 1
        one.close()


def test_a_daemon_that_stays_away_is_replaced_by_a_model_in_the_process(tmp_path: Path) -> None:
    def gone() -> Connection:
        raise ModelError("nobody there")

    ways: Iterator[Callable[[], Connection]] = iter([lambda: connect(tmp_path / "s"), gone])

    def reach() -> Connection:
        return next(ways)()

    with daemon(tmp_path, SteppedEngine()) as running:
        one = client(tmp_path, here=lambda: FakeEngine(["mine"]), reach=reach)
        assert text_of(one.generate(request())) == WORDS
        break_off(running)
        assert text_of(one.generate(request())) == "mine"
        assert one.is_here
        assert text_of(one.generate(request())) == "mine"
        assert one.logits([1, 2]).shape == (2, ByteTokenizer().vocab_size)


def test_without_a_daemon_the_model_is_loaded_in_the_process(tmp_path: Path) -> None:
    here = FakeEngine(["mine"])
    tokenizer: Any = ByteTokenizer()
    engine = SharedEngine.or_else(
        SPEC, lambda: connect(tmp_path / "none"), lambda info: tokenizer, lambda: here
    )
    assert engine is here


def test_logits_come_as_the_model_gives_them(tmp_path: Path) -> None:
    engine = SteppedEngine()
    with daemon(tmp_path, engine):
        one = client(tmp_path)
        assert one.logits([1, 2, 3]).equal(engine.logits([1, 2, 3]))
        one.close()


def test_a_completion_goes_between_two_pieces_of_a_score_which_then_goes_on(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Pieces(SteppedEngine):
        calls = 0

        def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
            self.calls += 1
            (whole,) = super().score(ids, start)
            for at in range(len(whole)):
                part = slice(at, at + 1)
                yield TokenScores(whole.logprobs[part], whole.best[part], whole.best_logprobs[part])
                begun.set()
                go_on.wait(PATIENCE_S)

    engine = Pieces(["now"])
    with daemon(tmp_path, engine):
        slow, fast = client(tmp_path), client(tmp_path)
        found: list[TokenScores] = []
        asks = threading.Thread(target=lambda: found.extend(slow.score([5, 6, 7, 8], 2)))
        asks.start()
        begun.wait(PATIENCE_S)
        answer: list[str] = []
        other = threading.Thread(target=lambda: answer.append(text_of(fast.generate(request()))))
        other.start()
        until(lambda: len(found) == 1)
        go_on.set()
        other.join(PATIENCE_S)
        asks.join(PATIENCE_S)
        assert answer == ["now"]
        assert (
            joined(found).logprobs.tolist()
            == joined(FakeEngine([]).score([5, 6, 7, 8], 2)).logprobs.tolist()
        )
        assert engine.calls == 1
        slow.close()
        fast.close()


def test_scores_go_on_behind_what_a_lost_daemon_has_said(tmp_path: Path) -> None:
    class Says(FakeEngine):
        def score(self, ids: list[int], start: int = 1) -> Iterator[TokenScores]:
            (whole,) = super().score(ids, start)
            yield TokenScores(whole.logprobs[:2], whole.best[:2], whole.best_logprobs[:2])
            break_off(running)

    here = FakeEngine(["mine"])
    asked: list[int] = []
    score = here.score
    here.score = lambda ids, start=1: asked.append(start) or score(ids, start)  # type: ignore
    ways = iter([lambda: connect(tmp_path / "s")])

    def reach() -> Connection:
        way = next(ways, None)
        if way is None:
            raise ModelError("nobody there")
        return way()

    with daemon(tmp_path, Says([])) as running:
        one = client(tmp_path, here=lambda: here, reach=reach)
        assert len(joined(one.score([1, 2, 3, 4, 5, 6]))) == 5
        assert asked in ([1], [3])  # the piece may be lost with the connection
        one.close()


def test_an_idle_daemon_drops_its_models_and_a_lonely_one_ends(tmp_path: Path) -> None:
    engines = [SteppedEngine(["first"]), SteppedEngine(["second"])]
    with daemon(tmp_path, *engines, idle_s=0.05) as running:
        one = client(tmp_path)
        assert text_of(one.generate(request())) == "first"
        until(lambda: not running._engines)
        assert text_of(one.generate(request())) == "second"
        one.close()
        until(running._ended.is_set)


def test_only_the_user_may_enter_and_only_one_daemon_listens(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with listening(folder / "s"):
        assert (folder.stat().st_mode & 0o777, (folder / "s").stat().st_mode & 0o777) == (
            0o700,
            0o600,
        )
        with pytest.raises(ModelError, match="running already"), listening(folder / "s"):
            pass
    (folder / "s").touch()  # what a killed one leaves
    with listening(folder / "s"):
        assert (folder / "s").is_socket()
    folder.chmod(0o755)
    with pytest.raises(ModelError, match="others may enter"), listening(folder / "s"):
        pass
    with pytest.raises(ModelError, match="too long"), listening(folder / ("x" * MAX_PATH_BYTES)):
        pass


def test_command_tells_about_the_daemon_and_stops_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert cli.main(["daemon", "--socket", str(tmp_path / "s"), *arguments]) == 0
        return capsys.readouterr().out

    assert "no daemon runs" in said("--status")
    with daemon(tmp_path) as running:
        assert "no model for 1 clients" in said("--status")
        assert '"running": false' in said("--stop", "--format", "json")
        until(running._ended.is_set)
    assert cli.main(["daemon", "--idle-minutes", "0"]) == 2


def test_metrics_are_prometheus_text_that_counts_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["daemon", "--socket", str(tmp_path / "s"), "--metrics"]
    assert cli.main(arguments) == 2
    assert "no daemon runs" in capsys.readouterr().err
    with daemon(tmp_path, SteppedEngine()):
        one = client(tmp_path)
        for priority in (Priority.COMPLETION, Priority.COMPLETION, Priority.REVIEW):
            list(one.generate(request(priority=priority)))
        until(
            lambda: cli.main(arguments) == 0 and "answer_seconds_count" in capsys.readouterr().out
        )
        assert cli.main(arguments) == 0
        one.close()
    said = capsys.readouterr().out
    samples = dict(
        re.fullmatch(r"([^ ]+) ([0-9.e+-]+)", line).groups()
        for line in said.splitlines()
        if line[0] != "#"
    )  # type: ignore[union-attr]
    assert samples['qcoder_requests_total{model="fake"}'] == "3"
    assert samples["qcoder_clients"] == "2"
    review = 'priority="review"'
    assert samples[f'qcoder_wait_seconds_bucket{{{review},le="+Inf"}}'] == "1"
    counts = [
        int(value)
        for name, value in samples.items()
        if name.startswith(f"qcoder_wait_seconds_bucket{{{review}")
    ]
    assert counts == sorted(counts)
    named = {line.split()[2] for line in said.splitlines() if line.startswith("# TYPE")}
    for name in samples:
        assert re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name) in named


def test_an_idle_daemon_lets_engines_do_what_they_put_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    class Keeps(SteppedEngine):
        def maintain(self) -> None:
            kept.append(len(self.requests))

    monkeypatch.setattr("qcoder.lsp_server.daemon.CHECK_S", 0.01)
    monkeypatch.setattr("qcoder.lsp_server.daemon.QUIET_S", 0.05)
    with daemon(tmp_path, Keeps()):
        one = client(tmp_path)
        for count in (1, 2):
            list(one.generate(request()))
            until(lambda wanted=count: wanted in kept)  # type: ignore[misc]
        one.close()
    assert kept == sorted(set(kept)), "once after each time of work"


def test_the_socket_belongs_to_this_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert str(socket_path()).startswith("/run/user/7/qcoder/run/engine-")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert "xdg_cache_home" in str(socket_path())


def test_a_cache_folder_that_others_may_read_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    cache = socket_path().parents[1]
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    with listening(socket_path()):
        assert socket_path().is_socket()

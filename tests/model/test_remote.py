from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_server import Handler, choice, served

from qcoder.model.errors import PromptTooLongError, RemoteError
from qcoder.model.remote import RemoteEngine, RemoteOptions
from qcoder.model.remote_prompt import SPECIAL
from qcoder.model.request import (
    CancelToken,
    FinishReason,
    GenerationRequest,
    Prompt,
    StopRules,
    TokenOut,
)

PATIENCE_S = 20
SECRET = "TOP-SECRET-SOURCE"


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    with served() as running:
        yield running


def said(text: str, finish: str | None = None) -> dict[str, Any]:
    """An event of a chat."""
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def request(prompt: Prompt | None = None, **arguments: Any) -> GenerationRequest:
    return GenerationRequest(prompt or Prompt(tuple(SECRET.encode())), **arguments)


def text_of(outs: list[TokenOut]) -> str:
    return "".join(out.text for out in outs)


def fim_ids(order: str) -> Prompt:
    """`a = |b` in a file of a project with one more, the last word of the prefix healed."""
    name = {k.strip("<|>").removeprefix("fim_"): (v,) for k, v in SPECIAL.items()}
    head = (*name["file_sep"], *b"lib.py\nx = 1\n", *name["file_sep"], *b"own.py\n")
    before, behind = tuple("ä = ".encode()), tuple(b"\nb<|fim_middle|>")
    if order == "spm":
        ids = (*head, *name["prefix"], *name["suffix"], *behind, *name["middle"], *before)
    else:
        ids = (*head, *name["prefix"], *before, *name["suffix"], *behind, *name["middle"])
    return Prompt(ids, healed=b"re")


def test_tokens_come_with_their_probabilities_and_the_servers_counts(server: Any) -> None:
    url, handler = server
    usage = {"prompt_tokens": 77, "prompt_tokens_details": {"cached_tokens": 60}}
    handler.script = lambda h, body: h.stream(
        choice("return", None, -0.5, -0.25),
        choice(" x", "stop", -0.125),
        {"choices": [], "usage": usage},
    )
    engine = RemoteEngine.connect(RemoteOptions(url))
    outs = list(engine.generate(request()))
    assert text_of(outs) == "return x"
    assert [out.logprob for out in outs[:-1]] == [-0.5, -0.25, -0.125]
    assert outs[-1].finish == FinishReason.STOP
    last = engine.stats().last
    assert (last.prompt_tokens, last.reused_tokens, last.generated_tokens) == (77, 60, 3)
    assert handler.bodies[0]["model"] == "coder"


def test_probabilities_as_llama_cpp_writes_them_are_read(server: Any) -> None:
    url, handler = server
    row = {"text": "x", "finish_reason": None, "logprobs": {"content": [{"logprob": -0.75}]}}
    handler.script = lambda h, body: h.stream({"choices": [row]}, choice("", "length"))
    outs = list(RemoteEngine.connect(RemoteOptions(url)).generate(request()))
    assert [out.logprob for out in outs] == [-0.75, -0.75]
    assert outs[-1].finish == FinishReason.LENGTH


@pytest.mark.parametrize("order", ["qwen", "qcoder"])
def test_the_raw_prompt_is_what_the_local_model_would_read(server: Any, order: Any) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(choice("", "stop"))
    engine = RemoteEngine.connect(RemoteOptions(url, fim_format=order))
    list(engine.generate(request(fim_ids(engine.info.fim_order))))
    head = "<|file_sep|>lib.py\nx = 1\n<|file_sep|>own.py\n<|fim_prefix|>"
    behind = "<|fim_suffix|>\nb< |fim_middle|>"
    expected = {
        "qwen": f"{head}ä = re{behind}<|fim_middle|>",
        "qcoder": f"{head}{behind}<|fim_middle|>ä = re",
    }
    assert handler.bodies[0]["prompt"] == expected[order]
    assert handler.paths == ["/v1/completions"]


def test_other_families_have_their_own_marks(server: Any) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(choice("", "stop"))
    for family in ("starcoder", "deepseek"):
        engine = RemoteEngine.connect(RemoteOptions(url, fim_format=family))  # type: ignore[arg-type]
        list(engine.generate(request(fim_ids("psm"))))
    first, second = (body["prompt"] for body in handler.bodies)
    assert first.startswith("<file_sep>lib.py\n")
    assert "<fim_prefix>ä = re<fim_suffix>\n" in first
    assert "own.py\n<｜fim▁begin｜>ä = re<｜fim▁hole｜>\n" in second  # noqa: RUF001


def test_kind_suffix_leaves_the_special_tokens_to_the_server(server: Any) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(choice("", "stop"))
    engine = RemoteEngine.connect(RemoteOptions(url, kind="suffix"))
    list(engine.generate(request(fim_ids("psm"), stop=StopRules(strings=("\n",)))))
    body = handler.bodies[0]
    assert body["prompt"] == "lib.py\nx = 1\nown.py\nä = re"
    assert body["suffix"] == "\nb< |fim_middle|>"
    assert body["stop"] == ["\n"]


def test_a_chat_models_code_fence_is_no_part_of_the_answer(server: Any) -> None:
    url, handler = server
    pieces = [said("``"), said("`python"), said("\nreturn x"), said("\n``"), said("`\nSo", "stop")]
    handler.script = lambda h, body: h.stream(*pieces)
    engine = RemoteEngine.connect(RemoteOptions(url, kind="chat"))
    outs = list(engine.generate(request(fim_ids("psm"))))
    assert text_of(outs) == "return x"
    assert handler.paths == ["/v1/chat/completions"]
    assert "ä = re[CURSOR]\nb" in handler.bodies[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (StopRules(strings=("def",)), "a\nb\n"),
        (StopRules(max_lines=1), "a"),
        (StopRules(), "a\nb\ndef"),
    ],
)
def test_stop_rules_hold_on_servers_that_ignore_them(
    server: Any, rules: StopRules, expected: str
) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(
        choice("a\nb"), choice("\nde"), choice("f<|fim_suffix|>"), choice("x", "stop")
    )
    outs = list(RemoteEngine.connect(RemoteOptions(url)).generate(request(stop=rules)))
    assert text_of(outs) == expected
    assert outs[-1].finish == FinishReason.STOP


def test_no_more_tokens_come_than_were_asked_for(server: Any) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(*[choice("x", None, -0.1)] * 9)
    outs = list(RemoteEngine.connect(RemoteOptions(url)).generate(request(max_tokens=4)))
    assert text_of(outs) == "xxxx"
    assert outs[-1].finish == FinishReason.LENGTH


def hanging(closed: threading.Event, begun: threading.Event) -> Callable[..., None]:
    """A script that sends a token and then waits until its client has gone."""

    def script(handler: Handler, body: Any) -> None:
        handler.stream(choice("x", None, -0.1), done=False)
        begun.set()
        handler.connection.settimeout(PATIENCE_S)
        try:
            gone = handler.connection.recv(1) == b""
        except ConnectionError:
            gone = True
        except ssl.SSLError as error:  # without the goodbye of TLS
            gone = "EOF" in str(error)
        if gone:
            closed.set()

    return script


@pytest.mark.parametrize("how", ["cancel", "deadline", "close"])
def test_ending_early_closes_the_connection(server: Any, how: str) -> None:
    url, handler = server
    closed, begun, cancel = threading.Event(), threading.Event(), CancelToken()
    handler.script = hanging(closed, begun)
    engine = RemoteEngine.connect(RemoteOptions(url))
    deadline = time.monotonic() + 0.3 if how == "deadline" else None
    outs = engine.generate(request(cancel=cancel, deadline=deadline))
    if how != "deadline":
        assert next(outs).text == "x"
    if how == "close":
        outs.close()  # type: ignore[attr-defined]
    elif how == "cancel":
        cancel.cancel()
        assert [out.finish for out in outs] == [FinishReason.CANCELLED]
    else:
        assert list(outs)[-1].finish == FinishReason.DEADLINE
    assert closed.wait(PATIENCE_S)


def test_computing_a_prompt_ahead_sends_nothing(server: Any) -> None:
    url, handler = server
    engine = RemoteEngine.connect(RemoteOptions(url))
    outs = list(engine.generate(request(max_tokens=0)))
    assert [out.finish for out in outs] == [FinishReason.LENGTH]
    assert handler.bodies == []


def test_a_prompt_beyond_the_context_is_not_sent(server: Any) -> None:
    url, handler = server
    engine = RemoteEngine.connect(RemoteOptions(url, max_context=100))
    with pytest.raises(PromptTooLongError, match="max_context"):
        engine.generate(request(Prompt(tuple(b"x" * 360))))
    engine.generate(request(Prompt(tuple(b"x" * 355))))
    assert handler.bodies == []


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "api_key_env"),
        (403, "api_key_env"),
        (404, "remote.model"),
        (429, "try again"),
        (500, "own log"),
        (307, "redirects"),
    ],
)
def test_a_refusal_says_what_to_do_and_quotes_nothing(
    server: Any, status: int, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url, handler = server
    handler.script = lambda h, body: h.answer(status, json.dumps({"error": SECRET}).encode())
    engine = RemoteEngine.connect(RemoteOptions(url))
    with pytest.raises(RemoteError, match=advice) as raised:
        list(engine.generate(request()))
    assert raised.value.status == status
    assert len(handler.bodies) == 1
    assert SECRET not in str(raised.value) + caplog.text


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([{"error": {"message": SECRET}}], "failed in the middle"),
        (["no json"], "no completion"),
        (["[1]"], "no completion"),
        ([choice("x")], "broke off"),
    ],
)
def test_a_stream_that_fails_is_an_error(server: Any, events: list[Any], word: str) -> None:
    url, handler = server
    handler.script = lambda h, body: h.stream(*events, done=False)
    with pytest.raises(RemoteError, match=word) as raised:
        list(RemoteEngine.connect(RemoteOptions(url)).generate(request()))
    assert SECRET not in str(raised.value)


def test_an_answer_that_is_no_stream_is_an_error(server: Any) -> None:
    url, handler = server
    handler.script = lambda h, body: h.answer(200, b"<html>", "text/html")
    with pytest.raises(RemoteError, match="OpenAI-compatible"):
        list(RemoteEngine.connect(RemoteOptions(url)).generate(request()))


def test_a_silent_server_is_an_error(server: Any) -> None:
    url, handler = server
    handler.script = hanging(threading.Event(), threading.Event())
    engine = RemoteEngine.connect(RemoteOptions(url, timeout_s=0.2))
    with pytest.raises(RemoteError, match="silent"):
        list(engine.generate(request()))


def test_a_server_without_probabilities_is_used_without(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url, handler = server

    def script(h: Handler, body: dict[str, Any]) -> None:
        if "logprobs" in body:
            h.answer(400, b"{}")
        else:
            h.stream(choice("x"), choice("y", "stop"))

    handler.script = script
    engine = RemoteEngine.connect(RemoteOptions(url))
    for _ in range(2):
        assert text_of(list(engine.generate(request()))) == "xy"
    assert ["logprobs" in body for body in handler.bodies] == [True, False, False]
    assert caplog.text.count("min_confidence") == 1


def test_an_unknown_model_is_said_with_those_there_are(server: Any) -> None:
    url, _ = server
    with pytest.raises(RemoteError, match="'other', but coder"):
        RemoteEngine.connect(RemoteOptions(url, model="other"))


def test_a_server_without_a_list_of_models_needs_a_name(server: Any) -> None:
    url, handler = server
    handler.models = (404, {})
    with pytest.raises(RemoteError, match=r"name one in remote\.model"):
        RemoteEngine.connect(RemoteOptions(url))
    assert RemoteEngine.connect(RemoteOptions(url, model="mine")).info.name == "mine"


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(RemoteError, match="cannot be reached"):
        RemoteEngine.connect(RemoteOptions("http://127.0.0.1:1/v1"))


def test_https_to_a_server_that_speaks_http_is_said(server: Any) -> None:
    url, handler = server
    with pytest.raises(RemoteError, match="cannot be reached"):
        RemoteEngine.connect(RemoteOptions(url.replace("http:", "https:"), api_key="k-123"))
    assert handler.keys == []


def certificate(folder: Path) -> Path:
    """A fresh certificate of 127.0.0.1 and its key, signed by itself, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path, key = folder / "own.pem", folder / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(path)]
    done = subprocess.run(
        ["openssl", "req", "-x509", *options, *names, *files], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def test_certificates_are_verified_and_cancellation_works_through_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    closed, cancel = threading.Event(), CancelToken()
    with served(context) as (url, handler):
        handler.script = hanging(closed, threading.Event())
        with pytest.raises(RemoteError, match="SSL_CERT_FILE"):
            RemoteEngine.connect(RemoteOptions(url))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        outs = RemoteEngine.connect(RemoteOptions(url)).generate(request(cancel=cancel))
        assert next(outs).text == "x"
        cancel.cancel()
        assert [out.finish for out in outs] == [FinishReason.CANCELLED]
        assert closed.wait(PATIENCE_S)


def test_the_key_goes_into_the_header_and_nowhere_else(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url, handler = server
    options = RemoteOptions(url, api_key="k-123")
    engine = RemoteEngine.connect(options)
    assert handler.keys == ["Bearer k-123"]
    assert "k-123" not in f"{options} {engine.info} {caplog.text}"
    with pytest.raises(RemoteError, match="header") as raised:
        RemoteEngine.connect(RemoteOptions(url, api_key="k-123\nX: y"))
    assert "k-123" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://models.example.com/v1", "unencrypted"),
        ("http://localhost.example.com/v1", "unencrypted"),
        ("ftp://localhost/v1", "must be like"),
        ("localhost:8000", "must be like"),
        ("https://user:pw@host/v1", "api_key_env"),
        ("https://host:99999/v1", "no address"),
        ("https://host/v1?key=1", "query"),
    ],
)
def test_an_address_that_is_none_or_not_safe_is_refused(url: str, word: str) -> None:
    with pytest.raises(RemoteError, match=word) as raised:
        RemoteEngine.connect(RemoteOptions(url))
    assert "pw" not in str(raised.value)


def test_a_given_tokenizer_counts(server: Any) -> None:
    from qcoder.model.registry import DEFAULT_FOLDER
    from qcoder.model.tokenizer import Tokenizer

    url, _ = server
    path = Path(DEFAULT_FOLDER) / "tokenizer.json"
    engine = RemoteEngine.connect(RemoteOptions(url, tokenizer=str(path)))
    text = "def compute(first, second):\n    return first"
    assert engine.tokenizer.count(text) == Tokenizer.load(path.parent).count(text)


def test_llama_cpp_serves_the_default_model_as_it_runs_here(tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip(
        "xllamacpp", reason="needs llama.cpp: pip install qcoder[bench]"
    )
    from qcoder.model.exporter import export_gguf
    from qcoder.model.local import LocalEngine
    from qcoder.model.registry import DEFAULT_FOLDER

    export_gguf(DEFAULT_FOLDER, tmp_path / "small.gguf")
    wanted = xllamacpp.CommonParams()
    wanted.model.path = str(tmp_path / "small.gguf")
    wanted.n_ctx, wanted.n_parallel, wanted.n_gpu_layers = 1024, 1, 0
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = 1
    wanted.port = 0
    running = xllamacpp.Server(wanted)
    local = LocalEngine.load()
    remote = RemoteEngine.connect(
        RemoteOptions(f"{running.listening_address}/v1", fim_format="qcoder", timeout_s=PATIENCE_S)
    )
    answers = []
    for engine in (local, remote):
        special, encode = engine.tokenizer.special, engine.tokenizer.encode
        ids = [special["<|file_sep|>"], *encode("a.py\n"), special["<|fim_prefix|>"]]
        ids += [special["<|fim_suffix|>"], *encode("\n"), special["<|fim_middle|>"]]
        ids += encode("for i in range(")
        asked = request(Prompt(tuple(ids)), max_tokens=5, mixture=False)
        answers.append(list(engine.generate(asked)))
    expected, found = answers
    assert text_of(found) == text_of(expected)
    assert [o.logprob for o in found[:5]] == pytest.approx([o.logprob for o in expected], abs=0.05)
    assert remote.stats().last.prompt_tokens == local.stats().last.prompt_tokens
    del running

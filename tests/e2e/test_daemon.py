"""Two servers and one model between them: real processes, the shipped model, a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcoder.lsp_server.rpc_client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OPTIONS = {"model": {"shared": True}, "completion": {"minConfidence": 0.0}}
TEXT = "".join(f"row_{n} = compute_total(values, {n})\n" for n in range(6)) + "row_6 = compute"
QCODER = [sys.executable, "-P", "-m", "qcoder.lsp_server.cli"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "workspace"
    folder.mkdir()
    yield folder
    subprocess.run([*QCODER, "daemon", "--stop"], check=True, capture_output=True)


def started(root: Path) -> Client:
    """A server that is ready."""
    client = Client(root)
    client.initialize(OPTIONS)
    client.wait_for(
        lambda m: m["method"] == "qcoder/status" and m["params"]["kind"] == "Normal", 120
    )
    return client


def complete(client: Client, name: str) -> Any:
    """What is suggested at the end of the text, or why nothing is."""
    uri = client.open(client.root / name, TEXT)
    lines = TEXT.split("\n")
    at = {"line": len(lines) - 1, "character": len(lines[-1])}
    params = {"textDocument": {"uri": uri}, "position": at, "context": {"triggerKind": 1}}
    answer = client.request("textDocument/inlineCompletion", params)
    items = answer and answer["items"]
    found = items[0]["insertText"] if items else client.request("qcoder/explainLast", None)
    # Or it would be in the context of the next one.
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    return found


def daemon_status() -> dict[str, Any]:
    done = subprocess.run(
        [*QCODER, "daemon", "--status", "--format", "json"], check=True, capture_output=True
    )
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def daemon_process() -> int:
    """The process that listens at this test's socket."""
    socket = str(daemon_status()["socket"])
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if socket.encode() in words and b"--status" not in words:
            return int(entry.parent.name)
    raise AssertionError("no daemon runs")


def test_two_servers_share_one_model_and_lose_nothing_with_it(root: Path) -> None:
    with started(root) as one, started(root) as two:
        first = complete(one, "a.py")
        assert "total(values" in first
        assert complete(two, "b.py") == first
        status = daemon_status()
        assert (len(status["models"]), status["clients"]) == (1, 3)
        killed = daemon_process()
        os.kill(killed, signal.SIGKILL)
        assert complete(one, "c.py") == first
        assert complete(two, "d.py") == first
        assert daemon_process() != killed
        assert len(daemon_status()["models"]) == 1


def test_a_command_uses_the_shared_model_where_the_user_says_so(root: Path, tmp_path: Path) -> None:
    (tmp_path / "config" / "qcoder").mkdir(parents=True)
    (tmp_path / "config" / "qcoder" / "qcoder.toml").write_text("[model]\nshared = true\n")
    (root / "a.py").write_text(TEXT)
    lines = TEXT.split("\n")
    where = ["--line", str(len(lines)), "--column", str(len(lines[-1]) + 1)]
    done = subprocess.run(
        [*QCODER, "complete", str(root / "a.py"), *where],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip()
    assert len(daemon_status()["models"]) == 1
    began = time.monotonic()
    subprocess.run([*QCODER, "daemon", "--stop"], check=True, capture_output=True)
    while daemon_status()["running"]:
        assert time.monotonic() - began < 20

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest

from qcoder.lsp_server import lsp_cli
from qcoder.model import adapted, processes
from qcoder.model.processes import is_running

ACCESS_DENIED, NO_SUCH_PROCESS = 5, 87
ENDED, TIMEOUT, FAILED = 0, 0x102, 0xFFFFFFFF


def test_a_process_runs_until_it_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_running(child.pid)
    child.communicate(b"\n")
    assert not is_running(child.pid)
    assert is_running(os.getpid())


@pytest.mark.parametrize("process_id", [0, -1, 2**31, 2**32 + 1, 2**70])
def test_an_id_that_no_process_can_have_runs_nowhere(process_id: int) -> None:
    assert not is_running(process_id)


@pytest.mark.parametrize(
    ("error", "running"),
    [(PermissionError(), True), (OSError(), True), (ProcessLookupError(), False)],
)
def test_a_process_that_cannot_be_asked_counts_as_running(
    monkeypatch: pytest.MonkeyPatch, error: OSError, running: bool
) -> None:
    def refuse(process_id: int, signal: int) -> None:
        raise error

    monkeypatch.setattr(os, "kill", refuse)
    assert is_running(1234) is running


class Function:
    """A function of a library, which has its types as attributes."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []
        self.restype = self.argtypes = None

    def __call__(self, *arguments: Any) -> int:
        self.calls.append(arguments)
        return self.answer


class Kernel32:
    """What of the library of Windows is asked."""

    def __init__(self, handle: int, state: int) -> None:
        self.OpenProcess, self.WaitForSingleObject = Function(handle), Function(state)
        self.CloseHandle = Function(1)


@pytest.mark.parametrize(
    ("handle", "error", "state", "running"),
    [
        (64, 0, TIMEOUT, True),
        (64, 0, ENDED, False),
        (64, 0, FAILED, True),
        (0, ACCESS_DENIED, FAILED, True),
        (0, NO_SUCH_PROCESS, FAILED, False),
    ],
)
def test_windows_is_asked_without_a_signal(
    monkeypatch: pytest.MonkeyPatch, handle: int, error: int, state: int, running: bool
) -> None:
    library = Kernel32(handle, state)
    signals: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setattr(ctypes, "WinDLL", lambda name, use_last_error: library, raising=False)
        patch.setattr(ctypes, "get_last_error", lambda: error, raising=False)
        patch.setattr(os, "kill", lambda process_id, signal: signals.append(signal))
        answer = lsp_cli.is_running(1234)
    assert answer is running
    assert signals == []
    assert library.OpenProcess.calls == [(processes.SYNCHRONIZE, False, 1234)]
    assert library.CloseHandle.calls == ([(handle,)] if handle else [])
    assert adapted.is_running is lsp_cli.is_running

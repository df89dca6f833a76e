"""Whether a process of this machine is still there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

SYNCHRONIZE = 0x0010_0000
NO_SUCH_PROCESS = 87
"""What OpenProcess fails with (ERROR_INVALID_PARAMETER) for an id that nobody has."""

ENDED = 0
"""What WaitForSingleObject answers (WAIT_OBJECT_0) for a process that has ended."""


def is_running(process_id: int) -> bool:
    """Whether a process with this id is there; one that cannot be asked counts as there."""
    if not 0 < process_id < 2**32:
        return False
    if sys.platform == "win32":
        # There os.kill ends the process, or sends the console an interrupt for the signal 0.
        import ctypes
        from ctypes import wintypes

        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = wintypes.HANDLE
        kernel32.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
        kernel32.WaitForSingleObject.restype = wintypes.DWORD
        kernel32.WaitForSingleObject.argtypes = (wintypes.HANDLE, wintypes.DWORD)
        kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
        return _is_running_on_windows(process_id, kernel32, ctypes.get_last_error)
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _is_running_on_windows(process_id: int, kernel32: Any, last_error: Callable[[], int]) -> bool:
    handle = kernel32.OpenProcess(SYNCHRONIZE, False, process_id)
    if not handle:
        return last_error() != NO_SUCH_PROCESS
    try:
        return bool(kernel32.WaitForSingleObject(handle, 0) != ENDED)
    finally:
        kernel32.CloseHandle(handle)

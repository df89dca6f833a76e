"""Map the pages of weights before they are read: a decode step that meets each for the first time waits.

A mapped file costs a page fault for each of its pages (about a fifth of the time of the first hundred decode
steps of a large model), and a read from disk where the system has not cached it. Both are done ahead, by a
thread that nobody waits for, as far as there is memory for it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence

from torch import Tensor

POPULATE_READ = 22
"""`MADV_POPULATE_READ` of Linux 5.14; older systems refuse it, which is no loss."""

STEP_BYTES = 32 << 20
PAGE_BYTES = 4096


def prefault(tensors: Sequence[Tensor], room: Callable[[], int]) -> threading.Thread | None:
    """Begin to map the content of `tensors`; ends when `room()` bytes of memory are less than a step.

    None where the system has no such call.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    held = list(tensors)  # the memory stays while it is mapped

    def work() -> None:
        for tensor in held:
            begin = tensor.data_ptr() // PAGE_BYTES * PAGE_BYTES
            end = tensor.data_ptr() + tensor.nbytes
            for address in range(begin, end, STEP_BYTES):
                if room() < 4 * STEP_BYTES:
                    return
                if libc.madvise(address, min(STEP_BYTES, end - address), POPULATE_READ):
                    return

    thread = threading.Thread(target=work, name="qcoder-prefault", daemon=True)
    thread.start()
    return thread

"""The compiled kernels of `native/`, loaded with ctypes; absent where they could not be built.

Owns: finding the library, its threads, and calls with torch tensors. What the numbers mean is in
`tiled.py`. `QCODER_KERNELS=torch` leaves the library alone; so does a machine without a compiler.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcoder.kernels.dispatch import backend
from qcoder.kernels.tiled import TiledShape

logger = logging.getLogger(__name__)

SUFFIXES = (".abi3.so", ".pyd")
"""How the library's name ends: it knows nothing of Python, so it serves every version."""

INSTRUCTIONS = ("plain", "avx2", "avx512_vnni", "neon")
"""Instruction sets by the number that the library gives them."""


INTERFACE = 3
"""Of the C functions; a library with another number was compiled from other sources."""

STOPPED = 2
"""What a forward pass returns that was told to stop."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library, its functions declared; None when it is not there or does not load."""
    folder = Path(__file__).parent
    for suffix in SUFFIXES:
        path = folder / f"_native{suffix}"
        if path.exists():
            try:
                found = ctypes.CDLL(str(path))
                if found.qcoder_interface() == INTERFACE:
                    return _declared(found)
                logger.warning(
                    "kernels=torch reason=%s was compiled from other sources: install qcoder again",
                    path.name,
                )
            except (OSError, AttributeError) as error:
                logger.warning("kernels=torch reason=%s does not load: %s", path.name, error)
    return None


def instruction_sets() -> list[str]:
    """Those of this processor; none without the library."""
    found = library()
    return [n for i, n in enumerate(INSTRUCTIONS) if found is not None and found.qcoder_has(i)]


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    found.qcoder_instructions.restype = number
    found.qcoder_has.argtypes = [number]
    found.qcoder_open.argtypes, found.qcoder_open.restype = [number, number], pointer
    found.qcoder_close.argtypes, found.qcoder_close.restype = [pointer], None
    found.qcoder_linear.argtypes = [
        pointer, pointer, pointer, size, size, number, number, pointer, size, pointer,
    ]  # fmt: skip
    found.qcoder_experts.argtypes = [
        pointer, pointer, pointer, size, size, size, number, number, number, number,
        pointer, pointer, pointer, size, size, pointer,
    ]  # fmt: skip
    found.qcoder_forward.argtypes = [pointer, pointer, pointer, number]
    found.qcoder_delta.argtypes = [pointer, pointer]
    return found


DELTA_COLUMNS, DELTA_KEYS = 32, 256
"""Columns of a head's memory that `Native.delta` takes together, and the most rows there may be."""


class _Delta(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "q", "k", "v", "decay", "beta", "before", "after", "out",
        )),
        *((name, ctypes.c_int64) for name in (
            "tokens", "key_heads", "value_heads", "key_dim", "value_dim",
        )),
    )  # fmt: skip


class Native:
    """Threads and scratch memory; calls from several threads take turns."""

    def __init__(self, threads: int, instructions: str | None = None) -> None:
        """`instructions` of `INSTRUCTIONS`, the best there is by default; raises `OSError`."""
        self._handle: int | None = None
        found = library()
        if found is None:
            raise OSError("the compiled kernels are not installed")
        best = found.qcoder_instructions()
        wanted = best if instructions is None else INSTRUCTIONS.index(instructions)
        self._library = found
        self._handle = found.qcoder_open(threads, wanted)
        if not self._handle:
            raise OSError(f"no kernels for {INSTRUCTIONS[wanted]} with {threads} threads here")
        self._turn = threading.Lock()
        self.threads, self.instructions = threads, INSTRUCTIONS[wanted]

    def close(self) -> None:
        """End the threads."""
        if self._handle:
            self._library.qcoder_close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()

    def linear(
        self, x: Tensor, data: Tensor, shape: TiledShape, residual: Tensor | None = None
    ) -> Tensor:
        """x [tokens, columns] times a tiled matrix `data`: [tokens, rows], float32.

        With `residual` as `tiled.residual_linear` has it.
        """
        x = _floats(x)
        y = torch.empty(x.shape[0], shape.rows)
        with self._turn:
            status = self._library.qcoder_linear(
                self._handle, data.data_ptr(), None if residual is None else residual.data_ptr(),
                shape.rows, shape.columns, shape.bits, shape.group,
                x.data_ptr(), x.shape[0], y.data_ptr(),
            )  # fmt: skip
        _check(status)
        return y

    def experts(
        self,
        x: Tensor,
        gate_up: Tensor,
        down: Tensor,
        weights: Tensor,
        chosen: Tensor,
        first: TiledShape,
        second: TiledShape,
    ) -> Tensor:
        """SwiGLU experts [tokens, hidden]; weights, chosen: [tokens, top_k].

        gate_up, down: tiled [experts, bytes], each expert of the shapes `first` and `second`.
        """
        x, weights = _floats(x), _floats(weights)
        chosen = chosen.to(torch.int64).contiguous()
        y = torch.empty_like(x)
        with self._turn:
            status = self._library.qcoder_experts(
                self._handle, gate_up.data_ptr(), down.data_ptr(), gate_up.shape[0], x.shape[1],
                second.columns, first.bits, first.group, second.bits, second.group, x.data_ptr(), chosen.data_ptr(), weights.data_ptr(),
                x.shape[0], chosen.shape[1], y.data_ptr(),
            )  # fmt: skip
        _check(status)
        return y

    def delta(
        self, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `delta_net.gated_delta_rule_reference`; value_dim is a multiple of `DELTA_COLUMNS`, key_dim at most `DELTA_KEYS`."""
        kind = v.dtype
        inputs = [_floats(x) for x in (q, k, v, decay, beta, memory)]
        out, after = torch.empty_like(inputs[2]), torch.empty_like(inputs[5])
        arrays = [x.data_ptr() for x in (*inputs, after, out)]
        sizes = (v.shape[0], k.shape[1], v.shape[1], k.shape[2], v.shape[2])
        with self._turn:
            status = self._library.qcoder_delta(self._handle, ctypes.byref(_Delta(*arrays, *sizes)))
        _check(status)
        return out.to(kind), after

    def forward(self, model: Any, batch: Any, alone: bool) -> bool:
        """One pass over references to the structures of `native_decoder.py`; False if it was stopped."""
        with self._turn:
            status = self._library.qcoder_forward(self._handle, model, batch, int(alone))
        if status == STOPPED:
            return False
        _check(status)
        return True


def _floats(x: Tensor) -> Tensor:
    return x.to(torch.float32).contiguous()


def _check(status: int) -> None:
    if status:
        raise MemoryError("not enough memory for the kernels' scratch buffers")


def native(threads: int = 0) -> Native | None:
    """This process's kernels on `threads` (0: half of its cores); None where there are none."""
    if backend() != "cpu" or library() is None:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _shared(threads or max(1, (cores or 1) // 2))


@lru_cache(maxsize=4)
def _shared(threads: int) -> Native | None:
    try:
        return Native(threads)
    except OSError as error:
        logger.warning("kernels=torch reason=%s", error)
        return None

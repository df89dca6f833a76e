"""Chooses which version of an op runs: `QCODER_KERNELS` = `cpu` (default), `torch`, `reference` or `triton`.

The choice is made once, when an op's module is imported. `torch` is `cpu` without the compiled
kernels (`native_library.py`), as on a machine without a compiler. `reference` runs the plain float32
versions everywhere: the first thing to try when an answer looks wrong on some machine. `triton` runs
whole models in the Triton kernels (`gpu/`) on the first GPU, as the setting `model.device: cuda` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Op = TypeVar("Op", bound=Callable[..., Any])

VARIABLE = "QCODER_KERNELS"
BACKENDS = ("cpu", "torch", "reference", "triton")


def backend(environ: Mapping[str, str] = os.environ) -> str:
    """The backend that the environment asks for; raises `ValueError` for an unknown name."""
    name = environ.get(VARIABLE, "") or BACKENDS[0]
    if name not in BACKENDS:
        raise ValueError(f"{VARIABLE}={name} is unknown; use one of: {', '.join(BACKENDS)}")
    return name


def choose(*, cpu: Op, reference: Op) -> Op:
    """The version of one op that this process uses."""
    return reference if backend() == "reference" else cpu

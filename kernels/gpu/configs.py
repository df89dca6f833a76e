"""Block sizes of the kernels: a table, since tuning at run time would make the first answers late.

`warps` times 32 threads work on a block; `stages` is the depth of the software pipeline of the loads
of matrix products.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import triton.language as tl


@dataclass(frozen=True, slots=True)
class Config:
    """How one kernel is launched.

    block_m, block_n, block_k: outer and inner sizes of a block; lanes: threads' places along a row.
    """

    block_n: int = 0
    block_k: int = 0
    block_m: int = 0
    lanes: int = 0
    warps: int = 4
    stages: int = 1


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in numpy, where bfloat16 arithmetic is wrong: products are in float32 then."""

DOT = tl.float32 if INTERPRETED else tl.bfloat16
"""Type of the factors of matrix products; sums are float32 always."""

DOT_TORCH = torch.float32 if INTERPRETED else torch.bfloat16

MANY = 16
"""Up to so many tokens the kernels for few tokens are used: what a matrix product has at least."""

VECTOR = {"float": 8, "int8": 16, "fp8": 16, "int4": 4}
"""Values of a load of 16 bytes by kind; of int4 words."""

MULTIPROCESSORS = 132
"""Of the GPU that the table is made for (H100, H200)."""

ROWS_AT_ONCE = 16
"""Rows of a program of one token."""

LANES = {
    4: {"float": (128, 64), "int8": (64,), "fp8": (64,), "int4": (64,)},
    8: {"float": (256, 128, 64), "int8": (64,), "fp8": (128, 64), "int4": (64, 128)},
}
"""Threads' places along a row that are tried, by warps and kind: the first that divides it."""

ROWS: dict[str, Config] = {
    "float": Config(block_n=32, block_k=128, warps=4, stages=3),
    "int8": Config(block_n=32, block_k=128, warps=4, stages=3),
    "fp8": Config(block_n=32, block_k=128, warps=4, stages=3),
    "int4": Config(block_n=32, block_k=256, warps=4, stages=3),
}
"""Products of several tokens by kind of weights."""

UNROLLED = {"float": 2, "int8": 1, "fp8": 2, "int4": 4}
"""Steps of one token up to which the loop is unrolled: all their loads are under way at once."""


def row_config(kind: str, rows: int, columns: int, matrices: int = 1, slots: int = 1) -> Config:
    """For a product of one token, of `matrices` programs' worth of rows at once.

    Where there are fewer programs than two a multiprocessor, each gets twice as many threads; and
    where slots take registers for their places.
    """
    programs = rows // ROWS_AT_ONCE * matrices
    warps = 4 if programs >= 2 * MULTIPROCESSORS and slots == 1 else 8
    width = 32 if kind == "int4" else VECTOR[kind]
    across, tried = -(-columns // width) * slots, LANES[warps][kind]
    lanes = next((n for n in tried if across % n == 0), tried[0])
    if INTERPRETED:  # where every program costs milliseconds
        return Config(block_n=128, lanes=lanes)
    return Config(block_n=ROWS_AT_ONCE, lanes=lanes, warps=warps)


def rows_config(kind: str, group: int) -> Config:
    """For a product of several tokens: a step never crosses a group of int8."""
    config = ROWS[kind]
    if INTERPRETED:
        config = replace(config, block_n=128)
    if kind == "int8" and group % config.block_k:
        return replace(config, block_k=group & -group)
    return config


def few_config(matrix: Any, tokens: int) -> Config:
    """For `few_product` of a `GpuMatrix`."""
    if tokens == 1:
        return row_config(matrix.kind, matrix.rows, matrix.columns)
    return rows_config(matrix.kind, matrix.group)


def row_steps(config: Config, kind: str, rows: int, columns: int, slots: int = 1) -> dict[str, Any]:
    """The constants of `row_product` that follow from the shape."""
    width = 32 if kind == "int4" else VECTOR[kind]
    across, lanes = slots * -(-columns // width), max(config.lanes, 1)
    steps = -(-across // lanes)
    even = rows % config.block_n == 0 and across % lanes == 0 and columns % width == 0
    return {
        "STEPS": steps, "UNROLL": steps <= UNROLLED[kind], "LANES": config.lanes, "VECTOR": VECTOR[kind],
        "EVEN": even,
    }  # fmt: skip


def token_block(tokens: int) -> int:
    """1, or what a matrix product has at least."""
    return 1 if tokens == 1 else MANY


@lru_cache(maxsize=8)
def bits_of_one(device: torch.device) -> torch.Tensor:
    """The bits of 1.0 as int32 [1], which the int4 kernels load (`rows.low_or_high`)."""
    return torch.tensor([0x3F800000], dtype=torch.int32, device=device)


_assumed: int | None = None


def capability(device: torch.device) -> int:
    """Compute capability of a GPU, 90 for 9.0; of other devices what `assuming` says, else 90."""
    if _assumed is not None or device.type != "cuda":
        return _assumed or 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@contextmanager
def assuming(number: int) -> Iterator[None]:
    """Choose sizes for GPUs of this compute capability, to compile for one that is not there."""
    global _assumed  # noqa: PLW0603 (one compilation a process)
    _assumed, before = number, _assumed
    try:
        yield
    finally:
        _assumed = before

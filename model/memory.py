"""How much memory a model needs, known before it is loaded, and what to do if there is too little.

The weights' share is exact: the architecture is loaded from the headers of its files. Mapped files
count fully, since a generation reads nearly all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from qcoder.model.checkpoint import Checkpoint
from qcoder.model.config import ModelConfig
from qcoder.model.errors import CheckpointError
from qcoder.model.kv_cache import MAX_SNAPSHOTS
from qcoder.model.registry import network_class

OVERHEAD_BYTES = 400 << 20
"""Python, torch and the activations of a chunk."""

CHECKED_FROM_BYTES = 1 << 30
"""Checkpoints smaller than this are loaded without a look: the look takes longer than it is worth."""

VARIABLE = "QCODER_IGNORE_MEMORY"
"""Set to 1, a model that does not fit is loaded all the same: mapped files are then read again and
again, which works and is slow."""

INT8_SHARE = 0.55
"""Of keys and values in 16 bits that those in int8 take, scales included."""

BITS = {"int8": 8.2, "int4": 4.6}
"""Bits a weight of our formats, scales included."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a model takes."""

    weights_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        """With what the process itself takes."""
        return self.weights_bytes + self.cache_bytes + OVERHEAD_BYTES


def estimate(
    folder: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    max_context: int,
    kv_cache: str = "float16",
) -> Need:
    """What the model of `folder` needs with `max_context` tokens; raises `CheckpointError`.

    Reads headers only, and all of them: tensors that are missing or of a wrong shape are found.
    """
    with Checkpoint.open(folder, headers_only=True) as checkpoint:
        model = network_class(config.model_type).load(checkpoint, config, dtype, 8)
    shape = model.cache_shape
    states = (1 + MAX_SNAPSHOTS) * shape.state_bytes
    share = INT8_SHARE if kv_cache == "int8" and shape.state is None else 1.0
    return Need(model.weight_bytes, int(share * shape.token_bytes * max_context) + states)


def check_memory(
    folder: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    max_context: int,
    kv_cache: str = "float16",
) -> None:
    """Refuse a model that does not fit, before it is loaded; raises `CheckpointError`."""
    size_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    if size_bytes < CHECKED_FROM_BYTES or os.environ.get(VARIABLE) == "1":
        return
    need, free = estimate(folder, config, dtype, max_context, kv_cache), available_bytes()
    if need.total_bytes > free:
        raise CheckpointError(
            f"{folder}: needs {gigabytes(need.total_bytes)} GB, {gigabytes(free)} free; "
            + advice(folder, config, need, free)
        )


def advice(folder: Path, config: ModelConfig, need: Need, free: int) -> str:
    """What to do about a model that does not fit."""
    for name, bits in BITS.items():
        smaller = int(config.parameters * bits / 8)
        if smaller < 0.9 * need.weights_bytes:
            total = smaller + need.cache_bytes + OVERHEAD_BYTES
            if total <= free:
                return (
                    f"`qcoder model import {folder} --name {folder.name}-{name} --quantize {name}` "
                    f"makes it {gigabytes(total)} GB"
                )
    return f"no quantization makes it fit; use a smaller model or context, or set {VARIABLE}=1"


def gigabytes(size_bytes: int) -> str:
    """Decimal gigabytes with one digit."""
    return f"{size_bytes / 1e9:.1f}"


def available_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that can be taken without swapping, within the limit of a container.

    Where the system does not say, all that is built in.
    """
    fields = _fields(proc / "meminfo", ":")
    if "MemAvailable" not in fields:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return 1 << 62
    free = fields["MemAvailable"] * 1024
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return free
    # Pages of files that nobody needs are given back before the limit is reached.
    return min(free, limit - used + _fields(cgroup / "memory.stat", " ").get("inactive_file", 0))


def _fields(path: Path, separator: str) -> Mapping[str, int]:
    """Numbers by name of a file with a line each."""
    found = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(separator)
        number = rest.split()
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found

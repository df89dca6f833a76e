"""The one JSON form of every benchmark: figures, and targets whose `holds` is computed.

`{"commit", "machine", "seed", "figures", "targets": [{"figure", "op", "target", "value", "holds"}],
"notes"}`.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure must keep."""

    figure: str
    op: Literal[">=", "<="]
    target: float


def report(
    figures: Mapping[str, float],
    targets: Sequence[Target] = (),
    seed: int = 0,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The benchmark object of DESIGN; raises KeyError for a target without a figure."""
    checked = []
    for t in targets:
        value = figures[t.figure]
        holds = value >= t.target if t.op == ">=" else value <= t.target
        checked.append(
            {"figure": t.figure, "op": t.op, "target": t.target, "value": value, "holds": holds}
        )
    return {
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "figures": dict(figures),
        "targets": checked,
        "notes": list(notes),
    }


def commit() -> str:
    """Short commit of the checkout that this code runs from; "installed" outside of one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "installed"
    return done.stdout.strip()


def machine() -> str:
    """Processor, cores and Python of this machine."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )

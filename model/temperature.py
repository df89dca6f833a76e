"""Temperature by task: how much chance a generation gets."""

from __future__ import annotations

from typing import Literal

Task = Literal["completion", "alternative", "docstring", "review"]

BASE: dict[Task, tuple[float, float]] = {
    "completion": (0.0, 0.0),
    "alternative": (0.2, 0.8),
    "docstring": (0.0, 0.3),
    "review": (0.0, 0.0),
}
"""Least and greatest temperature of a task."""

FULL_ENTROPY_NATS = 4.0


def temperature_for(task: Task, entropy_nats: float = 0.0) -> float:
    """Between the task's bounds, rising with the entropy of the first token's distribution."""
    low, high = BASE[task]
    share = min(1.0, max(0.0, entropy_nats / FULL_ENTROPY_NATS))
    return low + (high - low) * share

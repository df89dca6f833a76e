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
USUAL_REWRITTEN = 0.1
MOST_SHIFT = 0.2
"""How far the user's habit moves a temperature: up when nothing is rewritten, down from twice the
usual share on."""


def temperature_for(task: Task, entropy_nats: float = 0.0, rewritten: float | None = None) -> float:
    """Between the task's bounds, rising with the entropy of the first token's distribution.

    `rewritten` is the share of accepted text that the user changed soon after, None when too little
    is known: who rewrites more than `USUAL_REWRITTEN` gets safer suggestions, who rewrites less more
    varied ones. Tasks without chance stay without.
    """
    low, high = BASE[task]
    share = min(1.0, max(0.0, entropy_nats / FULL_ENTROPY_NATS))
    shift = 0.0
    if rewritten is not None:
        shift = MOST_SHIFT * max(-1.0, 1.0 - rewritten / USUAL_REWRITTEN)
    return min(high, max(low, low + (high - low) * share + (shift if high > low else 0.0)))

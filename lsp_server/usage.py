"""Counts of how completions serve their user, a day at a time, and the figures made of them.

Everything is a sum: counters of different processes and days add up. Times are counted in classes
whose borders grow by a tenth, so percentiles are right within 10 %. No text, path or name is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import date

STEP = 1.1
"""Each class of times ends a tenth above the one before; class 0 ends at 1 ms."""

TIME_PREFIX = "answer_ms:"
CHECKED_S = (30, 120, 600)
"""When it is looked whether an accepted suggestion is still there."""

DAYS = 30

Days = dict[str, Counter[str]]
"""Counters by day, as `2026-01-31`."""


class Usage:
    """What was counted since the last `take`; used on the event loop only."""

    def __init__(self) -> None:
        self._days: Days = {}

    def add(self, name: str, amount: float = 1) -> None:
        """Count something."""
        if amount:
            day = self._days.setdefault(date.today().isoformat(), Counter())
            # Sums of whole numbers stay whole.
            day[name] += amount  # type: ignore[assignment]

    def add_time(self, ms: float) -> None:
        """Count how long an answer took."""
        self.add(f"{TIME_PREFIX}{time_class(ms)}")

    def take(self) -> Days:
        """What was counted, and begin anew."""
        taken, self._days = self._days, {}
        return taken


def time_class(ms: float) -> int:
    """The class of a time in milliseconds, from 0 to 127."""
    return min(127, max(0, math.ceil(math.log(max(ms, 1e-9), STEP))))


def percentile_ms(counts: Mapping[str, float], share: float) -> float | None:
    """The upper border of the class where that share of the times is reached; None without any."""
    times = {
        int(name.removeprefix(TIME_PREFIX)): count
        for name, count in counts.items()
        if name.startswith(TIME_PREFIX)
    }
    left = share * sum(times.values())
    for number in sorted(times):
        left -= times[number]
        if left <= 1e-9:
            return round(STEP**number, 1)
    return None


def summed(days: Days, number: int = DAYS) -> dict[str, float | None]:
    """The figures of the latest days on which anything was counted."""
    chosen = sorted(days)[-number:]
    total = sum((days[day] for day in chosen), Counter[str]())
    return {"days": len(chosen), **figures(total)}


def figures(counts: Mapping[str, float]) -> dict[str, float | None]:
    """What a user sees of summed counters; None where nothing was counted yet."""

    def ratio(part: str, whole: str) -> float | None:
        return round(counts.get(part, 0) / counts[whole], 3) if counts.get(whole) else None

    names = ("requests", "shown", "seen", "accepted", "partially_accepted", "typed", "rejected")
    sums: dict[str, float | None] = {name: counts.get(name, 0) for name in names}
    taken = counts.get("accepted", 0) + counts.get("partially_accepted", 0)
    served = {**counts, "served": counts.get("cached", 0) + counts.get("joined", 0)}
    return {
        **sums,
        "accepted_characters": counts.get("accepted_characters", 0),
        "acceptance_rate": round(taken / counts["seen"], 3) if counts.get("seen") else None,
        **{f"retained_{s}_s": ratio(f"retained_{s}", f"checked_{s}") for s in CHECKED_S},
        "first_pass_rate": ratio("unchanged_120", "checked_120"),
        "edit_rate": ratio("changed_30", "checked_30"),
        "cache_hit_rate": round(served["served"] / counts["requests"], 3)
        if counts.get("requests")
        else None,
        "reused_prompt_rate": ratio("reused_tokens", "prompt_tokens"),
        "generations_a_shown": ratio("generations", "shown"),
        "tokens_per_second": round(1000 * counts["tokens"] / counts["decode_ms"], 1)
        if counts.get("decode_ms")
        else None,
        "answer_p50_ms": percentile_ms(counts, 0.50),
        "answer_p95_ms": percentile_ms(counts, 0.95),
        "answer_p99_ms": percentile_ms(counts, 0.99),
    }

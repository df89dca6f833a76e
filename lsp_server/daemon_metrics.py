"""What the daemon counts, and how it says it: the text format of Prometheus.

Tokens, caches and seconds come from the engines' own counters; here are the times of what was asked for.
Nothing of it is text of a user, and it leaves the machine only if somebody fetches it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from qcoder.model.engine import EngineStats
from qcoder.model.request import Priority

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Upper bounds of the histograms' buckets."""

COUNTERS = (
    ("requests_total", "Generations.", "requests"),
    ("prompt_tokens_total", "Tokens of prompts.", "prompt_tokens"),
    ("reused_tokens_total", "Of them, those that were computed before.", "reused_tokens"),
    ("generated_tokens_total", "Tokens that were generated.", "generated_tokens"),
    ("drafted_tokens_total", "Tokens that were drafted and checked.", "drafted_tokens"),
    ("accepted_tokens_total", "Of them, those that were right.", "accepted_tokens"),
    ("prefill_seconds_total", "Seconds that prompts took.", "prefill_s"),
    ("decode_seconds_total", "Seconds that generated tokens took.", "decode_s"),
)
GAUGES = (
    ("weight_bytes", "Memory of the weights.", "weight_bytes"),
    (
        "cache_bytes",
        "Memory of keys and values, shared pages counted in each sequence.",
        "cache_bytes",
    ),
    ("cache_tokens", "Tokens whose keys and values are kept.", "cache_tokens"),
    ("cache_sequences", "Sequences that are kept.", "cache_sequences"),
)
"""Name, meaning, field of `EngineStats`."""


@dataclass(slots=True)
class Histogram:
    """Seconds by bucket; the last one has no upper bound."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        at = next((i for i, bound in enumerate(BOUNDS_S) if seconds <= bound), len(BOUNDS_S))
        self.buckets[at] += 1
        self.total_s += seconds

    def lines(self, name: str, labels: str) -> list[str]:
        """Its samples: buckets count what the smaller ones have as well."""
        out, count = [], 0
        for bound, here in zip((*map(str, BOUNDS_S), "+Inf"), self.buckets, strict=True):
            count += here
            out.append(f'{name}_bucket{{{labels},le="{bound}"}} {count}')
        return [
            *out,
            f"{name}_sum{{{labels}}} {self.total_s:.6f}",
            f"{name}_count{{{labels}}} {count}",
        ]


class Metrics:
    """Times by priority; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[Priority, Histogram] = {}
        self._answers: dict[Priority, Histogram] = {}
        self._preemptions: dict[Priority, int] = {}

    def waited(self, priority: Priority, seconds: float) -> None:
        """A request was begun so long after it was asked for."""
        with self._lock:
            self._waits.setdefault(priority, Histogram()).add(seconds)

    def answered(self, priority: Priority, seconds: float) -> None:
        """A request was answered, or given up, so long after it was asked for."""
        with self._lock:
            self._answers.setdefault(priority, Histogram()).add(seconds)

    def preempted(self, priority: Priority) -> None:
        """A request goes on that was preempted."""
        with self._lock:
            self._preemptions[priority] = self._preemptions.get(priority, 0) + 1

    def lines(self) -> list[str]:
        """All samples with what they mean."""
        out: list[str] = []
        with self._lock:
            for name, meaning, found in (
                ("wait_seconds", "From a request to its beginning.", self._waits),
                ("answer_seconds", "From a request to the end of its answer.", self._answers),
            ):
                out += head(name, meaning, "histogram")
                for priority, histogram in sorted(found.items()):
                    out += histogram.lines(f"qcoder_{name}", label(priority))
            out += head(
                "preemptions_total", "Times that a request had to wait for another.", "counter"
            )
            for priority, count in sorted(self._preemptions.items()):
                out.append(f"qcoder_preemptions_total{{{label(priority)}}} {count}")
        return out


def exposition(
    engines: Mapping[str, EngineStats], clients: int, queued: int, metrics: Metrics
) -> str:
    """Everything; `engines` are the counters of each model by its name."""
    out: list[str] = []
    for kind, rows in (("counter", COUNTERS), ("gauge", GAUGES)):
        for name, meaning, source in rows:
            out += head(name, meaning, kind)
            out += [
                f'qcoder_{name}{{model="{escaped(model)}"}} {getattr(stats, source):g}'
                for model, stats in engines.items()
            ]
    for name, meaning, value in (
        ("clients", "Processes that are connected.", clients),
        ("queued", "Requests that run or wait.", queued),
    ):
        out += [*head(name, meaning, "gauge"), f"qcoder_{name} {value}"]
    return "\n".join([*out, *metrics.lines()]) + "\n"


def head(name: str, meaning: str, kind: str) -> list[str]:
    """What stands before the samples of a metric."""
    return [f"# HELP qcoder_{name} {meaning}", f"# TYPE qcoder_{name} {kind}"]


def label(priority: Priority) -> str:
    """Of a sample."""
    return f'priority="{priority.name.lower()}"'


def escaped(value: str) -> str:
    """A label's value."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

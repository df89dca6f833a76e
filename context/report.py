"""What an index says about itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What is indexed and what the last refresh cost. `skipped` counts files by reason."""

    files: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    lines: int = 0
    symbols: int = 0
    languages: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_mb: float = 0.0
    cache_bytes: int = 0
    parsed: int = 0


def peak_rss_mb() -> float:
    """Most memory this process has had, in MiB; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0.0
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024

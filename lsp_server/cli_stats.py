"""`qcoder stats`: how completions serve you, from counts that never leave this machine."""

from __future__ import annotations

import argparse
import json

from qcoder.lsp_server.headless import InputError
from qcoder.lsp_server.usage import summed
from qcoder.lsp_server.usage_store import read, usage_path

ROWS = (
    ("days", "days counted", ""),
    ("requests", "requests", ""),
    ("shown", "suggestions shown", ""),
    ("seen", "  for at least a quarter of a second", ""),
    ("accepted", "accepted", ""),
    ("partially_accepted", "accepted in part", ""),
    ("typed", "typed out by hand", ""),
    ("rejected", "rejected", ""),
    ("acceptance_rate", "accepted, of those seen", "%"),
    ("accepted_characters", "characters accepted", ""),
    ("retained_30_s", "still there after 30 s", "%"),
    ("retained_120_s", "still there after 2 min", "%"),
    ("retained_600_s", "still there after 10 min", "%"),
    ("first_pass_rate", "unchanged after 2 min", "%"),
    ("edit_rate", "of accepted text changed in 30 s", "%"),
    ("cache_hit_rate", "requests served without a generation", "%"),
    ("reused_prompt_rate", "prompt tokens not computed again", "%"),
    ("generations_a_shown", "generations a suggestion shown", ""),
    ("tokens_per_second", "tokens a second", ""),
    ("answer_p50_ms", "time to an answer, median", "ms"),
    ("answer_p95_ms", "  19 of 20 within", "ms"),
    ("answer_p99_ms", "  99 of 100 within", "ms"),
)
"""Figure, how it is called, unit."""


def stats(args: argparse.Namespace) -> int:
    """Print the figures, or delete what was counted."""
    path = usage_path()
    if args.reset:
        path.unlink(missing_ok=True)
        print(f"deleted {path}" if args.format == "text" else json.dumps({"deleted": str(path)}))
        return 0
    if args.days < 1:
        raise InputError("--days must be at least 1")
    figures = summed(read(path), args.days)
    if args.format == "json":
        print(json.dumps({**figures, "file": str(path)}))
        return 0
    if not figures["days"]:
        print(f"nothing was counted yet; the server counts while you use it, into {path}")
        return 0
    for name, label, unit in ROWS:
        print(f"{label:40} {shown(figures[name], unit):>12}")
    return 0


def shown(value: float | None, unit: str) -> str:
    """A figure for people; a dash where nothing was counted."""
    if value is None:
        return "-"
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:,g} {unit}".strip()

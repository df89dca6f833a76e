"""From how many nats on the model's doubts are worth telling: thresholds found on code nobody touched.

    python benchmarks/review_calibration.py ROOT... --format json

Lets the model doubt every line of untouched Python files, as if all of it had changed, and injects slips
into the same packages. The threshold of a kind of slot is the least that has no more doubts about
untouched code than its share of the budget; a doubt at the line of a slip, of the injected text alone,
counts as found. Give repositories that the model was not trained on and that no reported figure uses.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from injection.draw import Mutant, draw, python_files, text_of
from injection.slips import LOGIC

from qcoder.lsp_server.review_likelihood import THRESHOLDS, Doubt, doubts
from qcoder.model.bench_report import report
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken

BUDGETS = {"name": 0.03, "operator": 0.03, "bound": 0.015, "arguments": 0.03, "order": 0.015}
"""Doubts about a thousand untouched lines that a kind may have; together a part of what the review may."""

FLOOR_SHARE = 0.6
"""Of today's thresholds, down to which doubts are looked at."""

SEED = 5


def sample(roots: Sequence[Path], thousand_lines: float, seed: int) -> list[tuple[str, str]]:
    """Path and text of files of all repositories in turn, so many lines together."""
    rng = random.Random(seed)
    rows = []
    for root in roots:
        files = python_files(root)
        rng.shuffle(files)
        rows += [(number, root, path) for number, path in enumerate(files)]
    chosen: list[tuple[str, str]] = []
    lines = 0
    for _, root, path in sorted(rows, key=lambda row: row[0]):
        text = text_of(path)
        if text is not None and lines < 1000 * thousand_lines:
            lines += text.count("\n")
            chosen.append((path.relative_to(root).as_posix(), text))
    return chosen


def threshold_of(nats: Sequence[float], allowed: float, floor: float) -> float:
    """The least threshold, in tenths, that at most `allowed` of the numbers reach."""
    ranked = sorted(nats, reverse=True)
    if len(ranked) <= allowed:
        return round(floor, 1)
    return round(ranked[int(allowed)] + 0.05, 1)


def found_in(mutant: Mutant, engine: Engine, floors: dict[Any, float]) -> list[Doubt]:
    """Doubts at the line of a slip that the original has not."""
    lines = frozenset({mutant.line - 1})
    before, after = (
        doubts(text, "python", mutant.path, engine, lines, CancelToken(), floors)
        for text in (mutant.original, mutant.mutated)
    )
    known = Counter(doubt.kind for doubt in before)
    return [doubt for doubt in after if not known[doubt.kind]]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Thresholds, and what they find and say without reason."""
    engine = Engine.load(args.model, threads=1)
    floors = {kind: FLOOR_SHARE * value for kind, value in THRESHOLDS.items()}
    nats: dict[str, list[float]] = {kind: [] for kind in THRESHOLDS}
    lines = 0
    for path, text in sample(args.roots, args.thousand_lines, args.seed):
        lines += text.count("\n")
        data = text.encode()
        for doubt in doubts(text, "python", path, engine, None, CancelToken(), floors):
            nats[doubt.kind].append(doubt.nats)
            there = data[doubt.start : doubt.end].decode("utf-8", "replace")
            row = f"{doubt.nats:.1f} {doubt.kind} {path}: {there} -> {doubt.alternative}"
            print(" ".join(row.split()), file=sys.stderr)
    figures: dict[str, float] = {"untouched thousand lines": round(lines / 1000, 1)}
    chosen = {
        kind: threshold_of(found, BUDGETS[kind] * lines / 1000, floors[kind])
        for kind, found in nats.items()
    }
    for kind, found in nats.items():
        figures[f"{kind} threshold nats"] = chosen[kind]
        above = sum(value >= chosen[kind] for value in found)
        figures[f"{kind} doubts per thousand untouched lines"] = round(1000 * above / lines, 3)
    roots = {root.name: root for root in args.roots}
    for kind, share in recall(roots, engine, chosen, floors, args).items():
        figures[f"recall {kind} %"] = share
    return report(figures, [], args.seed, [f"budgets: {BUDGETS}"])


def recall(
    roots: dict[str, Path],
    engine: Engine,
    chosen: dict[str, float],
    floors: dict[Any, float],
    args: argparse.Namespace,
) -> dict[str, float]:
    """Slips found with the thresholds, in percent, by class and in all."""
    hits: dict[str, list[bool]] = {"logic": []}
    for mutant in draw(roots, args.per_class, args.seed, LOGIC):
        found = any(d.nats >= chosen[d.kind] for d in found_in(mutant, engine, floors))
        hits["logic"].append(found)
        hits.setdefault(mutant.kind, []).append(found)
    return {kind: round(100 * sum(rows) / len(rows), 1) for kind, rows in hits.items() if rows}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--model", default="default")
    parser.add_argument("--thousand-lines", type=float, default=60.0)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    result = measure(parser.parse_args())
    print(json.dumps(result, indent=2) if "json" in sys.argv else result["figures"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

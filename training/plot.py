"""Draws a run's log: loss, tokens per second and expert balance over the tokens seen.

python -m qcoder.training.plot --run DIR --output curve.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from qcoder.training.checkpoints import LOG

PANELS = (
    ("loss", "training loss, nats a token"),
    ("load_cv", "expert load, coefficient of variation"),
    ("tokens_per_second", "tokens a second"),
)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a log; a last line that a crash cut short is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def draw(runs: list[list[dict[str, Any]]], output: Path) -> None:
    """One PNG with a panel a quantity; several runs are drawn one after the other."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("plots need matplotlib: pip install -e '.[train]'") from error
    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots(len(PANELS), 1, sharex=True)
    for axis, (name, title) in zip(axes, PANELS, strict=True):
        for rows in runs:
            axis.plot([r["tokens"] / 1e6 for r in rows], [r[name] for r in rows], linewidth=1)
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("tokens seen, millions")
    figure.savefig(output, dpi=120)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, action="append", required=True, help="run folder")
    parser.add_argument("--output", type=Path, required=True, help="PNG file")
    args = parser.parse_args()
    draw([read_log(run / LOG) for run in args.run], args.output)


if __name__ == "__main__":
    main()

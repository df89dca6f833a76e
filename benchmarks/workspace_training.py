"""What ten minutes of `qcoder train` bring on a repository that the default model never saw.

    python -P benchmarks/workspace_training.py --format json

The real command runs on the pinned sources of scrapy (32,000 lines, refused by the corpus by name), or
on `--root DIR`, with a user data folder of its own. Figures are on the half of the held-out files that
neither trained nor chose anything, before and after; a token's history is the true one, the files
trained on are the workspace that the mixture copies from. What is scored is the int8 model as installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from qcoder.model.adapted import base_checksum
from qcoder.model.bench_report import Target, report
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.training.heldout import DEVELOPMENT, fetch

REPOSITORY = "scrapy"
PASSED_ON = (
    "lines", "reported_lines", "tokens_seen", "steps", "training_seconds", "seconds", "interpolation",
)  # fmt: skip


def train(root: Path, minutes: float) -> dict[str, Any]:
    """The JSON of `qcoder train`; ends the program when that fails."""
    command = [
        *(sys.executable, "-P", "-m", "qcoder.lsp_server.cli", "train", "--format", "json"),
        *("--workspace", str(root), "--minutes", str(minutes)),
    ]
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "XDG_DATA_HOME": data}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(root: Path, minutes: float) -> dict[str, Any]:
    """Train and report."""
    outcome = train(root, minutes)
    figures: dict[str, float] = {name: outcome[name] for name in PASSED_ON}
    figures |= {f"files_{part}": count for part, count in outcome["files"].items()}
    for when in ("before", "after"):
        for source, row in outcome[when].items():
            figures |= {f"{when}_{source}_{name}": value for name, value in row.items()}
    before, after = outcome["before"]["mixture"], outcome["after"]["mixture"]
    gained = after["whole_line_exact"] - before["whole_line_exact"]
    figures |= {
        "whole_lines_gained": round(gained * outcome["reported_lines"]),
        "bits_per_byte_saved_share": round(1 - after["bits_per_byte"] / before["bits_per_byte"], 4),
        "installed": int(outcome["installed"]),
        "cpu_seconds": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, 1),
    }
    low, high = outcome["bits_per_byte_interval"]
    return report(
        figures,
        [Target("whole_lines_gained", ">=", 1), Target("installed", ">=", 1)],
        seed=1,
        notes=[
            f"repository {root.name}; default model {base_checksum(DEFAULT_FOLDER)[:16]}",
            f"95 % of bootstrap draws change the mixture's bits per byte by {low} to {high}",
            outcome["reason"] or "installed",
        ],
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, help="another repository")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    root = args.root
    if root is None:
        pinned = next(row for row in DEVELOPMENT if row.name == REPOSITORY)
        root = fetch(pinned, Path(user_cache_dir("qcoder", appauthor=False)) / "heldout")
    result = measure(root, args.minutes)
    if args.format == "json":
        print(json.dumps(result))
        return
    for name, value in result["figures"].items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()

"""What other work on the cores costs a completion: two busy processes beside a server.

    python -P benchmarks/busy_cores.py [--processes 2] [--format json]

Lines of our own sources are typed again through a real server, as in `qcoder bench lsp`, with the cores
idle and with processes beside it that compute all the time, in a session of their own as a build in a
terminal is. Rounds of both alternate. A thread pool whose threads spin for each other fails here.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcoder.lsp_server.bench_lsp import COMPLETION, type_at
from qcoder.lsp_server.demo import Spot, copy_sources, spots, wait_until_ready
from qcoder.lsp_server.rpc_client import Client
from qcoder.model.bench_report import Target, report

SEED = 29
ROUNDS, SPOTS_A_ROUND = 12, 6


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qcoder-busy-") as folder:
        root = Path(folder).resolve() / "workspace"
        copy_sources(Path(__file__).resolve().parents[1], root)
        figures = measured(root, args.processes)
    notes = [f"{args.processes} busy processes; {ROUNDS} rounds of {SPOTS_A_ROUND} lines each"]
    targets = [Target("completion_p95_busy_over_idle", "<=", 3.0)]
    result = report(figures, targets, seed=SEED, notes=notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
        return
    print("\n".join(f"{name:36} {value}" for name, value in figures.items()))


def measured(root: Path, processes: int) -> dict[str, float]:
    """All figures."""
    chosen = list(spots(root))
    random.Random(SEED).shuffle(chosen)
    idle: list[float] = []
    busy: list[float] = []
    with Client(root) as client:
        client.initialize({"completion": COMPLETION})
        wait_until_ready(client)
        typed(client, chosen[-3:])
        for number in range(ROUNDS):
            first = 2 * number * SPOTS_A_ROUND
            second = first + SPOTS_A_ROUND
            idle += typed(client, chosen[first:second])
            with busy_processes(processes):
                busy += typed(client, chosen[second : second + SPOTS_A_ROUND])
            print(f"\rround {number + 1}/{ROUNDS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    figures = {}
    for name, times in (("idle", idle), ("busy", busy)):
        figures[f"completion_{name}_p50_ms"] = round(statistics.median(times), 1)
        figures[f"completion_{name}_p95_ms"] = round(statistics.quantiles(times, n=20)[18], 1)
    ratio = figures["completion_busy_p95_ms"] / figures["completion_idle_p95_ms"]
    return figures | {
        "completion_p95_busy_over_idle": round(ratio, 2),
        "completions_each": min(len(idle), len(busy)),
    }


def typed(client: Client, chosen: list[Spot]) -> list[float]:
    """Milliseconds of the completions while these lines are typed, first ones in a file left out."""
    return [ms for spot in chosen for ms in type_at(client, spot)[1][1:]]


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that compute until the block ends."""
    command = [sys.executable, "-S", "-E", "-c", "while True: pass"]
    running = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()

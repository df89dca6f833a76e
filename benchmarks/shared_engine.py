"""Two servers and a review at once on one model: how much memory, and what it costs a completion.

    python benchmarks/shared_engine.py --format json

Lines of our own sources are typed again in one editor, as fast as people type, alone, and while a second
editor types as well and `qcoder review` goes over files again and again, all with `model.shared`. Rounds
of both alternate; a second pass, with fresh processes, swaps them, so that both have typed the same lines.
Memory is the proportional set size (Linux): shared pages count once. For comparison two servers are
started with a model each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from qcoder.lsp_server.bench_lsp import COMPLETION, type_at
from qcoder.lsp_server.demo import Spot, copy_sources, spots, wait_until_ready
from qcoder.lsp_server.rpc_client import Client
from qcoder.model.bench_report import Target, report

SEED = 23
ROUNDS, SPOTS_A_ROUND = 5, 8
BETWEEN_KEYS_S = (0.1, 0.25)
"""Drawn anew for each key: whoever types is quick."""

QCODER = [sys.executable, "-P", "-m", "qcoder.lsp_server.cli"]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qcoder-shared-") as folder:
        figures = run(Path(folder).resolve())
    targets = (
        Target("models_in_memory", "<=", 1),
        Target("completion_p95_beside_others_ratio", "<=", 1.3),
    )
    notes = [
        f"2 passes of {ROUNDS} rounds of {SPOTS_A_ROUND} lines; default model; PSS in MB",
        f"in both editors keys are {BETWEEN_KEYS_S[0]} to {BETWEEN_KEYS_S[1]} s apart",
    ]
    result = report(figures, targets, seed=SEED, notes=notes)
    if args.format == "json":
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:40} {value}" for name, value in figures.items()))


def run(folder: Path) -> dict[str, float]:
    """All figures, with homes of their own below a folder."""
    for name in ("CACHE", "CONFIG", "DATA"):
        os.environ[f"XDG_{name}_HOME"] = str(folder / name.lower())
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    root = folder / "workspace"
    copy_sources(Path(__file__).resolve().parents[1], root)
    apart_mb = memory_of_two(root, shared=False)
    # The command has no option for it: it follows the user's own settings.
    (folder / "config" / "qcoder").mkdir(parents=True)
    (folder / "config" / "qcoder" / "qcoder.toml").write_text("[model]\nshared = true\n")
    try:
        return {"two_servers_apart_mb": apart_mb, **together(root)}
    finally:
        subprocess.run([*QCODER, "daemon", "--stop"], check=False, capture_output=True)


def started(root: Path, shared: bool) -> Client:
    """A server that is ready."""
    client = Client(root)
    client.initialize({"model": {"shared": shared}, "completion": COMPLETION})
    wait_until_ready(client)
    return client


def memory_of_two(root: Path, shared: bool) -> float:
    """Memory of two servers with their models."""
    with started(root, shared) as one, started(root, shared) as two:
        return round(memory_mb(one.process.pid) + memory_mb(two.process.pid), 1)


def together(root: Path) -> dict[str, float]:
    """Completion times alone and beside the others, and the memory of all."""
    chosen = list(spots(root))
    random.Random(SEED).shuffle(chosen)
    rounds = [
        chosen[at : at + SPOTS_A_ROUND]
        for at in range(0, 2 * ROUNDS * SPOTS_A_ROUND, SPOTS_A_ROUND)
    ]
    times: tuple[list[float], list[float]] = ([], [])
    alone, beside = times
    for swapped in (False, True):
        with ExitStack() as stack:
            one = stack.enter_context(started(root, True))
            two = stack.enter_context(started(root, True))
            typed(one, chosen[-3:])
            for at in range(2 * ROUNDS):
                with_others = (at % 2 == 1) != swapped
                with busy(root, two, chosen[-20:]) if with_others else nullcontext():
                    times[with_others].extend(typed(one, rounds[at]))
                print(f"\rround {at + 1}/{2 * ROUNDS}", end="", file=sys.stderr)
            status = json.loads(qcoder("daemon", "--status", "--format", "json"))
            servers = memory_mb(one.process.pid) + memory_mb(two.process.pid)
            daemon = memory_mb(daemon_process(status["socket"]))
        qcoder("daemon", "--stop")
    print(file=sys.stderr)
    return {
        "models_in_memory": len(status["models"]),
        "two_servers_shared_mb": round(servers, 1),
        "daemon_mb": round(daemon, 1),
        "completion_alone_p50_ms": round(statistics.median(alone), 1),
        "completion_beside_others_p50_ms": round(statistics.median(beside), 1),
        "completion_alone_p95_ms": p95(alone),
        "completion_beside_others_p95_ms": p95(beside),
        "completion_p95_beside_others_ratio": round(p95(beside) / p95(alone), 2),
        "completions_each": len(alone),
    }


def typed(client: Client, chosen: list[Spot]) -> list[float]:
    """Milliseconds of the completions while these lines are typed, first ones in a file left out."""
    rng = random.Random(SEED)

    def pause() -> None:
        time.sleep(rng.uniform(*BETWEEN_KEYS_S))

    return [ms for spot in chosen for ms in type_at(client, spot, pause)[1][1:]]


@contextmanager
def busy(root: Path, client: Client, chosen: list[Spot]) -> Iterator[None]:
    """A second editor types and a review runs, until the block ends."""
    over, rng = threading.Event(), random.Random(SEED)

    def pause() -> None:
        over.wait(rng.uniform(*BETWEEN_KEYS_S))

    def type_on() -> None:
        while not over.is_set():
            for spot in chosen:
                if not over.is_set():
                    type_at(client, spot, pause)

    reviewed = root / "lsp_server" / "convert.py"

    def review() -> None:
        while not over.is_set():
            qcoder("review", str(reviewed), "--model", "default", "--fail-on", "never")

    threads = [threading.Thread(target=work) for work in (type_on, review)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def qcoder(*arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run([*QCODER, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return round(statistics.quantiles(times, n=20)[18], 1)


def memory_mb(process_id: int) -> float:
    """Proportional set size of a process."""
    rows = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii").splitlines()
    facts: dict[str, Any] = dict(row.split(":", 1) for row in rows[1:])
    return int(facts["Pss"].split()[0]) / 1024


def daemon_process(socket: str) -> int:
    """The process that listens at a socket."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if socket.encode() in words and b"daemon" in words:
            return int(entry.parent.name)
    raise RuntimeError("no daemon runs")


if __name__ == "__main__":
    main()

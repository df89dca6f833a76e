"""How fast the structural review is: whole files a second, one file while typing, a commit's hook.

    python benchmarks/review_speed.py --format json [--root DIR]

Scans Python files under `--root` (the standard library without its tests by default) with every rule,
in one process; reviews files of about 30 KB again and again, each time with one more line, as an editor
does, both in processor time; and runs `qcoder review --staged` on a staged diff of 200 lines, as
pre-commit does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcoder.context.segments import Document
from qcoder.lsp_server.review import review_document
from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rules import rules_for
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.bench_report import Target, report

SKIPPED = ("test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__")
SCANNED_BYTES = 8_000_000
TYPED_BYTES = (25_000, 35_000)
TYPED_FILES = 12
EDITS, REPEATS = 5, 4
HOOK_RUNS = 5
DIFF_LINES = 200


def texts_below(root: Path) -> list[tuple[Path, str]]:
    """Python files of a folder, as much as is scanned."""
    found, total = [], 0
    for path in sorted(root.rglob("*.py")):
        if set(SKIPPED) & set(path.relative_to(root).parts):
            continue
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeError):
            continue
        found.append((path, text))
        total += len(text.encode())
        if total > SCANNED_BYTES:
            break
    return found


def scan_rate(files: Sequence[tuple[Path, str]], root: Path) -> float:
    """Megabytes a second of processor time, imports followed.

    All files are scanned several times in the same order, and of each the least time counts: the cores
    are shared with others, and processor time grows when those are busy.
    """
    least = [float("inf")] * len(files)
    for _ in range(REPEATS):
        for number, (path, text) in enumerate(files):
            began = time.process_time()
            for _ in matches(rules_for("python"), text, "python", path, root):
                pass
            least[number] = min(least[number], time.process_time() - began)
    return sum(len(text.encode()) for _, text in files) / 1e6 / sum(least)


def typing_times(files: Sequence[tuple[Path, str]], root: Path) -> list[float]:
    """Milliseconds of processor time of one review of a whole document after each of several edits.

    The least of a few for each, as in `scan_rate`.
    """
    low, high = TYPED_BYTES
    chosen = [(p, t) for p, t in files if low <= len(t.encode()) <= high][:TYPED_FILES]
    times = []
    for path, text in chosen:
        relative = path.relative_to(root).as_posix()
        for edit in range(EDITS):
            text += f"\nvalue_{edit} = {edit}\n"
            document = Document(path.as_uri(), edit, "python", text)
            snapshot = Snapshot(document, relative, root, None, Settings())
            spent = []
            for _ in range(REPEATS):
                began = time.process_time()
                review_document(snapshot, None)
                spent.append(1000 * (time.process_time() - began))
            # The first reviews of a session also read what the file imports.
            if edit:
                times.append(min(spent))
    return times


def warm_hook_seconds() -> list[float]:
    """The same with the default model in a daemon, which the first run starts."""
    with tempfile.TemporaryDirectory() as home:
        settings = Path(home) / "qcoder" / "qcoder.toml"
        settings.parent.mkdir()
        settings.write_text("[model]\nshared = true\n")
        own = {"XDG_CONFIG_HOME": home, "XDG_RUNTIME_DIR": home}
        try:
            return hook_seconds("--model", "default", environment=own)
        finally:
            program = Path(sys.executable).with_name("qcoder")
            stop = [program, "daemon", "--stop"]
            subprocess.run(stop, env=os.environ | own, check=False, capture_output=True)


def hook_seconds(*options: str, environment: Mapping[str, str] | None = None) -> list[float]:
    """Seconds of the hook's command on a staged diff, the first run left out."""
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    program = Path(sys.executable).with_name("qcoder")
    lines = "".join(f"def f{n}(path):\n    return path + {n}\n" for n in range(DIFF_LINES // 2))
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for command in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "first")):
            subprocess.run([*git, *command], cwd=folder, check=True)
        (Path(folder) / "a.py").write_text(lines)
        subprocess.run([*git, "add", "a.py"], cwd=folder, check=True)
        for _ in range(1 + HOOK_RUNS):
            began = time.perf_counter()
            subprocess.run(
                [program, "review", "--staged", *options],
                cwd=folder, check=True, stdout=subprocess.DEVNULL, env=os.environ | (environment or {}),
            )  # fmt: skip
            times.append(time.perf_counter() - began)
    return times[1:]


def measure(root: Path) -> dict[str, Any]:
    """The figures and their targets."""
    files = texts_below(root)
    rate = scan_rate(files, root)
    times = typing_times(files, root)
    figures = {
        "scan MB/s a core": round(rate, 2),
        "scanned MB": round(sum(len(t.encode()) for _, t in files) / 1e6, 2),
        "typing p50 ms": round(statistics.median(times), 1),
        "typing p95 ms": round(statistics.quantiles(times, n=20)[-1], 1),
        "hook on 200 lines s": round(min(hook_seconds()), 2),
        "hook on 200 lines with the model loaded anew s": round(
            min(hook_seconds("--model", "default")), 2
        ),
        "hook on 200 lines with the model warm s": round(min(warm_hook_seconds()), 2),
    }
    targets = [
        Target("scan MB/s a core", ">=", 2.0),
        Target("typing p95 ms", "<=", 20.0),
        Target("hook on 200 lines s", "<=", 1.0),
        Target("hook on 200 lines with the model warm s", "<=", 3.0),
    ]
    notes = [f"{len(files)} files; {len(times)} reviews of files of about 30 KB"]
    return report(figures, targets, notes=notes)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")))
    result = measure(parser.parse_args().root)
    if parser.parse_args().format == "json":
        print(json.dumps(result, indent=2))
    else:
        for name, value in result["figures"].items():
            print(f"{value:>8} {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Whether the definition that the cursor needs is in the packed context, next to the usual ways.

    python benchmarks/context_recall.py --root DIR --format json

A task is a call of a definition of another file: the file is cut off right before the callee's
name, indexed in that state, and packed for. Recall at a budget is the share of tasks in which the
definition's header line is in the packed text, under its path. Budgets are tokens of the shipped
model's tokenizer (or `--tokenizer`) for what comes beside the cursor window. Intervals come from
a bootstrap over files. How tasks are drawn: `retrieval/tasks.py`; what is compared:
`retrieval/systems.py`; aider runs in its own environment (`--aider-python`).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from retrieval import aider_map, systems
from retrieval.systems import Shown, System
from retrieval.tasks import CLASSES, DRAW_S, Task, load_or_draw

from qcoder.context.index import Index
from qcoder.context.segments import Document, TokenCounter
from qcoder.context.signals import WEIGHTS
from qcoder.model.bench_report import Target, report
from qcoder.model.registry import DEFAULT_FOLDER
from qcoder.model.tokenizer import Tokenizer

BUDGETS = {"1k": 1024, "2k": 2048, "4k": 4096, "8k": 8192, "32k": 32768}
OURS = "qcoder"
DEFAULT_PACKAGE = "networkx"
TARGETS = (
    ("imported", "1k", 90.0),
    ("imported", "4k", 97.0),
    ("unseen", "2k", 60.0),
    ("unseen", "8k", 82.0),
    ("unseen", "32k", 93.0),
)
MARGINS = (("ambiguous", "4k", 15.0), ("receiver", "4k", 15.0))
_ROUNDS = 500

Hits = dict[tuple[str, str, str], list[tuple[str, bool]]]
"""(class, budget, system) -> file of the task and whether the definition was shown."""


def run_tasks(
    index: Index, tasks: Sequence[Task], makers: dict[str, System], budgets: dict[str, int]
) -> tuple[Hits, dict[str, list[float]]]:
    """Every system on every task; also CPU milliseconds of single calls at 4k, by system."""
    hits: Hits = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    for done, task in enumerate(tasks):
        prefix = (index.text(task.path) or "")[: task.offset]
        index.overlay(task.path, Document("file:///task", 1, task.language, prefix))
        for name, system in makers.items():
            for label, budget in budgets.items():
                began = time.thread_time()
                shown = system(task, prefix, budget)
                if label == "4k":
                    costs[name].append(1000 * (time.thread_time() - began))
                hits[task.kind, label, name].append((task.path, is_shown(shown, task)))
        index.drop_overlay(task.path)
        if done % 50 == 49:
            print(f"{done + 1}/{len(tasks)} tasks", file=sys.stderr)
    return hits, costs


def is_shown(shown: Shown, task: Task) -> bool:
    """Whether the header of the definition is in a text of its file."""
    return any(path == task.truth and task.header in text for path, text in shown)


def recall(rows: Sequence[tuple[str, bool]]) -> float:
    """Percent of hits."""
    return 100 * sum(hit for _, hit in rows) / len(rows)


def interval(values: Sequence[tuple[str, float]], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of a mean, drawn over files, in percent."""
    by_file: dict[str, list[float]] = defaultdict(list)
    for path, value in values:
        by_file[path].append(value)
    groups, rng = list(by_file.values()), random.Random(seed)
    means = []
    for _ in range(_ROUNDS):
        drawn = [value for group in rng.choices(groups, k=len(groups)) for value in group]
        means.append(100 * statistics.fmean(drawn))
    means.sort()
    return means[int(0.025 * _ROUNDS)], means[int(0.975 * _ROUNDS)]


def measure(args: argparse.Namespace, root: Path, cache: Path) -> dict[str, Any]:
    """Index, draw, run and report one repository."""
    index = Index.open(root, cache)
    built = index.refresh()
    print(f"{built.files} files, {built.lines} lines", file=sys.stderr)
    index.read_history()
    tasks = load_or_draw(index, args.tasks, args.seed, args.store, args.draw_seconds)
    if not tasks:
        raise SystemExit(f"{root}: no calls between files in Python, TypeScript or Go found")
    count = counter(args.tokenizer)
    makers = systems_of(index, count, args)
    budgets = {label: BUDGETS[label] for label in args.budgets}
    hits, costs = run_tasks(index, tasks, makers, budgets) if makers else (defaultdict(list), {})
    notes = [f"{root.name}: {built.files} files, {built.lines} lines"]
    if args.aider_python and not args.ablate and (not args.only or "aider" in args.only):
        sample = aider_map.sample(tasks, args.aider_tasks, args.seed)
        rows = aider_map.run(
            args.aider_python, root, index, sample, budgets, args.tokenizer, args.aider_seconds
        )
        for task, label, shown in rows:
            hits[task.kind, label, "aider"].append((task.path, is_shown(shown, task)))
        asked = min(len(hits[kind, next(iter(budgets)), "aider"]) for kind in CLASSES)
        notes.append(f"aider's RepoMap on {asked} tasks a class: it takes seconds each")
    elif not args.only and not args.ablate:
        notes.append("aider was not run: give --aider-python of an environment with aider-chat")
    return summarize(hits, costs, tasks, args.seed, notes)


def systems_of(index: Index, count: TokenCounter, args: argparse.Namespace) -> dict[str, System]:
    """What the command line wants compared, aider aside."""
    if args.ablate:
        without = {f"{OURS} without {name}": {**WEIGHTS, name: 0.0} for name in WEIGHTS}
        return {
            name: systems.qcoder_system(index, count, weights)
            for name, weights in {OURS: WEIGHTS, **without}.items()
        }
    chunks = systems.Chunks.of(index)
    makers = {
        OURS: systems.qcoder_system(index, count),
        "bm25": systems.bm25_system(count, chunks),
        "jaccard": systems.jaccard_system(count, chunks),
        "imports": systems.import_system(index, count),
        "random": systems.random_system(index, count, args.seed),
    }
    return {name: maker for name, maker in makers.items() if not args.only or name in args.only}


def summarize(
    hits: Hits, costs: dict[str, list[float]], tasks: Sequence[Task], seed: int, notes: list[str]
) -> dict[str, Any]:
    """Figures, targets and notes."""
    figures: dict[str, float] = {}
    targets: list[Target] = []
    for kind in CLASSES:
        figures[f"{kind}_tasks"] = sum(task.kind == kind for task in tasks)
    for (kind, label, name), rows in hits.items():
        figures[f"{kind}_{label}_{name}"] = round(recall(rows), 1)
        if name == OURS:
            low, high = interval([(path, float(hit)) for path, hit in rows], seed)
            figures[f"{kind}_{label}_{name}_low"] = round(low, 1)
            figures[f"{kind}_{label}_{name}_high"] = round(high, 1)
    for name, values in costs.items():
        figures[f"cpu_ms_4k_{name}"] = round(statistics.median(values), 1)
    for kind, label, bound in TARGETS:
        if f"{kind}_{label}_{OURS}" in figures:
            targets.append(Target(f"{kind}_{label}_{OURS}", ">=", bound))
    for kind, label, bound in MARGINS:
        rivals = [n for k, b, n in hits if (k, b) == (kind, label) and not n.startswith(OURS)]
        ours = hits.get((kind, label, OURS))
        if not ours or not rivals:
            continue
        best = max(rivals, key=lambda n: recall(hits[kind, label, n]))
        margin = recall(ours) - recall(hits[kind, label, best])
        figures[f"{kind}_{label}_margin"] = round(margin, 1)
        targets.append(Target(f"{kind}_{label}_margin", ">=", bound))
        if len(hits[kind, label, best]) == len(ours):
            pairs = zip(ours, hits[kind, label, best], strict=True)
            low, _ = interval([(a[0], float(a[1]) - float(b[1])) for a, b in pairs], seed)
            figures[f"{kind}_{label}_margin_low"] = round(low, 1)
        notes.append(f"best rival for {kind} at {label}: {best}")
    return report(figures, targets, seed=seed, notes=notes)


def counter(tokenizer: Path) -> TokenCounter:
    """Tokens of a text by a checkpoint folder's tokenizer; every text is counted once."""
    loaded = Tokenizer.load(tokenizer)

    @lru_cache(maxsize=1 << 18)
    def count(text: str) -> int:
        return len(loaded.encode(text))

    return count


def installed_sources(package: str, folder: Path) -> Path:
    """A copy of an installed package, as a repository."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install -e .[bench], or give --root")
    source = Path(spec.submodule_search_locations[0])
    target = folder / package / package
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return target.parent


def print_table(result: dict[str, Any]) -> None:
    """Recall by class and system, budgets across."""
    figures = result["figures"]
    names = sorted({key.split("_")[2] for key in figures if key.split("_")[1] in BUDGETS})
    print(f"{'':24}" + "".join(f"{label:>8}" for label in BUDGETS))
    for kind in CLASSES:
        for name in names:
            row = [figures.get(f"{kind}_{label}_{name}") for label in BUDGETS]
            if any(value is not None for value in row):
                cells = "".join(f"{'' if v is None else v:>8}" for v in row)
                print(f"{kind:12}{name:12}{cells}")
    for target in result["targets"]:
        print(f"{'holds' if target['holds'] else 'FAILS'}  {target}")
    for note in result["notes"]:
        print(note)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, help=f"a repository (default: {DEFAULT_PACKAGE})")
    parser.add_argument("--tasks", type=int, default=300, help="tasks a class")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--draw-seconds", type=float, default=DRAW_S, help="limit for drawing")
    parser.add_argument("--store", type=Path, help="JSON file that keeps the drawn tasks")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="leave out the others")
    parser.add_argument(
        "--ablate", action="store_true", help="ours alone, with and without each signal"
    )
    parser.add_argument("--tokenizer", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--aider-python", type=Path, help="python of an environment with aider")
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--aider-tasks", type=int, default=25, help="tasks a class for aider")
    parser.add_argument("--aider-seconds", type=float, default=3600.0, help="limit for aider")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if find_spec("jedi") is None:
        raise SystemExit(
            "jedi, which says what a Python call means, is missing: pip install -e '.[bench]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or installed_sources(DEFAULT_PACKAGE, Path(folder))
        if not root.is_dir():
            raise SystemExit(f"{root}: no such folder; give the root of a repository")
        result = measure(args, root.resolve(), Path(folder) / "cache")
    if args.format == "json":
        print(json.dumps(result))
    else:
        print_table(result)


if __name__ == "__main__":
    main()

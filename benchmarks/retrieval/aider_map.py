"""The repository map of aider itself, asked in its own environment through a small worker."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from qcoder.context.index import Index
from qcoder.context.record import identifiers_of
from retrieval.tasks import CLASSES, Task

_NEAR_LINES = 20


def sample(tasks: Sequence[Task], per_class: int, seed: int) -> list[Task]:
    """A seeded part of the tasks of every class, the classes in turn: a cut leaves some of each."""
    rng = random.Random(seed)
    chosen = []
    for kind in CLASSES:
        of_kind = [task for task in tasks if task.kind == kind]
        chosen.append(rng.sample(of_kind, min(per_class, len(of_kind))))
    return [task for turn in zip_longest(*chosen) for task in turn if task is not None]


def run(
    python: Path,
    root: Path,
    index: Index,
    tasks: Sequence[Task],
    budgets: Mapping[str, int],
    tokenizer: Path,
    limit_s: float,
) -> Iterator[tuple[Task, str, list[tuple[str, str]]]]:
    """(task, budget, texts by path) for tasks until time is up, in a copy of the repository.

    The task's file is the chat's file, cut off at the cursor; the names of its last lines are the
    names that the user mentions.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / root.name
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        request = {
            "root": str(copy),
            "files": [path for path in index.paths() if (copy / path).is_file()],
            "tokenizer": str(tokenizer / "tokenizer.json"),
            "budgets": list(budgets.values()),
        }
        worker = subprocess.Popen(
            [str(python), "-P", str(Path(__file__).with_name("aider_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        _send(worker.stdin, request)
        deadline = time.monotonic() + limit_s
        try:
            for done, task in enumerate(tasks):
                if time.monotonic() > deadline:
                    break
                text = (index.text(task.path) or "")[: task.offset]
                names = identifiers_of("\n".join(text.split("\n")[-_NEAR_LINES:]))
                _send(worker.stdin, {"path": task.path, "text": text, "names": names})
                answer = worker.stdout.readline()
                if not answer:
                    raise SystemExit("aider's worker died: its messages are above")
                for label, shown in zip(budgets, json.loads(answer), strict=True):
                    yield task, label, [(path, text) for path, text in shown]
                print(f"aider {done + 1}/{len(tasks)}", file=sys.stderr)
        finally:
            worker.stdin.close()
            worker.wait()


def _send(pipe: Any, message: Mapping[str, object]) -> None:
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()

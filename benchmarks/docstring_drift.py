"""How often `qcoder docstring --check` speaks up about other people's docstrings, and about what.

    python -P benchmarks/docstring_drift.py --format json
    python -P benchmarks/docstring_drift.py --root DIR --sample 40 --seed 11

Goes through the packages of a folder (those installed beside qcoder, without the largest) and counts the
docstrings and the places where one disagrees with its code. `--sample N` draws that many findings at
random and prints them with signature and docstring to stderr, to be read by somebody.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qcoder.lsp_server.docstring import shapes_of
from qcoder.lsp_server.docstring_drift import Drift, drift_of
from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.headless import InputError, snapshot_of_file
from qcoder.lsp_server.settings import Settings
from qcoder.model.bench_report import report

LARGEST = frozenset(
    {"torch", "numpy", "scipy", "sympy", "transformers", "pip", "setuptools", "triton"}
)
LEFT_OUT = frozenset({"tests", "_vendor", "testing"})
MAX_BYTES = 300_000
SIGNATURE_LINES, DOCSTRING_LINES = 14, 4


@dataclass(frozen=True, slots=True)
class Found:
    """One finding with what it takes to judge it."""

    path: Path
    text: str
    shape: Shape
    drift: Drift


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_paths()["purelib"]))
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    packages = sorted(folder for folder in args.root.iterdir() if is_package(folder))
    counts: Counter[str] = Counter()
    found: list[Found] = []
    for package in packages:
        print(package.name, file=sys.stderr)
        found += checked(package, counts)
    rules = Counter(f.drift.rule for f in found)
    figures: dict[str, float] = {
        "packages": len(packages),
        "docstrings": counts["docstrings"],
        "findings": len(found),
        "docstrings per finding": counts["docstrings"] / max(1, len(found)),
        **{f"findings: {rule}": count for rule, count in rules.most_common()},
    }
    for one in random.Random(args.seed).sample(found, min(args.sample, len(found))):
        show(one)
    if args.format == "json":
        print(json.dumps(report(figures, (), args.seed), indent=1))
    else:
        print("\n".join(f"{key:30} {value:.5g}" for key, value in figures.items()))
    return 0


def is_package(folder: Path) -> bool:
    """Whether a folder is an importable package that is not among the largest."""
    named = folder.name not in LARGEST and not folder.name.startswith("_")
    return named and (folder / "__init__.py").is_file()


def checked(package: Path, counts: Counter[str]) -> Iterator[Found]:
    """Findings of a package; counts its docstrings."""
    for path in sorted(package.rglob("*.py")):
        inside = set(path.relative_to(package).parts)
        if inside & LEFT_OUT or path.stat().st_size > MAX_BYTES:
            continue
        try:
            snapshot = snapshot_of_file(path, package.parent, Settings(), None)
        except InputError:
            continue
        for shape in shapes_of(snapshot.document, snapshot.path):
            if shape.existing is not None and shape.kind != "module":
                counts["docstrings"] += 1
                for drift in drift_of(shape, "python"):
                    yield Found(path, snapshot.document.text, shape, drift)


def show(found: Found) -> None:
    """A finding with the head of its definition and the lines that it is about."""
    there = found.shape.existing
    assert there is not None
    lines = found.text.split("\n")
    row = there.line + max(0, found.drift.row)
    head = lines[found.shape.line : min(found.shape.line + SIGNATURE_LINES, there.line)]
    print(f"{found.path}:{row + 1} {found.shape.symbol} {found.drift.rule}: {found.drift.message}",
          *head, "    ...", *lines[row : row + DOCSTRING_LINES], "", sep="\n", file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

"""How well the shipped model predicts code that its training never saw.

    python benchmarks/completion_quality.py --format json

Source files of installed packages are gone through token by token with their true history, as if
they were typed from the first to the last character; the other files of the package are the
workspace. Scored are the network alone, the n-gram/copy model alone and the mixture that ships:

- next-token accuracy: the most probable token is the true one;
- bits per byte: cross entropy over all tokens, by the bytes of the text;
- whole-line exact match: every token from a line's first non-blank character to its end;
- rest-of-line exact match: every token from the line's middle token to its end.

Teacher-forced exact match equals exact match of greedy decoding. The packages must be installed
(`pip install -e .[bench]`); the training refuses them by name.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from qcoder.model.bench_report import Target, report
from qcoder.model.engine import Engine
from qcoder.model.mixture import Mixture
from qcoder.model.ngram import SuffixTable
from qcoder.training.corpus import HELD_OUT
from qcoder.training.traces import Trace, package_files, trace_file

PACKAGES = ("httpx", "structlog", "scrapy")
SEED = 20


def line_masks(trace: Trace) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For every non-blank line: indices of its tokens, and of those from the middle one on."""
    masks = []
    offset = 0
    for line in trace.text.split("\n"):
        begin = offset + len(line) - len(line.lstrip())
        end = offset + len(line)
        offset = end + 1
        if begin >= end:
            continue
        # A token may begin with the blanks before the line's first word.
        last = np.append(trace.starts[1:], len(trace.text)) - 1
        inside = np.flatnonzero((last >= begin) & (trace.starts < end))
        if len(inside) > 1:
            masks.append((inside, inside[len(inside) // 2 :]))
    return masks


def score(traces: list[Trace]) -> dict[str, float]:
    """All figures, by source."""
    total_bytes = sum(len(t.text.encode()) for t in traces)
    sources = {
        "network": ([t.truth[:, 0] for t in traces], [t.right[:, 0] for t in traces]),
        "ngram": ([t.copy_truth for t in traces], [t.copy_right for t in traces]),
        "mixture": ([t.mixed_truth for t in traces], [t.mixed_right for t in traces]),
    }
    lines = [line_masks(t) for t in traces]
    figures: dict[str, float] = {
        "files": len(traces),
        "bytes": total_bytes,
        "tokens": sum(len(t.ids) for t in traces),
        "lines": sum(map(len, lines)),
    }
    for name, (truth, right) in sources.items():
        nats = -np.log(np.maximum(np.concatenate(truth), 1e-9)).sum()
        whole = [bool(r[m].all()) for r, masks in zip(right, lines, strict=True) for m, _ in masks]
        rest = [bool(r[m].all()) for r, masks in zip(right, lines, strict=True) for _, m in masks]
        figures[f"{name}_token_accuracy"] = round(float(np.concatenate(right).mean()), 4)
        figures[f"{name}_bits_per_byte"] = round(float(nats / np.log(2) / total_bytes), 4)
        figures[f"{name}_whole_line_exact"] = round(float(np.mean(whole)), 4)
        figures[f"{name}_rest_of_line_exact"] = round(float(np.mean(rest)), 4)
    return figures


def measure(model: str, packages: list[str], files_each: int, seed: int) -> dict[str, object]:
    """Trace a seeded sample of every package's files and report."""
    engine = Engine.load(model)
    mixture = Mixture.load_for(engine.info)
    if mixture is None:
        raise SystemExit(f"model {model!r} ships no mixture: nothing to compare")
    rng = random.Random(seed)
    traces, notes = [], []
    for package in packages:
        files = package_files(package)
        if not files:
            notes.append(f"{package} is not installed: pip install -e .[bench]")
            continue
        unseen = "refused by the corpus" if package in HELD_OUT else "NOT in the held-out list"
        encoded = {path: engine.tokenizer.encode(text) for path, text in files}
        chosen = sorted(rng.sample(files, min(files_each, len(files))))
        notes.append(f"{package} {installed(package)}: {len(chosen)} files, {unseen}")
        for path, text in chosen:
            others = [i for other, ids in encoded.items() if other != path for i in ids]
            table = SuffixTable.build(others)
            traces.append(trace_file(engine, path, text, table, mixture.gate))
            print(f"{path}: {len(traces[-1].ids)} tokens", file=sys.stderr)
    if not traces:
        raise SystemExit("; ".join(notes))
    figures = score(traces)
    best = {
        key: max(figures[f"network_{key}"], figures[f"ngram_{key}"])
        for key in ("token_accuracy", "whole_line_exact", "rest_of_line_exact")
    }
    targets = [
        Target("mixture_token_accuracy", ">=", 0.52),
        Target("mixture_bits_per_byte", "<=", 0.98),
        Target("mixture_token_accuracy", ">=", best["token_accuracy"]),
        Target("mixture_whole_line_exact", ">=", best["whole_line_exact"]),
        Target("mixture_rest_of_line_exact", ">=", best["rest_of_line_exact"]),
        Target(
            "mixture_bits_per_byte",
            "<=",
            min(figures["network_bits_per_byte"], figures["ngram_bits_per_byte"]),
        ),
    ]
    return report(figures, targets, seed=seed, notes=notes)


def installed(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown version"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
    parser.add_argument("--files", type=int, default=8, help="files a package")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    result = measure(args.model, args.packages, args.files, args.seed)
    if args.format == "json":
        print(json.dumps(result))
        return
    for name, value in result["figures"].items():  # type: ignore[attr-defined]
        print(f"{name:36} {value}")


if __name__ == "__main__":
    main()

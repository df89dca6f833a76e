"""How good the default model is on repositories that its training never saw.

    python -P benchmarks/default_model.py --format json
    python -P benchmarks/default_model.py --root DIR --files LIST --format json

Without `--root`, development repositories are fetched by pinned version into the user's cache folder
(Python, TypeScript, JavaScript, Go, Rust). `--root` is a folder of other repositories and `--files` a
text file of the paths to score, one a line; the first part of a path is the repository, whose other
files are the workspace. Two views of every language:

- from left to right: each token predicted from its true history, by the network alone, the mixture
  that ships and the peers without network (`qcoder.training.left_to_right`, `qcoder.training.peers`).

A language that cannot be had is a line in `notes`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from qcoder.model.bench_report import Target, report
from qcoder.model.engine import Engine
from qcoder.model.mixture import Mixture
from qcoder.model.registry import find_model
from qcoder.training.heldout import HeldOut, HeldOutError, development, listed, sample
from qcoder.training.left_to_right import (
    COPY,
    MIXTURE,
    NESTED,
    TRAINED,
    Predicted,
    Workspaces,
    figures,
    predict_file,
)
from qcoder.training.peers import CountTable, trained_counts

SEED = 20
TRAINED_MEGABYTES = 8.0
LOADS = 5
PEERS = (COPY, NESTED, TRAINED)
COLD_LOAD = """
import sys, time
from qcoder.model.local import LocalEngine
began = time.perf_counter()
LocalEngine.load(sys.argv[1])
print(time.perf_counter() - began)
"""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, as a benchmark report."""
    held_out = listed(args.root, args.files) if args.root else development()
    notes = list(held_out.notes)
    engine = Engine.load(args.model)
    results: dict[str, float] = {}
    results |= left_to_right(engine, held_out, args, notes)
    results |= of_the_files(args.model, engine)
    notes.append("cold load: Engine.load in a fresh process, without the import of torch")
    notes.append(f"model {engine.info.name} from {engine.info.path}")
    rounded = {name: round(value, 4) for name, value in results.items()}
    return report(rounded, targets(rounded), seed=args.seed, notes=notes)


def left_to_right(
    engine: Engine, held_out: HeldOut, args: argparse.Namespace, notes: list[str]
) -> dict[str, float]:
    """Figures of the first view, `LANGUAGE_PREDICTOR_FIGURE`."""
    mixture = Mixture.load_for(engine.info)
    if mixture is None:
        notes.append("the model ships no mixture: network and peers only")
    workspaces = Workspaces(engine, held_out)
    results: dict[str, float] = {}
    for language in held_out.languages:
        trained = trained_peer(engine, language, args, notes)
        done: list[Predicted] = []
        tokens = 0
        own = [file for file in held_out.scored if file.language == language]
        for file in sample(own, args.seed):
            if args.tokens and tokens >= args.tokens:
                break
            done.append(predict_file(engine, mixture, file, workspaces, trained))
            tokens += len(done[-1].starts)
            progress(f"left to right: {file.repository}/{file.path}: {tokens} tokens")
        results |= {f"{language}_files": len(done), f"{language}_tokens": tokens}
        by_predictor = figures(done)
        for predictor, values in by_predictor.items():
            results |= {f"{language}_{predictor}_{name}": v for name, v in values.items()}
        results |= lead(language, by_predictor)
        notes.append(f"{language}: {len(done)} of {len(own)} files scored from left to right")
    return results


def lead(language: str, by_predictor: dict[str, dict[str, float]]) -> dict[str, float]:
    """How far the mixture is before the best peer without network."""
    if MIXTURE not in by_predictor:
        return {}
    return {
        f"{language}_mixture_minus_best_peer_{name}": by_predictor[MIXTURE][name]
        - max(by_predictor[peer][name] for peer in PEERS if peer in by_predictor)
        for name in ("token_accuracy", "whole_line_exact", "rest_of_line_exact")
    }


def trained_peer(
    engine: Engine, language: str, args: argparse.Namespace, notes: list[str]
) -> CountTable | None:
    """The trained 5-gram's counts, when a corpus was given."""
    if args.corpus is None:
        if not any("5-gram" in note for note in notes):
            notes.append("trained 5-gram with cache: not measured, give --corpus DIR")
        return None
    encode = engine.tokenizer.encode
    counts = trained_counts(args.corpus, language, encode, TRAINED_MEGABYTES, args.seed)
    if counts is None:
        notes.append(f"{language}: {args.corpus} has no text for a trained 5-gram")
    else:
        notes.append(f"{language}: 5-gram trained on {len(counts.ids[0])} tokens")
    return counts


def of_the_files(model: str, engine: Engine) -> dict[str, float]:
    """Size, training and load time of the model's folder."""
    folder = find_model(model)
    size_bytes = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    seconds = []
    for _ in range(LOADS):
        done = subprocess.run(
            [sys.executable, "-P", "-c", COLD_LOAD, str(folder)],
            capture_output=True, text=True, check=True, cwd=Path.home(),
        )  # fmt: skip
        seconds.append(float(done.stdout))
    seen = engine.info.manifest.get("training", {}).get("tokens_seen", 0)
    return {
        "weights_mb": size_bytes / 1e6,
        "cold_load_s": statistics.median(seconds),
        "tokens_seen_millions": seen / 1e6,
    }


def targets(results: dict[str, float]) -> list[Target]:
    """What must hold, as far as it was measured."""
    wanted = [
        Target("python_mixture_minus_best_peer_token_accuracy", ">=", 0.05),
        Target("python_mixture_minus_best_peer_whole_line_exact", ">=", 0.03),
        Target("python_mixture_rest_of_line_exact", ">=", 0.22),
        Target("python_mixture_whole_line_exact", ">=", 0.10),
        Target("python_mixture_bits_per_byte", "<=", 0.80),
        *(
            Target(f"{language}_mixture_minus_best_peer_{name}", ">=", 0.0001)
            for language in ("typescript", "go", "rust")
            for name in ("token_accuracy", "whole_line_exact")
        ),
        Target("weights_mb", "<=", 50),
        Target("cold_load_s", "<=", 1.0),
        Target("tokens_seen_millions", ">=", 100),
    ]
    return [target for target in wanted if target.figure in results]


def progress(line: str) -> None:
    """One line for whoever waits."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="default", help="name or folder")
    parser.add_argument("--root", type=Path, help="folder of repositories to score")
    parser.add_argument("--files", type=Path, help="paths below --root, one a line")
    parser.add_argument("--tokens", type=int, default=16_000, help="a language; 0: all files")
    parser.add_argument("--corpus", type=Path, help="training corpus, for the trained 5-gram")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if (args.root is None) != (args.files is None):
        parser.error("--root and --files belong together: a folder and the paths below it to score")
    try:
        result = measure(args)
    except HeldOutError as error:
        raise SystemExit(str(error)) from None
    if args.format == "json":
        print(json.dumps(result))
        return
    for name, value in result["figures"].items():
        print(f"{name:50} {value}")
    for target in result["targets"]:
        verdict = "holds" if target["holds"] else "FAILS"
        print(f"{verdict} {target['figure']} {target['op']} {target['target']}: {target['value']}")
    for note in result["notes"]:
        print(f"note: {note}")


if __name__ == "__main__":
    main()

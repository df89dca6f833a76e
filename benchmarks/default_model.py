"""How good the default model is on repositories that its training never saw.

    python -P benchmarks/default_model.py --format json
    python -P benchmarks/default_model.py --root DIR --files LIST --format json

Without `--root`, development repositories are fetched by pinned version into the user's cache folder
(Python, TypeScript, JavaScript, Go, Rust). `--root` is a folder of other repositories and `--files` a
text file of the paths to score, one a line; the first part of a path is the repository, whose other
files are the workspace. Two views of every language:

- from left to right: each token predicted from its true history, by the network alone, the mixture
  that ships and the peers without network (`qcoder.training.left_to_right`, `qcoder.training.peers`);
- holes: the rest of a line, or a whole line, missing from a file and filled by the server's own
  completion, with its packer, prompt, mixture and filters (`filling.server`), and by the peers
  (`filling.peers`). The workspace does not contain the file. `shown_right` is the share of the
  suggestions shown at the default threshold that are exactly what was missing.

`--dense DIR` scores another checkpoint's network alone. A language that cannot be had is a line in `notes`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from filling import peers, server
from filling.server import SETTINGS, Opened

from qcoder.lsp_server.headless import workspace_table
from qcoder.model.bench_report import Target, report
from qcoder.model.engine import Engine
from qcoder.model.healing import PrefixIndex
from qcoder.model.mixture import Mixture
from qcoder.model.registry import find_model
from qcoder.training import holes
from qcoder.training.heldout import (
    HeldOut,
    HeldOutError,
    development,
    listed,
    sample,
)
from qcoder.training.holes import Filled, Hole, cut_holes
from qcoder.training.left_to_right import (
    COPY,
    MIXTURE,
    NESTED,
    TRAINED,
    Predicted,
    figures,
    network_figures,
    predict_file,
    surroundings,
)
from qcoder.training.peers import CountTable, trained_counts
from qcoder.training.traces import HoleTraces

SEED = 20
TRAINED_MEGABYTES = 8.0
LOADS = 5
PEERS = (COPY, NESTED, TRAINED)
Trained = Callable[[str], CountTable | None]
"""The 5-gram of a language, counted once."""

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 20))
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
    trained = lru_cache(maxsize=None)(lambda name: trained_peer(engine, name, args, notes))
    results |= left_to_right(engine, held_out, args, notes, trained)
    results |= in_the_middle(engine, held_out, args, notes, trained)
    if args.dense:
        results |= of_another_network(args.dense, held_out, args, notes)
    results |= of_the_files(args.model, engine)
    notes.append("cold load: Engine.load in a fresh process, without the import of torch")
    notes.append(f"model {engine.info.name} from the folder {Path(engine.info.path).name}")
    rounded = {name: round(value, 4) for name, value in results.items()}
    return report(rounded, targets(rounded), seed=args.seed, notes=notes)


def left_to_right(
    engine: Engine,
    held_out: HeldOut,
    args: argparse.Namespace,
    notes: list[str],
    trained_in: Trained,
) -> dict[str, float]:
    """Figures of the first view, `LANGUAGE_PREDICTOR_FIGURE`."""
    mixture = Mixture.load_for(engine.info)
    if mixture is None:
        notes.append("the model ships no mixture: network and peers only")
    encode = lru_cache(maxsize=4096)(engine.tokenizer.encode)
    results: dict[str, float] = {}
    for language in held_out.languages:
        trained = trained_in(language)
        done: list[Predicted] = []
        tokens = 0
        own = [file for file in held_out.scored if file.language == language]
        for file in sample(own, args.seed):
            if args.tokens and tokens >= args.tokens:
                break
            around = surroundings(held_out, file, encode)
            done.append(predict_file(engine, mixture, file, around, trained))
            tokens += len(done[-1].starts)
            progress(f"left to right: {file.repository}/{file.path}: {tokens} tokens")
        results |= {f"{language}_files": len(done), f"{language}_tokens": tokens}
        by_predictor = figures(done)
        for predictor, values in by_predictor.items():
            results |= {f"{language}_{predictor}_{name}": v for name, v in values.items()}
        results |= advantage(language, by_predictor)
        notes.append(f"{language}: {len(done)} of {len(own)} files scored from left to right")
    return results


def advantage(language: str, by_predictor: dict[str, dict[str, float]]) -> dict[str, float]:
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
        notes.append(f"{language}: 5-gram trained on {counts.num_tokens} tokens")
    return counts


def of_another_network(
    model: str, held_out: HeldOut, args: argparse.Namespace, notes: list[str]
) -> dict[str, float]:
    """Figures of another checkpoint's network on the files of the first view."""
    engine = Engine.load(model)
    results = {}
    for language in held_out.languages:
        own = sample((f for f in held_out.scored if f.language == language), args.seed)
        progress(f"left to right: {language} by {engine.info.name}")
        for name, value in network_figures(engine, own, args.tokens).items():
            results[f"{language}_dense_{name}"] = value
    notes.append(f"dense: {engine.info.name}; its tokens are its own, compare bits_per_byte")
    return results


def in_the_middle(
    engine: Engine,
    held_out: HeldOut,
    args: argparse.Namespace,
    notes: list[str],
    trained_in: Trained,
) -> dict[str, float]:
    """Figures of the second view, `LANGUAGE_holes_KIND_FIGURE`, and of all holes together."""
    memory = SimpleNamespace(encode=lru_cache(maxsize=4096)(engine.tokenizer.encode))
    recorder = server.Recorder(engine)
    results: dict[str, float] = {}
    every: list[Filled] = []
    with tempfile.TemporaryDirectory() as cache:
        indexed = lru_cache(maxsize=None)(lambda root: server.index_of(root, Path(cache)))
        for language in held_out.languages if args.holes else ():
            own = sample((f for f in held_out.scored if f.language == language), args.seed)
            cut = cut_holes(own, args.holes, args.seed)
            filled: list[Filled] = []
            peers_filled: list[dict[str, str]] = []
            sharing = peers.Peers.of(engine.tokenizer, trained_in(language))
            for file, group in groupby(cut, key=lambda hole: hole.file):
                of_file, index = list(group), indexed(file.root)
                opened = Opened(file, index, workspace_table(index, memory, file.path))
                filled += [server.fill(hole, opened, recorder) for hole in of_file]
                index.drop_overlay(file.path)
                counted = peers.Opened.of(surroundings(held_out, file, memory.encode))
                peers_filled += [peers.fill(hole, counted, sharing) for hole in of_file]
                progress(f"holes: {file.repository}/{file.path}: {len(filled)}")
            if len(filled) < args.holes:
                notes.append(f"{language}: {len(filled)} holes of {args.holes} wanted")
            results |= hole_figures(f"{language}_holes", filled)
            results |= peer_figures(f"{language}_holes", filled, peers_filled)
            every += filled
    return results | hole_figures("all_holes", every) | confidence_figures(every, notes)


def opened_holes(args: argparse.Namespace, engine: Engine) -> Iterator[tuple[Hole, Opened]]:
    """Holes of `--root`, each with its file as the server has it open."""
    held_out = listed(args.root, args.files)
    memory = SimpleNamespace(encode=lru_cache(maxsize=4096)(engine.tokenizer.encode))
    cut = cut_holes(sample(held_out.scored, args.seed), args.holes, args.seed)
    with tempfile.TemporaryDirectory() as cache:
        indexed = lru_cache(maxsize=None)(lambda root: server.index_of(root, Path(cache)))
        for file, of_file in groupby(cut, key=lambda hole: hole.file):
            progress(f"holes: {file.repository}/{file.path}")
            index = indexed(file.root)
            opened = Opened(file, index, workspace_table(index, memory, file.path))
            yield from ((hole, opened) for hole in of_file)
            index.drop_overlay(file.path)


def write_traces(args: argparse.Namespace) -> None:
    """What `qcoder.training.gate` fits on: what the sources say of what is missing."""
    engine = Engine.load(args.model)
    prefixes = PrefixIndex(engine.tokenizer, engine.tokenizer.vocab_size)
    steps = [server.trace(*hole, engine, prefixes) for hole in opened_holes(args, engine)]
    HoleTraces.of([step for step in steps if step is not None]).save(args.traces)


def write_records(args: argparse.Namespace) -> None:
    """What `qcoder.training.confidence` fits on: one row a hole for which there was an offer."""
    engine = Engine.load(args.model)
    recorder = server.Recorder(engine)
    every = [server.fill(*hole, recorder) for hole in opened_holes(args, engine)]
    rows = [{"logprobs": f.logprobs, "right": f.offered_right} for f in every if f.offered]
    args.records.write_text("".join(json.dumps(row) + "\n" for row in rows))


def hole_figures(name: str, filled: list[Filled]) -> dict[str, float]:
    """Figures of the holes together and of each kind."""
    groups = {name: filled} | {
        f"{name}_{kind}": [f for f in filled if f.hole.kind == kind] for kind in holes.KINDS
    }
    return {
        f"{group}_{figure}": value
        for group, members in groups.items()
        for figure, value in holes.figures(members).items()
    }


def peer_figures(
    name: str, filled: list[Filled], peers_filled: list[dict[str, str]]
) -> dict[str, float]:
    """How often each peer wrote what was missing, and how far the model is before the best."""
    results: dict[str, float] = {}
    for kind in holes.KINDS:
        pairs = [
            (f, texts) for f, texts in zip(filled, peers_filled, strict=True) if f.hole.kind == kind
        ]
        if not pairs:
            continue
        exact = {
            peer: holes.share(texts[peer].rstrip() == f.hole.truth for f, texts in pairs)
            for peer in pairs[0][1]
        }
        results |= {f"{name}_{kind}_{peer}_exact": value for peer, value in exact.items()}
        ours = holes.share(f.exact for f, _ in pairs)
        results[f"{name}_minus_best_peer_{kind}_exact"] = ours - max(exact.values())
    return results


def confidence_figures(every: list[Filled], notes: list[str]) -> dict[str, float]:
    """What would be shown, and how much of it is right, from each confidence on."""
    if not every:
        return {}
    results = {"threshold_default": SETTINGS.completion.min_confidence}
    results["threshold_half_right"] = holes.threshold_for(every, 0.5)
    for threshold, (coverage, right) in zip(
        THRESHOLDS, holes.curve(every, THRESHOLDS), strict=True
    ):
        results[f"from_{threshold:.2f}_coverage"] = coverage
        results[f"from_{threshold:.2f}_right"] = right
    notes.append("holes: automatic completion of the current line with the default settings")
    return results


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
        Target("python_holes_minus_best_peer_whole_line_exact", ">=", 0.03),
        Target("python_holes_rest_of_line_exact", ">=", 0.22),
        Target("python_holes_whole_line_exact", ">=", 0.10),
        Target("all_holes_shown_right", ">=", 0.50),
        Target("python_holes_shown_right", ">=", 0.50),
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
    parser.add_argument("--tokens", type=int, default=50_000, help="a language; 0: all files")
    parser.add_argument("--holes", type=int, default=300, help="a language; 0: none")
    parser.add_argument("--dense", help="another checkpoint, its network alone")
    parser.add_argument("--corpus", type=Path, help="training corpus, for the trained 5-gram")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--records", type=Path, help="only write what the confidence is fitted on")
    only.add_argument("--traces", type=Path, help="only write what the gate is fitted on")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if (args.root is None) != (args.files is None):
        parser.error("--root and --files belong together: a folder and the paths below it to score")
    if (args.traces or args.records) and args.root is None:
        parser.error("fitting needs --root and --files: nothing is fitted on what is scored")
    try:
        if args.traces or args.records:
            (write_traces if args.traces else write_records)(args)
            return
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

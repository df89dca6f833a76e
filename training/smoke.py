"""The whole way from text to an evaluated model, small enough for two minutes on two cores.

    python -m qcoder.training.pretrain --smoke

Text: the standard library of the Python that runs it. Every step is the command that makes the
shipped model, with smaller numbers: corpus, tokenizer, training with its decay and rounding, export,
gate, evaluation on packages of the library that were kept out of the corpus.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from qcoder.model.engine import Engine
from qcoder.model.manifest import verify_checksums
from qcoder.model.mixture import Mixture
from qcoder.training.corpus import build
from qcoder.training.corpus_sources import Package
from qcoder.training.export import export
from qcoder.training.gate import fit_gate
from qcoder.training.heldout import HeldOut, SourceFile
from qcoder.training.items import Corpus
from qcoder.training.left_to_right import figures, predict_file, surroundings
from qcoder.training.pretrain import Plan, train
from qcoder.training.schedule import SCHEDULES
from qcoder.training.tokenizer import train as train_tokenizer
from qcoder.training.traces import package_files

DEVELOPMENT, HELD_OUT = ("email", "http"), ("json", "logging", "concurrent")
IGNORED = ("site-packages", "dist-packages", "test", "tests", "__pycache__", "lib2to3", "idlelib")
TRAIN_SECONDS = 60
"""Of the whole schedule; the rest of two minutes goes to text, gate and evaluation."""

CORPUS_MB, TOKENIZER_MB, VOCABULARY = 8.0, 3.0, 2048
GATE_TOKENS, GATE_STEPS, EVALUATED_FILES = 10_000, 400, 5


def library_text(target: Path) -> tuple[Path, list[Path]]:
    """Copy the standard library's sources, the evaluation's packages left out: root and files."""
    source = Path(sysconfig.get_path("stdlib"))
    ignore = shutil.ignore_patterns(*IGNORED, *DEVELOPMENT, *HELD_OUT, "*.so", "*.a")
    shutil.copytree(source, target, ignore=ignore, symlinks=True)
    return target, sorted(target.rglob("*.py"))


def build_corpus(folder: Path) -> Corpus:
    """The library as a corpus: <folder>/*.jsonl."""
    root, files = library_text(folder / "library")
    package = Package(
        "cpython", platform.python_version(), "PSF-2.0", root, tuple(files), CORPUS_MB
    )
    build([package], [], folder)
    shutil.rmtree(root)
    return Corpus(folder)


def smoke(run: Path | None, threads: int, seed: int) -> dict[str, Any]:
    """Run every step in `run` (a temporary folder without it); figures and seconds of each."""
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            return smoke(Path(folder), threads, seed)
    clock, seconds = time.monotonic(), {}

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = round(time.monotonic() - clock, 1), time.monotonic()

    corpus_folder, tokenizer, model = run / "corpus", run / "tokenizer.json", run / "model"
    corpus_folder.mkdir(parents=True)
    corpus = build_corpus(corpus_folder)
    lap("corpus")
    train_tokenizer(corpus, VOCABULARY, TOKENIZER_MB).save(str(tokenizer))
    lap("tokenizer")
    plan = Plan(
        corpus_folder,
        tokenizer,
        run,
        TRAIN_SECONDS / 3600,
        size="smoke",
        schedule=SCHEDULES["smoke"],
        threads=threads,
        seed=seed,
        compile=False,
    )
    training = train(plan)
    lap("training")
    export(argparse.Namespace(run=run, corpus=corpus_folder, tokenizer=tokenizer, output=model))
    lap("export")
    gate = fit_gate(model, list(DEVELOPMENT), GATE_TOKENS, GATE_STEPS)
    lap("gate")
    figures = evaluate(model)
    lap("evaluation")
    return {
        "tokens_seen": int(training.progress["tokens"]),
        "steps": int(training.progress["steps"]),
        "final_loss": round(training.loss, 3),
        "gate": gate,
        "held_out": figures,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
    }


def evaluate(model: Path) -> dict[str, dict[str, float]]:
    """Figures of network, copy model and mixture on packages that were not trained on."""
    if damaged := verify_checksums(model):
        raise SystemExit(f"{model}: {', '.join(damaged)} differ from the manifest")
    engine = Engine.load(str(model))
    root = Path(sysconfig.get_path("stdlib"))
    workspaces = {
        package: tuple(
            SourceFile(package, root, path, "python", text) for path, text in package_files(package)
        )
        for package in HELD_OUT
    }
    scored = tuple(file for files in workspaces.values() for file in files)[:EVALUATED_FILES]
    held_out = HeldOut(scored, workspaces, ())
    mixture, encode = Mixture.load_for(engine.info), engine.tokenizer.encode
    return figures(
        predict_file(engine, mixture, file, surroundings(held_out, file, encode)) for file in scored
    )

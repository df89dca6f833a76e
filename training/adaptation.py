"""One training on one workspace, from its files to an installed model or the reason for none.

About an eighth of the files is held out: one half of them ends the training and chooses the
interpolation (`tuning.py`), the other half only reports. Judged is what would be installed, the int8
export with its mixture, in the engine (`comparison.py`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer

from qcoder.model import adapted
from qcoder.model.engine import Engine
from qcoder.model.errors import CheckpointError
from qcoder.model.mixture import Mixture
from qcoder.model.ngram import SuffixTable
from qcoder.model.registry import DEFAULT_NAME, find_model
from qcoder.training import tuning
from qcoder.training.candidate import write_manifest, write_weights
from qcoder.training.comparison import Comparison, Figures, Predicted, compare, predict
from qcoder.training.items import Rows, Source
from qcoder.training.network import NetworkConfig
from qcoder.training.tuning import HeldOutLoss, Progress, Tuned, tune
from qcoder.training.weights import load_network
from qcoder.training.workspace_text import Drawn, Split, WorkspaceText, read_workspace, split_files

MIN_FILES, MIN_LINES = 20, 2000
MAX_FILE_CHARACTERS, REPORTING_CHARACTERS, CHOOSING_CHARACTERS = 16_000, 80_000, 40_000
"""Of a held-out file and of all of each half: enough to go by, and bounded in time."""

TABLE_TOKENS = 400_000  # as in the server
MIN_TUNING_SHARE = 0.3
WRITING_SECONDS = 5.0
JUDGING_MARGIN = 1.3


class WorkspaceError(Exception):
    """The workspace cannot be trained on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train on, for how long, and from which model."""

    root: Path
    minutes: float = 10.0
    model: str = DEFAULT_NAME
    exclude: tuple[str, ...] = ()
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to; `reason` says why nothing was installed."""

    installed: bool
    reason: str
    name: str
    workspace: str
    path: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        rows = {name: getattr(self, name) for name in ("installed", "reason", "name", "path")}
        return {**rows, "workspace": self.workspace, **self.facts}


class Show(Protocol):
    """Who is told how far a run is."""

    def phase(self, text: str) -> None:
        """A part of the run begins."""
        ...

    def progress(self, now: Progress) -> None:
        """A training step is done."""
        ...


def adapt(plan: Plan, show: Show, shield: Callable[[], None] = lambda: None) -> Outcome:
    """Train, judge, and install what is better; takes about `plan.minutes` in all.

    `shield` is called before the model is installed: from there on nothing may interrupt. Raises
    `WorkspaceError` when there is too little text, `CheckpointError` for a base that cannot be trained.
    """
    began = time.monotonic()
    base = find_model(plan.model)
    adapted.base_checksum(base)  # raises before the work for a model that cannot be a base
    show.phase("reading the workspace")
    text = read_workspace(plan.root, plan.exclude)
    check_size(text, plan.root)
    split = split_files(text.files, plan.seed)
    reporting = excerpts(split.reporting, REPORTING_CHARACTERS)
    choosing = excerpts(split.choosing, CHOOSING_CHARACTERS)
    show.phase(f"judging the present model on {len(reporting)} files that it will not train on")
    judging = time.monotonic()
    before = judge(base, split, reporting)
    judging = time.monotonic() - judging
    left = 60 * plan.minutes - (time.monotonic() - began)
    seconds = max(left - JUDGING_MARGIN * judging - WRITING_SECONDS, left * MIN_TUNING_SHARE)
    show.phase(f"training on {len(split.trained)} files")
    config, tuned = train(base, plan, split, choosing, seconds, show)
    staged = adapted.stage(plan.root, plan.model)
    try:
        write_weights(staged, base, config, tuned.weights)
        show.phase("judging the new model")
        comparison = compare(before, judge(staged, split, reporting), plan.seed)
        facts = facts_of(text, split, tuned, comparison, time.monotonic() - began)
        name = adapted.adapted_name(plan.root, plan.model)
        reason = why_not(tuned, comparison)
        outcome = Outcome(not reason, reason, name, str(plan.root), "", facts)
        if reason:
            return outcome
        write_manifest(staged, base, name, {**origin_of(plan, base), **facts})
        shield()
        path = adapted.install(staged, plan.root, plan.model)
        return Outcome(True, "", name, str(plan.root), str(path), facts)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_size(text: WorkspaceText, root: Path) -> None:
    """Raise `WorkspaceError` unless there is enough to train on and to judge by."""
    if len(text.files) >= MIN_FILES and text.lines >= MIN_LINES:
        return
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(text.skipped.items()))
    raise WorkspaceError(
        f"{root}: {len(text.files)} source files with {text.lines} lines are too few to train on; at "
        f"least {MIN_FILES} files and {MIN_LINES} lines are needed"
        + (f" (left out: {skipped}; `qcoder doctor --why FILE` says more)" if skipped else "")
    )


def excerpts(files: Sequence[Source], characters: int) -> list[Source]:
    """The beginnings of held-out files in whole lines, up to `characters`; short files go first."""
    found: list[Source] = []
    left = characters
    for file in sorted(files, key=lambda file: len(file.text)):
        room = min(MAX_FILE_CHARACTERS, left)
        text = (
            file.text if len(file.text) <= room else file.text[: file.text.rfind("\n", 0, room) + 1]
        )
        if text:
            found.append(Source(file.package, file.path, text))
            left -= len(text)
    return found


def judge(folder: Path, split: Split, files: Sequence[Source]) -> list[Predicted]:
    """What a model predicts of held-out files, with the rest of the workspace to copy from."""
    engine = Engine.load(str(folder), threads=cores())
    mixture = Mixture.load(folder)
    if mixture is None:
        raise CheckpointError(f"{folder}: has no mixture to judge by; start from the default model")
    ids: list[int] = []
    for file in split.trained:
        if len(ids) < TABLE_TOKENS:
            ids += engine.tokenizer.encode(file.text)
    table = SuffixTable.build(ids[:TABLE_TOKENS])
    return [predict(engine, mixture, table, file) for file in files]


def train(
    base: Path,
    plan: Plan,
    split: Split,
    choosing: Sequence[Source],
    seconds: float,
    show: Show,
) -> tuple[NetworkConfig, Tuned]:
    """Continue the training of the base for `seconds`; its config and what came out."""
    torch.set_num_threads(cores())
    torch.manual_seed(plan.seed)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # what looks like a special token in code is text
    network = load_network(base, tuning.HELD_OUT_TOKENS)
    rows = Rows(Drawn(split.trained), tokenizer, plan.seed)
    held_out = HeldOutLoss(choosing, tokenizer)
    return network.config, tune(network, rows, held_out, seconds, show.progress)


def origin_of(plan: Plan, base: Path) -> dict[str, str]:
    """What ties an adapted model to its workspace and base; `model/adapted.py` reads it."""
    return {
        "workspace": str(plan.root),
        "base": plan.model if plan.model == DEFAULT_NAME else str(base.resolve()),
        "base_sha256": adapted.base_checksum(base),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def why_not(tuned: Tuned, comparison: Comparison) -> str:
    """What keeps a result from being installed; empty when nothing does."""
    if not tuned.steps:
        return "there was no time for a single step; give more with --minutes"
    if tuned.bits_after >= tuned.bits_before:
        return "the files that were not trained on did not become easier to predict"
    return comparison.why_not


def facts_of(
    text: WorkspaceText, split: Split, tuned: Tuned, comparison: Comparison, seconds: float
) -> dict[str, Any]:
    """Counts and figures of a run: for the manifest and the report; no text, no file names."""
    return {
        "files": {
            "trained": len(split.trained),
            "choosing": len(split.choosing),
            "reporting": len(split.reporting),
        },
        "skipped": dict(sorted(text.skipped.items())),
        "lines": text.lines,
        "reported_lines": comparison.lines,
        "tokens_seen": tuned.tokens,
        "steps": tuned.steps,
        "training_seconds": round(tuned.seconds, 1),
        "seconds": round(seconds, 1),
        "stopped_early": tuned.stopped_early,
        "interpolation": tuned.share,
        "choosing_bits_per_byte": [round(tuned.bits_before, 4), round(tuned.bits_after, 4)],
        "before": rounded(comparison.before),
        "after": rounded(comparison.after),
        "bits_per_byte_interval": [round(end, 4) for end in comparison.interval],
    }


def rounded(figures: dict[str, Figures]) -> dict[str, dict[str, float]]:
    """Figures by source as plain numbers."""
    return {
        source: {name: round(value, 4) for name, value in asdict(row).items()}
        for source, row in figures.items()
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

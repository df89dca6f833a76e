"""Fits the gate of the mixture on text that neither training nor the benchmark sees.

    python -m qcoder.training.gate --model model/weights/qcoder_nano --packages arrow rq ... --holes FILE

Traces of the development packages give, for every token, what each source said. The gate is the
small perceptron that makes the mixture good at two things at once: the probability of every true
token (cross entropy), and the probability that a whole line comes out right when the likeliest token
is taken each time, which is what a user sees. Cross entropy alone gives up copied lines for single
better tokens. Some files are traced without a workspace table, as on a user's first file. Half of the
lines are what is missing at cursors (`--holes`, written by `benchmarks/default_model.py --traces`):
prompts are short there and the table has the open file, so the sources are worth something else. The
result is written into the model's folder.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from qcoder.model.engine import Engine
from qcoder.model.mixture import FEATURES, GATE_FILE, SOURCES
from qcoder.model.ngram import SuffixTable
from qcoder.training.export import refresh_manifest
from qcoder.training.left_to_right import line_masks
from qcoder.training.traces import HoleTraces, Trace, package_files, trace_file

HIDDEN, STEPS, LINES, LR = 24, 3000, 384, 1e-2
LINE_SHARE = 0.5  # of the loss that whole lines have
SHARPNESS = 3.0  # probabilities to this power stand in for "the likeliest token is taken"
FLOOR = 1e-9


def development_traces(engine: Engine, packages: Sequence[str], max_tokens: int) -> list[Trace]:
    """Traces of a fair share of every package's files; every third file without a table."""
    rng = random.Random(0)
    traces = []
    for package in packages:
        files = package_files(package)
        if not files:
            raise SystemExit(f"package {package!r} is not installed: pip install {package}")
        encoded = {path: engine.tokenizer.encode(text) for path, text in files}
        rng.shuffle(files)
        left = max_tokens // len(packages)
        for number, (path, text) in enumerate(files):
            if left <= 0:
                break
            others = [i for other, ids in encoded.items() if other != path for i in ids]
            table = SuffixTable.build(others) if number % 3 else None
            traces.append(trace_file(engine, path, text[:12_000], table))
            left -= len(traces[-1].starts)
            print(f"{path}: {len(traces[-1].starts)} tokens", file=sys.stderr, flush=True)
    return traces


class Places:
    """The traces' tokens side by side; for every line and every hole the indices of its tokens."""

    def __init__(self, traces: Sequence[Trace], holes: HoleTraces | None = None) -> None:
        parts = [*(trace.steps for trace in traces), *([holes.steps] if holes is not None else [])]

        def joined(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(part, name) for part in parts]))

        self.features, self.present = joined("features"), joined("present")
        self.candidates = joined("candidates")
        self.lines: list[np.ndarray] = []
        offset = 0
        for trace in traces:
            masks = line_masks(trace.text, trace.starts)
            self.lines += [whole + offset for whole, _ in masks]
            offset += len(trace.starts)
        self.holes: list[np.ndarray] = []
        for size in holes.sizes if holes is not None else ():
            self.holes.append(np.arange(offset, offset + size))
            offset += size

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Tokens of `count` random lines, half of them holes, and for each the number of its line."""
        of_holes = count // 2 if self.holes else 0
        chosen = [self.holes[i] for i in rng.integers(max(len(self.holes), 1), size=of_holes)]
        chosen += [self.lines[i] for i in rng.integers(len(self.lines), size=count - of_holes)]
        numbers = np.repeat(np.arange(count), [len(line) for line in chosen])
        return torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(numbers)


def mixed(places: Places, rows: Tensor, scores: Tensor) -> Tensor:
    """Probabilities of the candidates under a gate's scores [rows, SOURCES]: [rows, CANDIDATES]."""
    weights = scores.masked_fill(~places.present[rows], -torch.inf).softmax(-1)
    return (weights.unsqueeze(1) * places.candidates[rows]).sum(-1) + FLOOR


def fit(places: Places, steps: int = STEPS) -> dict[str, Tensor]:
    """Gate weights that minimize cross entropy and maximize the share of whole lines."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    hidden, out = torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Linear(HIDDEN, SOURCES)
    optimizer = torch.optim.AdamW([*hidden.parameters(), *out.parameters()], lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for _ in range(steps):
        rows, numbers = places.draw(LINES, rng)
        logs = mixed(places, rows, out(torch.tanh(hidden(places.features[rows])))).log()
        taken = (SHARPNESS * logs).log_softmax(-1)[:, 0]
        lines = torch.zeros(LINES).index_add(0, numbers, taken).exp()
        loss = -(1 - LINE_SHARE) * logs[:, 0].mean() - LINE_SHARE * 3 * lines.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {
        "hidden_weight": hidden.weight.detach(),
        "hidden_bias": hidden.bias.detach(),
        "out_weight": out.weight.detach(),
        "out_bias": out.bias.detach(),
    }


def measure(places: Places, gate: dict[str, Tensor]) -> dict[str, float]:
    """Nats a token and whole lines right on the text of the fit: network and mixture."""
    hidden = torch.tanh(places.features @ gate["hidden_weight"].T + gate["hidden_bias"])
    scores = hidden @ gate["out_weight"].T + gate["out_bias"]
    blended = mixed(places, torch.arange(len(scores)), scores)
    figures = {}
    for name, probabilities in (
        ("network", places.candidates[:, :, 0] + FLOOR),
        ("mixture", blended),
    ):
        right = (probabilities.argmax(-1) == 0).numpy()
        figures[f"{name}_nats"] = round(-probabilities[:, 0].log().mean().item(), 4)
        for kind, lines in (("whole_line", places.lines), ("hole", places.holes)):
            exact = [bool(right[line].all()) for line in lines]
            if exact:
                figures[f"{name}_{kind}_exact"] = round(float(np.mean(exact)), 4)
    return figures


def fit_gate(
    model: Path,
    packages: Sequence[str],
    max_tokens: int = 80_000,
    steps: int = STEPS,
    holes: HoleTraces | None = None,
) -> dict[str, Any]:
    """Fit the gate of a model folder, write it there and into the manifest; figures of the fit."""
    engine = Engine.load(str(model))
    places = Places(development_traces(engine, packages, max_tokens), holes)
    gate = fit(places, steps)
    save_file(gate, model / GATE_FILE)
    (model / GATE_FILE).chmod(0o644)
    facts = {"packages": list(packages), "tokens": len(places.features), "holes": len(places.holes)}
    facts |= measure(places, gate)
    refresh_manifest(model, {"gate": facts})
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--packages", nargs="+", required=True)
    parser.add_argument("--max-tokens", type=int, default=80_000)
    parser.add_argument("--holes", type=Path, help="traces of holes")
    args = parser.parse_args()
    holes = HoleTraces.load(args.holes) if args.holes else None
    print(json.dumps(fit_gate(args.model, args.packages, args.max_tokens, holes=holes)))


if __name__ == "__main__":
    main()

"""Fits the gate of the mixture on text that neither training nor the benchmark sees.

    python -m qcoder.training.gate --model model/weights/qcoder_nano --packages arrow rq ...

Traces of the development packages give, for every token, what each source said; the gate is the
small perceptron that minimizes the mixture's cross entropy on them. Some files are traced without a
workspace table, as on a user's first file. The result is written into the model's folder.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from qcoder.model.engine import Engine
from qcoder.model.mixture import FEATURES, GATE_FILE, SOURCES
from qcoder.model.ngram import SuffixTable
from qcoder.training.export import refresh_manifest
from qcoder.training.traces import Trace, package_files, trace_file

HIDDEN, STEPS, BATCH, LR = 24, 3000, 4096, 1e-2


def development_traces(engine: Engine, packages: list[str], max_tokens: int) -> list[Trace]:
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
            traces.append(trace_file(engine, path, text[:12_000], table, None))
            left -= len(traces[-1].ids)
            print(f"{path}: {len(traces[-1].ids)} tokens", flush=True)
    return traces


def fit(features: Tensor, present: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Gate weights that minimize the mean of -log(sum of weight times probability of the truth)."""
    torch.manual_seed(0)
    hidden = torch.nn.Linear(FEATURES, HIDDEN)
    out = torch.nn.Linear(HIDDEN, SOURCES)
    optimizer = torch.optim.AdamW([*hidden.parameters(), *out.parameters()], lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(features), (BATCH,))
        scores = out(torch.tanh(hidden(features[rows]))).masked_fill(~present[rows], -torch.inf)
        mixed = (scores.softmax(-1) * truth[rows]).sum(-1)
        loss = -(mixed + 1e-9).log().mean()
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--packages", nargs="+", required=True)
    parser.add_argument("--max-tokens", type=int, default=80_000)
    args = parser.parse_args()
    engine = Engine.load(str(args.model))
    traces = development_traces(engine, args.packages, args.max_tokens)
    features, present, truth = (
        torch.from_numpy(np.concatenate([getattr(t, name) for t in traces]))
        for name in ("features", "present", "truth")
    )
    weights = fit(features, present, truth)
    save_file(weights, args.model / GATE_FILE)
    (args.model / GATE_FILE).chmod(0o644)
    refresh_manifest(args.model, {"gate": {"packages": args.packages, "tokens": len(features)}})
    alone = -(truth[:, 0] + 1e-9).log().mean().item()
    hidden = torch.tanh(features @ weights["hidden_weight"].T + weights["hidden_bias"])
    scores = (hidden @ weights["out_weight"].T + weights["out_bias"]).masked_fill(
        ~present, -torch.inf
    )
    mixed = -((scores.softmax(-1) * truth).sum(-1) + 1e-9).log().mean().item()
    print(json.dumps({"tokens": len(features), "network_nats": alone, "mixture_nats": mixed}))


if __name__ == "__main__":
    main()

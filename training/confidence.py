"""Fits a model's confidence to how often its suggestions are right.

    python -P benchmarks/default_model.py --root DIR --files LIST --records FILE
    python -m qcoder.training.confidence --model model/weights/qcoder_nano --records FILE

The records are held-out holes that the product filled: the log-probabilities of what it wrote and
whether that is exactly what was missing. They must come from other repositories than those whose
figures are published. A logistic regression on them becomes `confidence` in the MANIFEST, with its
error and its coverage curve on the half of the records that the fit did not see.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qcoder.model.confidence import FEATURES, Confidence, features
from qcoder.training.export import refresh_manifest

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 19))
FEWEST = 100


@dataclass(frozen=True, slots=True)
class Record:
    """One filled hole: natural log-probabilities of the tokens, and whether the text is right."""

    logprobs: tuple[float, ...]
    right: bool


def read_records(path: Path) -> list[Record]:
    """Records of a JSON-lines file, those in which nothing was written left out."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Record(tuple(r["logprobs"]), bool(r["right"])) for r in rows if r["logprobs"]]


def fit(records: Sequence[Record]) -> Confidence:
    """Logistic regression by Newton's method in float64, with a little weight decay."""
    x = torch.tensor([[*features(r.logprobs), 1.0] for r in records], dtype=torch.float64)
    y = torch.tensor([float(r.right) for r in records], dtype=torch.float64)
    weights = torch.zeros(x.shape[1], dtype=torch.float64)
    decay = 1e-2 * torch.eye(x.shape[1], dtype=torch.float64)
    for _ in range(50):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (p - y) + decay @ weights
        hessian = (x * (p * (1 - p)).unsqueeze(1)).T @ x + decay
        weights = weights - torch.linalg.solve(hessian, gradient)
    values = [float(w) for w in weights]
    return Confidence((values[0], values[1], values[2]), values[3])


def calibration_error(
    given: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error: |confidence - share right|, weighted over equal-sized bins."""
    parts = np.array_split(np.argsort(given), bins)
    gaps = [len(p) * abs(given[p].mean() - right[p].mean()) for p in parts if len(p)]
    return float(sum(gaps) / len(given))


def coverage_curve(given: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """For each threshold the share that would be shown, and how much of that is right."""
    points = []
    for threshold in THRESHOLDS:
        shown = given >= threshold
        share_right = float(right[shown].mean()) if shown.any() else 0.0
        points.append(
            {
                "threshold": threshold,
                "coverage": round(float(shown.mean()), 4),
                "right": round(share_right, 4),
            }
        )
    return points


def fit_confidence(model: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Fit on every second record, judge on the others, keep the fit of all; the manifest's facts."""
    if len(records) < FEWEST:
        raise SystemExit(f"{len(records)} records are too few to fit on; at least {FEWEST}")
    half = fit(records[::2])
    unseen = records[1::2]
    given = np.array([half.of(r.logprobs) for r in unseen])
    right = np.array([r.right for r in unseen])
    whole = fit(records)
    assert whole.weights is not None
    facts = {
        "weights": dict(zip(FEATURES, whole.weights, strict=True)),
        "bias": whole.bias,
        "records": len(records),
        "right": round(float(right.mean()), 4),
        "calibration_error": round(calibration_error(given, right), 4),
        "curve": coverage_curve(given, right),
    }
    refresh_manifest(model, {"confidence": facts})
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True)
    args = parser.parse_args()
    print(json.dumps(fit_confidence(args.model, read_records(args.records))))


if __name__ == "__main__":
    main()

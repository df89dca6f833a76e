import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from qcoder.model.confidence import Confidence
from qcoder.training.confidence import (
    Record,
    calibration_error,
    coverage_curve,
    fit,
    fit_confidence,
    read_records,
)


def drawn_records(count: int, seed: int) -> list[Record]:
    """Texts that are right with the square root of the probability that the model gives them."""
    rng = random.Random(seed)
    records = []
    for _ in range(count):
        logprobs = tuple(-rng.expovariate(1.5) for _ in range(rng.randint(1, 6)))
        records.append(Record(logprobs, rng.random() < math.exp(0.5 * sum(logprobs))))
    return records


def test_the_fit_is_calibrated_where_the_raw_probability_is_not() -> None:
    fitted, unseen = fit(drawn_records(4000, 1)), drawn_records(4000, 2)
    right = np.array([r.right for r in unseen])
    given = np.array([fitted.of(r.logprobs) for r in unseen])
    raw = np.array([math.exp(sum(r.logprobs)) for r in unseen])
    assert calibration_error(given, right) < 0.04
    assert calibration_error(raw, right) > 0.1


def test_the_curve_falls_in_coverage_and_names_what_is_right() -> None:
    given = np.array([0.1, 0.3, 0.6, 0.9])
    curve = coverage_curve(given, np.array([False, False, True, True]))
    assert curve[0] == {"threshold": 0.05, "coverage": 1.0, "right": 0.5}
    assert [p["coverage"] for p in curve] == sorted((p["coverage"] for p in curve), reverse=True)
    assert next(p for p in curve if p["threshold"] == 0.5)["right"] == 1.0


def test_the_manifest_keeps_the_fit(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.json").write_text('{"name": "x"}')
    facts = fit_confidence(tmp_path, drawn_records(400, 3))
    manifest = json.loads((tmp_path / "MANIFEST.json").read_text())
    assert manifest["name"] == "x"
    assert manifest["confidence"] == facts
    assert Confidence.from_manifest(manifest).weights is not None


def test_too_few_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="7 records are too few"):
        fit_confidence(tmp_path, drawn_records(7, 0))


def test_records_of_nothing_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    rows = [{"logprobs": [-1.0], "right": True}, {"logprobs": [], "right": False}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert read_records(file) == [Record((-1.0,), True)]

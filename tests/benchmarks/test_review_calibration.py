"""Thresholds of doubt, and the bugs that lines of other languages are changed into."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(params=["review_calibration", "review_languages"])
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(request.param)


@pytest.mark.parametrize("script", ["review_calibration"], indirect=True)
@pytest.mark.parametrize(
    ("nats", "allowed", "threshold"),
    [
        ([], 1.0, 3.0),
        ([4.0], 1.0, 3.0),
        ([4.0, 9.0, 6.0], 1.0, 6.05),
        ([4.0, 9.0, 6.0], 0.4, 9.05),
    ],
)
def test_the_threshold_is_the_least_within_the_budget(
    script: ModuleType, nats: list[float], allowed: float, threshold: float
) -> None:
    assert script.threshold_of(nats, allowed, 3.0) == pytest.approx(threshold, abs=0.06)
    assert sum(n >= threshold for n in nats) <= allowed


GO = """func f(p string) error {
    file, err := os.Open(p)
    defer file.Close()
    m.Lock()
    defer m.Unlock()
    for i := 0; i < len(xs); i++ {
        use(xs[i])
    }
    defer other.Close()
}
"""


@pytest.mark.parametrize("script", ["review_languages"], indirect=True)
def test_bugs_are_lines_that_are_gone_or_changed(script: ModuleType) -> None:
    made = list(script.bugs(GO, script.GO))
    closes = [text for kind, text in made if kind == "close-deleted"]
    assert "defer file.Close()" not in closes[0]
    assert "defer m.Unlock()" not in dict(made)["unlock-deleted"]
    assert "i <= len(xs); i++" in dict(made)["off-by-one"]
    script_bugs = dict(script.bugs("async f() {\n  await this.save();\n}\n", script.SCRIPT))
    assert script_bugs == {"await-removed": "async f() {\n  this.save();\n}\n"}

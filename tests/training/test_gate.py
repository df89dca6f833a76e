import numpy as np
import torch

from qcoder.model.mixture import FEATURES, SOURCES
from qcoder.training.gate import Places, fit, measure
from qcoder.training.traces import CANDIDATES, HoleTraces, Steps, Trace, likeliest, of_copy


def trace_of_two_sources(tokens: int, seed: int) -> Trace:
    """The network is right on even tokens, the local copy on odd ones; a feature tells which."""
    rng = np.random.default_rng(seed)
    features = np.zeros((tokens, FEATURES), np.float32)
    present = np.ones((tokens, SOURCES), np.bool_)
    present[:, 2] = False
    candidates = rng.random((tokens, CANDIDATES, SOURCES)).astype(np.float32) * 0.02
    for i in range(tokens):
        features[i, 0] = i % 2
        candidates[i, 1, :2] = 0.6
        candidates[i, 1, i % 2] = 0.1
        candidates[i, 0, i % 2] = 0.5
    candidates[:, :, 2] = 0
    text = "ab c\n" * (tokens // 4)
    starts = np.array([5 * (i // 4) + (0, 1, 3, 4)[i % 4] for i in range(tokens)])
    return Trace(text, starts, Steps(features, present, candidates))


def test_the_gate_learns_which_source_to_trust() -> None:
    places = Places([trace_of_two_sources(40, 0), trace_of_two_sources(80, 1)])
    assert len(places.lines) == 30
    assert all(len(line) == 3 for line in places.lines)
    figures = measure(places, fit(places, steps=150))
    assert figures["network_whole_line_exact"] == 0.0
    assert figures["mixture_whole_line_exact"] == 1.0
    assert figures["mixture_nats"] < figures["network_nats"]


def test_the_true_token_is_the_first_candidate() -> None:
    network = np.linspace(0, 1, 50, dtype=np.float32)
    rows = likeliest(network, (None, None), truth=3)
    assert rows[0] == 3
    assert sorted(rows[1:]) == [44, 45, 46, 47, 48, 49]
    assert of_copy(None, rows) == [0.0] * 7


def test_lines_are_drawn_whole() -> None:
    places = Places([trace_of_two_sources(40, 0)])
    rows, numbers = places.draw(5, np.random.default_rng(0))
    assert len(rows) == len(numbers) == 15
    assert torch.equal(numbers.bincount(), torch.full((5,), 3))


def test_half_of_the_lines_are_holes() -> None:
    trace = trace_of_two_sources(40, 0)
    whole = trace.steps
    steps = Steps(whole.features[:16], whole.present[:16], whole.candidates[:16])
    holes = HoleTraces(np.array([4, 12]), steps)
    places = Places([trace], holes)
    assert [(int(hole[0]), len(hole)) for hole in places.holes] == [(40, 4), (44, 12)]
    rows, numbers = places.draw(7, np.random.default_rng(0))
    of_holes = numbers[rows >= 40].unique()
    assert of_holes.tolist() == [0, 1, 2]
    assert set(numbers.bincount()[:3].tolist()) <= {4, 12}
    assert set(measure(places, fit(places, steps=2))) == {
        *("network_nats", "network_whole_line_exact", "network_hole_exact"),
        *("mixture_nats", "mixture_whole_line_exact", "mixture_hole_exact"),
    }

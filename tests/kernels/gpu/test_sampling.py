"""Choosing tokens on a GPU: the same ties, the same filters, the same distribution as the sampler."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from qcoder.kernels.gpu import sampling
from qcoder.kernels.gpu.sampling import (
    GpuSampling,
    argmax,
    argmax_reference,
    kept_probabilities,
    sample,
    sample_reference,
)
from qcoder.model.request import SamplingParams
from qcoder.model.sampler import sample as sample_on_cpu


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of a small vocabulary."""
    for name in ("BEST", "ARGMAX", "CHOOSE"):
        monkeypatch.setattr(sampling, name, replace(getattr(sampling, name), block_n=128))


def draws(
    uniform: Tensor,
    temperature: float = 1.0,
    top_k: int = 64,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> GpuSampling:
    def all_of(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full((len(uniform),), value, dtype=dtype)

    return GpuSampling(
        all_of(temperature),
        all_of(top_k, torch.int32),
        all_of(top_p),
        all_of(min_p),
        uniform.float(),
    )


def grid(count: int) -> Tensor:
    """Chances that cover [0, 1) evenly: the share of draws is the probability, up to one draw."""
    return (torch.arange(count) + 0.5) / count


@pytest.mark.parametrize("vocabulary", [1, 127, 128, 300])
def test_argmax_is_the_lowest_of_the_greatest(vocabulary: int) -> None:
    torch.manual_seed(vocabulary)
    logits = torch.randn(5, vocabulary).mul(3).round()  # many ties
    logits[1] = 0.0
    logits[2] = torch.tensor([-0.0, 0.0]).repeat(vocabulary)[:vocabulary]
    logits[3] -= 100
    ids, logprobs = argmax(logits)
    expected, expected_logprobs = argmax_reference(logits)
    assert ids.tolist() == expected.tolist() == logits.argmax(-1).tolist()
    assert torch.allclose(logprobs, expected_logprobs, atol=1e-5)


def test_ids_go_where_they_are_wanted() -> None:
    out = torch.zeros(2, dtype=torch.int64)
    assert argmax(torch.eye(2, 300), out)[0] is out
    assert out.tolist() == [0, 1]


FILTERS = [
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
    {"temperature": 1.0, "top_k": 40, "top_p": 0.95},
    {"temperature": 1.3, "top_k": 64},
    {"temperature": 0.3, "top_k": 7, "min_p": 0.1},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 0.9, "top_k": 5, "top_p": 0.01},
]


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_draws_are_those_of_the_reference(step: float) -> None:
    torch.manual_seed(3)
    logits = torch.randn(len(FILTERS), 200) * 3
    if step:
        logits = (logits / step).round() * step  # ties, also at the border of top-k
    each = [draws(torch.rand(1), **filters) for filters in FILTERS]
    names = [field.name for field in fields(GpuSampling)]
    chances = GpuSampling(*(torch.cat([getattr(one, name) for one in each]) for name in names))
    ids, logprobs = sample(logits, chances)
    expected, expected_logprobs = sample_reference(logits, chances)
    assert ids.tolist() == expected.tolist()
    assert torch.allclose(logprobs, expected_logprobs, atol=1e-5)


@pytest.mark.parametrize("filters", FILTERS)
def test_reference_keeps_what_the_sampler_keeps(filters: dict[str, float]) -> None:
    torch.manual_seed(4)
    logits = (torch.randn(300) * 4).round() / 2
    order, probabilities = kept_probabilities(
        logits, filters["temperature"], int(filters["top_k"]), filters.get("top_p", 1.0),
        filters.get("min_p", 0.0),
    )  # fmt: skip
    params = SamplingParams(**filters)  # type: ignore[arg-type]
    rng, counts = np.random.default_rng(0), np.zeros(300)
    logprobs = torch.log_softmax(logits, 0).numpy()
    for _ in range(2000):
        counts[sample_on_cpu(logprobs, params, [], rng)] += 1
    assert set(np.flatnonzero(counts)) <= set(order.tolist())
    assert chi_square(counts[order.numpy()], probabilities.numpy()) < 1


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """The statistic as a share of what one of a thousand right samplers exceeds."""
    expected = counts.sum() * probabilities
    rare = expected < 5  # taken together, as the approximation asks for
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-9))
    freedom = max(len(counts) - 1, 1)
    limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * np.sqrt(2 / (9 * freedom))) ** 3
    return float(((counts - expected) ** 2 / np.maximum(expected, 5)).sum() / limit)


def test_even_chances_give_each_token_its_share() -> None:
    logits = torch.tensor([[0.1, 2.0, 1.0, -1.0, 1.5, 0.9]]).repeat(12, 1)
    ids, _ = sample(logits, draws(grid(12), 0.8, 4, 0.95))
    order, probabilities = kept_probabilities(logits[0], 0.8, 4, 0.95, 0.0)
    counts = torch.bincount(ids.long(), minlength=6)
    assert counts[order].sum() == 12
    assert float((counts[order] - 12 * probabilities).abs().max()) <= 1


@pytest.mark.parametrize(("tied", "top_p"), [(70, 1.0), (150, 0.5)])
def test_more_ties_than_the_lists_hold_are_all_kept(tied: int, top_p: float) -> None:
    torch.manual_seed(tied)
    logits = torch.full((1, 200), -5.0)
    logits[0, torch.randperm(200)[:tied]] = 1.0
    logits[0, 150] = 2.0
    chances = draws(torch.tensor([0.01, 0.3, 0.6, 0.99]), 1.0, 3, top_p)
    ids, logprobs = sample(logits.repeat(4, 1), chances)
    expected, expected_logprobs = sample_reference(logits.repeat(4, 1), chances)
    assert ids.tolist() == expected.tolist()
    assert len(set(ids.tolist())) == 4
    assert torch.allclose(logprobs, expected_logprobs, atol=1e-5)


def test_cold_tokens_are_greedy_beside_warm_ones() -> None:
    torch.manual_seed(8)
    logits = torch.randn(4, 100)
    chances = draws(torch.full((4,), 0.999), 2.0, 5)
    chances.temperature[::2] = 0.0
    ids, _ = sample(logits, chances)
    greedy = logits.argmax(-1)
    assert (ids == greedy).tolist() == [True, False, True, False]


def test_ruled_out_tokens_are_never_drawn() -> None:
    logits = torch.full((6, 200), float("-inf"))
    logits[:, [5, 150, 199]] = torch.tensor([1.0, 0.5, 1.0])
    ids, logprobs = sample(logits, draws(grid(6), 1.0, 7))
    assert set(ids.tolist()) == {5, 150, 199}
    assert bool(logprobs.isfinite().all())

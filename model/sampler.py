"""Choice of the next token from log-probabilities [vocab], as small pure functions on numpy arrays.

Order: repetition penalty, temperature, top-k, top-p, min-p, draw. Temperature 0 is argmax after the
repetition penalty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcoder.model.request import SamplingParams

FloatArray = NDArray[np.float32]

COLDEST = 1e-4
"""Temperatures below are greedy: they could not be told apart and would overflow float32."""


def sample(
    logprobs: FloatArray, params: SamplingParams, seen: Sequence[int], rng: np.random.Generator
) -> int:
    """Id of the next token; `seen` are the tokens of the generation so far."""
    if params.repetition_penalty != 1.0:
        logprobs = penalize(logprobs, seen, params.repetition_penalty)
    if params.temperature < COLDEST:
        return int(logprobs.argmax())
    scores = logprobs / params.temperature
    scores = keep_top_p(keep_top_k(scores, params.top_k), params.top_p)
    scores = keep_min_p(scores, params.min_p)
    probabilities = np.exp(scores - scores.max())
    probabilities = probabilities.astype(np.float64)
    return int(rng.choice(len(probabilities), p=probabilities / probabilities.sum()))


def penalize(logprobs: FloatArray, seen: Sequence[int], penalty: float) -> FloatArray:
    """Lower the log-probabilities of seen tokens by log(penalty)."""
    if not seen:
        return logprobs
    out = logprobs.copy()
    out[np.unique(np.asarray(seen))] -= np.log(penalty)
    return out


def keep_top_k(scores: FloatArray, k: int) -> FloatArray:
    """Only the k greatest stay; 0 keeps all. Ties at the border stay as well."""
    if k == 0 or k >= len(scores):
        return scores
    border = np.partition(scores, -k)[-k]
    return np.where(scores >= border, scores, -np.inf).astype(np.float32)


def keep_top_p(scores: FloatArray, p: float) -> FloatArray:
    """The smallest set of most probable tokens whose probabilities reach p; 1.0 keeps all."""
    if p >= 1.0:
        return scores
    order = np.argsort(-scores, kind="stable")
    probabilities = np.exp(scores[order] - scores[order[0]])
    before = np.cumsum(probabilities) - probabilities
    out = np.full_like(scores, -np.inf)
    kept = order[before < p * probabilities.sum()]
    out[kept] = scores[kept]
    return out


def keep_min_p(scores: FloatArray, p: float) -> FloatArray:
    """Tokens at least p times as probable as the most probable one; 0 keeps all."""
    if p <= 0:
        return scores
    return np.where(scores >= scores.max() + np.log(p), scores, -np.inf).astype(np.float32)

"""How sure a model is of a whole suggestion, as a probability that it is exactly right.

A logistic function of the log-probabilities of the suggestion's tokens, fitted on held-out holes
that were filled the way the product fills them (`training/confidence.py`) and kept in the model's
MANIFEST.json. A model without one gets the geometric mean of its token probabilities instead: it
orders suggestions, but is no probability of being right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qcoder.model.errors import CheckpointError

MIN_TOKENS = 4
"""A mean of fewer tokens says little about the mean of all."""

FEATURES = ("sum", "lowest", "log_tokens")
LEAST = -30.0
"""Log-probabilities below are all the same: hopeless."""


def features(logprobs: Sequence[float]) -> tuple[float, float, float]:
    """What the function sees of natural log-probabilities, one a token; at least one."""
    return (
        max(sum(logprobs), LEAST),
        max(min(logprobs), LEAST),
        math.log(len(logprobs)),
    )


@dataclass(frozen=True, slots=True)
class Confidence:
    """`weights` of FEATURES and `bias` of the logistic function; None: not calibrated."""

    weights: tuple[float, float, float] | None = None
    bias: float = 0.0

    @staticmethod
    def from_manifest(manifest: dict[str, Any], file: str = "MANIFEST.json") -> Confidence:
        """The function in a model's manifest; raises `CheckpointError` if it is malformed."""
        facts = manifest.get("confidence")
        if facts is None:
            return Confidence()
        try:
            weights = tuple(float(facts["weights"][name]) for name in FEATURES)
            bias = float(facts["bias"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{file}: 'confidence' needs 'bias' and 'weights' of {', '.join(FEATURES)}; "
                "fit it again with qcoder.training.confidence"
            ) from error
        return Confidence((weights[0], weights[1], weights[2]), bias)

    def of(self, logprobs: Sequence[float]) -> float:
        """Confidence in tokens with these natural log-probabilities; 0 without any."""
        if not logprobs:
            return 0.0
        if self.weights is None:
            return math.exp(sum(logprobs) / len(logprobs))
        pairs = zip(self.weights, features(logprobs), strict=True)
        score = self.bias + sum(w * f for w, f in pairs)
        return 1 / (1 + math.exp(min(-score, 700.0)))

    def ceiling(self, logprobs: Sequence[float], most_tokens: int) -> float:
        """What the confidence may still become, at most, if up to `most_tokens` follow; 1 before any.

        Further tokens only lower sum and minimum, so the calibrated bound is exact. A geometric mean
        may recover; one of several tokens that began badly rarely does, so it is its own bound.
        """
        if not logprobs:
            return 1.0
        if self.weights is None:
            return self.of(logprobs) if len(logprobs) >= MIN_TOKENS else 1.0
        if min(self.weights[:2]) < 0:
            return 1.0
        longest = max(len(logprobs), most_tokens)
        total, lowest, now = features(logprobs)
        most = max(self.weights[2] * now, self.weights[2] * math.log(longest))
        score = self.bias + self.weights[0] * total + self.weights[1] * lowest + most
        return 1 / (1 + math.exp(min(-score, 700.0)))

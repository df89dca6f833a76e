"""The rotary part of `config.json`: base, YaRN, and the part of a head that rotates.

Two styles: `rope_theta` and `rope_scaling` beside each other (the hub), or both in
`rope_parameters` (transformers 5). The mathematics is `kernels/rotary.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qcoder.kernels.rotary import Yarn

DEFAULT_THETA = 1e4


def read_theta(data: Mapping[str, Any]) -> float:
    """The base of the frequencies."""
    return float(_rope(data).get("rope_theta") or data.get("rope_theta") or DEFAULT_THETA)


def read_partial(data: Mapping[str, Any], default: float) -> float:
    """The share of a head that rotates."""
    found = _rope(data).get("partial_rotary_factor", data.get("partial_rotary_factor"))
    share = default if found is None else float(found)
    if not 0 < share <= 1:
        raise ValueError(f"partial_rotary_factor {share} is not between 0 and 1")
    return share


def read_yarn(data: Mapping[str, Any]) -> Yarn | None:
    """The context extension that a checkpoint comes with; raises ValueError for another kind."""
    rope = _rope(data)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise ValueError(f"rope scaling {kind!r} is not supported by this version; only yarn is")
    longest = int(data["max_position_embeddings"])
    original = int(rope.get("original_max_position_embeddings") or longest)
    factor = rope.get("factor")
    factor = longest / original if factor is None else float(factor)
    return Yarn(
        factor=factor,
        original_context=original,
        beta_fast=float(rope.get("beta_fast") or 32),
        beta_slow=float(rope.get("beta_slow") or 1),
        attention_factor=_attention_factor(rope, factor),
        truncate=bool(rope.get("truncate", True)),
    )


def extended_length(yarn: Yarn) -> int:
    """Tokens that the extension is meant for."""
    return int(yarn.original_context * yarn.factor)


def _rope(data: Mapping[str, Any]) -> Mapping[str, Any]:
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"rope parameters {rope!r} are no object")
    return rope


def _attention_factor(rope: Mapping[str, Any], factor: float) -> float | None:
    """The given factor, or the quotient that `mscale` and `mscale_all_dim` stand for."""
    given, over, under = (
        rope.get(name) for name in ("attention_factor", "mscale", "mscale_all_dim")
    )
    if given is not None:
        return float(given)
    if not over or not under:
        return None
    logarithm = 0.1 * math.log(factor) if factor > 1 else 0.0
    return (logarithm * float(over) + 1) / (logarithm * float(under) + 1)

"""Token statistics for the copy model (under construction by its owner; the interface is fixed)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SuffixTable:
    """Sorted suffixes of a token sequence, for longest-match lookups."""

    ids: NDArray[np.int32]
    order: NDArray[np.int32]
    weight: float = 1.0

    @staticmethod
    def build(ids: Sequence[int] | NDArray[np.int32], weight: float = 1.0) -> SuffixTable:
        """Sort the suffixes of `ids` by their first tokens."""
        array = np.asarray(ids, dtype=np.int32)
        return SuffixTable(array, np.argsort(array, kind="stable").astype(np.int32), weight)

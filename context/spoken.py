"""Which names say what the lines at the cursor speak of: `info_cache = objects.` of `InstanceInfoCache`.

A name is cut into its words (`InstanceInfoCache`: instance, info, cache). Words that many candidates
have count less, words that stand near the cursor count more.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_SPAN = 10
_SMOOTHING = 2.0


class Spoken:
    """The words near a cursor, against the candidates' names.

    `near` maps names to how many identifiers lie between them and the cursor.
    """

    def __init__(self, near: Mapping[str, int], names: Iterable[str]) -> None:
        self._closeness: dict[str, float] = {}
        for name, distance in near.items():
            closeness = 1 / (1 + distance / _SPAN)
            for word in words_of(name):
                if closeness > self._closeness.get(word, 0.0):
                    self._closeness[word] = closeness
        count, candidates = Counter[str](), 0
        for name in names if self._closeness else ():
            candidates += 1
            count.update(words_of(name))
        self._rarity = {word: math.log((1 + candidates) / number) for word, number in count.items()}

    def share(self, name: str) -> float:
        """How much of a name (0 to 1) the lines at the cursor speak of."""
        words = words_of(name)
        if self._closeness.keys().isdisjoint(words):
            return 0.0
        rarity_of, closeness_of = self._rarity.get, self._closeness.get
        said = total = 0.0
        for word in words:
            rarity = rarity_of(word, 1.0)
            total += rarity
            said += rarity * closeness_of(word, 0.0)
        return said / (total + _SMOOTHING) if said else 0.0


@lru_cache(maxsize=1 << 16)
def words_of(name: str) -> frozenset[str]:
    """The words of a name, in lower case and without a plural's ending."""
    return frozenset(map(_singular, map(str.lower, _WORD.findall(name))))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == "s" != word[-2] else word

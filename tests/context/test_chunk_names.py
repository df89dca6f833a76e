"""Names that a file shares with the cursor: found through buckets, the same as one by one."""

import random
import string

import numpy as np
import pytest

from qcoder.context.chunks import _marked, _shared


def names_of(count: int, rng: random.Random) -> tuple[str, ...]:
    """Different short names; short ones share buckets as easily as long ones."""
    letters = string.ascii_letters + "_éß名"
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(letters, k=rng.randint(1, 4)))] = None
    return tuple(found)


@pytest.mark.parametrize("count", [0, 1, 7, 300, 20_000])
@pytest.mark.parametrize("wanted", [0, 1, 50, 3000])
def test_buckets_find_what_a_look_at_each_name_finds(count: int, wanted: int) -> None:
    rng = random.Random(count + wanted)
    identifiers = names_of(count, rng)
    asked = [*names_of(wanted, rng), *identifiers[::5]]
    weights = {name: rng.random() + 0.1 for name in asked}
    found = _shared(identifiers, weights, _marked(weights))
    assert np.array_equal(found, [weights.get(name, 0.0) for name in identifiers])

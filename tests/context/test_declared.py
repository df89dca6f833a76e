"""What texts declare of a name."""

from __future__ import annotations

import random
import re

from qcoder.context.declared import named_as

PLAIN = re.compile(r"([^\n]{1,120})\bas\s+x\b")
"""The same in plain words; it is tried at every place of a text."""

PARTS = ["with a as x", " as x", "as x", "\n", " as\n x", "b, ", "as xy", "\nas x", "\u00e9"]


def test_what_a_line_calls_a_name_is_found_as_by_a_plain_pattern() -> None:
    rng = random.Random(3)
    found = 0
    for _ in range(2000):
        parts = [*PARTS, "y" * rng.choice([1, 50, 110, 119, 120, 121, 130])]
        text = "".join(rng.choices(parts, k=rng.randint(1, 14)))
        expected = [(match.start(), match.group(1)) for match in PLAIN.finditer(text)]
        assert list(named_as("x", text)) == expected, text
        found += len(expected)
    assert found > 1000

"""Names and where they occur: the fast way and the plain way say the same."""

from __future__ import annotations

import random

import pytest

from qcoder.context.words import CHUNK_LINES, chunk_positions, chunk_words, identifiers_of

TEXTS = [
    "",
    "a\n",
    "def load(x1, _private, 3abc, ab):\r\n    return load_all(x1)\n",
    "größe = naïve_name + x²\n",
    "0x1F 12ab ___ _12 a.bcd->efg\n",
    "one\n" * 63 + "two\n" * 21,
]


@pytest.mark.parametrize("text", TEXTS)
def test_names_are_those_of_the_expression(text: str) -> None:
    joined, chunks = chunk_words(text)
    names = joined.split()
    assert names == list(dict.fromkeys(identifiers_of(text)))
    for number, chunk in enumerate(chunks):
        lines = text.split("\n")[number * CHUNK_LINES : (number + 1) * CHUNK_LINES]
        shown = [names[position] for position in chunk_positions(chunk)]
        assert len(shown) == len(set(shown))
        assert set(shown) == set(identifiers_of("\n".join(lines)))


def test_ascii_and_other_texts_are_cut_alike() -> None:
    rng = random.Random(5)
    for _ in range(50):
        text = "".join(rng.choice("ab_9 .\n\r\t(x") for _ in range(257))
        plain_names, plain_chunks = chunk_words(text)
        # A comment that is not ASCII sends the same text through the other way.
        names, chunks = chunk_words(text + "\n" * CHUNK_LINES + "# é")
        assert names == plain_names
        for plain, other in zip(plain_chunks, chunks, strict=False):
            assert sorted(chunk_positions(plain)) == sorted(chunk_positions(other))

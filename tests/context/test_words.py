"""Names and where they occur: the fast way and the plain way say the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from qcoder.context import words
from qcoder.context.words import (
    CHUNK_LINES,
    chunk_positions,
    chunk_words,
    identifiers_of,
    plain_chunk_words,
)

Cut = Callable[[str], tuple[str, list[bytes]]]

TEXTS = [
    "",
    "a\n",
    "def load(x1, _private, 3abc, ab):\r\n    return load_all(x1)\n",
    "größe = naïve_name + x²\n",
    "0x1F 12ab ___ _12 a.bcd->efg\n",
    "one\n" * 63 + "two\n" * 21,
]


@pytest.mark.parametrize("cut", [chunk_words, plain_chunk_words])
@pytest.mark.parametrize("text", TEXTS)
def test_names_are_those_of_the_expression(text: str, cut: Cut) -> None:
    joined, chunks = cut(text)
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
        plain_names, plain_chunks = plain_chunk_words(text)
        # A comment that is not ASCII sends the same text through the other way.
        names, chunks = plain_chunk_words(text + "\n" * CHUNK_LINES + "# é")
        assert names == plain_names
        for plain, other in zip(plain_chunks, chunks, strict=False):
            assert sorted(chunk_positions(plain)) == sorted(chunk_positions(other))


@pytest.mark.skipif(words._library() is None, reason="words.cpp was not compiled here")
def test_compiled_code_says_the_same() -> None:
    rng = random.Random(6)
    alphabet = 'ab_Z9 .\n"(é—世界٣ªⅷ²🙂\x85\u2028\ud800\u0301\0'
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(80))) for _ in range(2000)]
    texts += [" ".join(f"name{n}" for n in range(66_000)), "word " * 3000, "x" * 5000]
    for text in texts:
        (names, chunks), (plain_names, plain_chunks) = chunk_words(text), plain_chunk_words(text)
        assert names == plain_names
        assert [sorted(chunk_positions(c)) for c in chunks] == [
            sorted(chunk_positions(c)) for c in plain_chunks
        ]


def test_a_library_that_does_not_load_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"_words{words._SUFFIXES[0]}").write_bytes(b"no library")
    monkeypatch.setattr(words, "__file__", str(tmp_path / "words.py"))
    assert words._library.__wrapped__() is None

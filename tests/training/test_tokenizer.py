"""What the trained tokenizer has to share with Qwen's, and that it loses no text."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from qcoder.training.items import Corpus
from qcoder.training.tokenizer import RESERVED, SPECIAL, sample, train


@pytest.fixture(scope="module")
def tokenizer(corpus_folder: Path) -> Tokenizer:
    return train(Corpus(corpus_folder), 400, megabytes=1)


def test_special_tokens_are_the_first_ids_under_qwens_names(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id_to_token(i) for i in range(len(SPECIAL))] == SPECIAL
    assert tokenizer.id_to_token(RESERVED - 1) == f"<|reserved_{RESERVED - 1}|>"
    assert not (tokenizer.id_to_token(RESERVED) or "").startswith("<|")
    assert tokenizer.get_vocab_size() <= 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\r\n\t x",
        "größe ≤ 漢字 🙂",
        "def f(x):\n\n    return x  \n",
        "a" * 257,
        "\x00\x7f",
    ],
)
def test_every_text_survives(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_digits_and_line_ends_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("x = 2026\ny", add_special_tokens=False).tokens
    assert tokens[-6:] == ["2", "0", "2", "6", "Ċ", "y"]


def test_sample_is_seeded_and_keeps_to_its_size(corpus_folder: Path) -> None:
    corpus = Corpus(corpus_folder)
    first = list(sample(corpus, 0.002, seed=1))
    assert first == list(sample(corpus, 0.002, seed=1))
    longest = max(len(source.text) for rows in corpus.files.values() for source in rows)
    assert sum(map(len, first)) <= 2000 + longest * len(corpus.files)

"""Trains the default model's tokenizer: byte-level BPE with Qwen's pretokenizer and special names.

The pretokenizer pattern is Qwen2's, unchanged, so that one prompt path serves the default model and
the real family. Ids 0-31 are special tokens; unused ones are reserved.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from qcoder.training.items import LANGUAGE_SHARE, Corpus

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
]
RESERVED = 32


def sample(corpus: Corpus, megabytes: float, seed: int) -> Iterator[str]:
    """Texts of the corpus in the training mix."""
    rng = random.Random(seed)
    for language, share in LANGUAGE_SHARE.items():
        left = int(megabytes * 1e6 * share)
        files = corpus.files[language][:]
        rng.shuffle(files)
        for source in files:
            if left <= 0:
                break
            text = source.text[:20_000]
            left -= len(text)
            yield text


def train(corpus: Corpus, vocab_size: int, megabytes: float = 25.0, seed: int = 0) -> Tokenizer:
    """A byte-level BPE tokenizer with `vocab_size` ids, special ones included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = SPECIAL + [f"<|reserved_{i}|>" for i in range(len(SPECIAL), RESERVED)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(n, special=True, normalized=False) for n in names],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=True,
    )
    tokenizer.train_from_iterator(sample(corpus, megabytes, seed), trainer)
    return tokenizer


def main() -> None:
    """Command line: `python -m qcoder.training.tokenizer --corpus DIR --output tokenizer.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, default=8192)
    args = parser.parse_args()
    train(Corpus(args.corpus), args.vocab_size).save(str(args.output))


if __name__ == "__main__":
    main()

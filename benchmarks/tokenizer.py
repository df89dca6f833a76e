"""How many bytes of source text a token of the default model stands for.

    python -P benchmarks/tokenizer.py --format json
    python -P benchmarks/tokenizer.py --corpus CORPUS --format json

Measured on the development repositories of `qcoder.training.heldout`, which no tokenizer was
trained on, or on other repositories with `--root DIR --files LIST` as `default_model.py` takes them.
`--corpus` also trains tokenizers of 8,192 and 16,384 tokens on one sample of that corpus, for the trade
between both sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from qcoder.model.bench_report import report
from qcoder.model.registry import find_model
from qcoder.training.heldout import HeldOut, HeldOutError, SourceFile, development, listed
from qcoder.training.items import Corpus
from qcoder.training.tokenizer import train

COMPARED_SIZES = (8192, 16384)


def bytes_a_token(tokenizer: Tokenizer, files: list[SourceFile]) -> float:
    """Bytes of all files divided by their tokens."""
    texts = [file.text for file in files]
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return sum(len(text.encode()) for text in texts) / sum(len(one.ids) for one in encoded)


def measure(tokenizers: Mapping[str, Tokenizer], held_out: HeldOut) -> dict[str, float]:
    """Figures named `TOKENIZER_LANGUAGE_bytes_per_token`."""
    figures = {}
    for name, tokenizer in tokenizers.items():
        for language in held_out.languages:
            files = [file for file in held_out.scored if file.language == language]
            figures[f"{name}_{language}_bytes_per_token"] = round(
                bytes_a_token(tokenizer, files), 3
            )
    return figures


def main() -> None:
    """Command line: see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, help="folder of qcoder.training.corpus")
    parser.add_argument("--root", type=Path, help="folder of other repositories")
    parser.add_argument("--files", type=Path, help="list of their files to read")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if (args.root is None) != (args.files is None):
        parser.error("--root and --files belong together")
    try:
        held_out = listed(args.root, args.files) if args.root else development()
    except HeldOutError as error:
        parser.error(str(error))
    tokenizers = {"shipped": Tokenizer.from_file(str(find_model("default") / "tokenizer.json"))}
    if args.corpus:
        corpus = Corpus(args.corpus)
        for size in COMPARED_SIZES:
            print(f"training a tokenizer of {size} tokens", file=sys.stderr)
            tokenizers[f"trained_{size}"] = train(corpus, size)
    figures = measure(tokenizers, held_out)
    if args.format == "json":
        print(json.dumps(report(figures, notes=held_out.notes), indent=1))
    else:
        print("\n".join(f"{figure:48} {value:.3f}" for figure, value in figures.items()))


if __name__ == "__main__":
    main()

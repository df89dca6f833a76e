"""How many bytes of source text a token of the default model stands for.

    python -P benchmarks/tokenizer.py --format json
    python -P benchmarks/tokenizer.py --corpus CORPUS --format json

Measured on the development repositories of `qcoder.training.heldout`, which no tokenizer was
trained on, or on other repositories with `--root DIR --files LIST` as `default_model.py` takes them.
`--corpus` also trains tokenizers of 8,192 and 16,384 tokens on one sample of that corpus and times forward and
backward passes of the nano network with both vocabularies (one thread, bfloat16, interleaved, the
median of five): bytes a token divided by seconds a token are the bytes learned from in a second.

`encode_speedup` is how many times as fast our tokenizer encodes all these files, one by one, as the
tokenizers library does with the same `tokenizer.json`: one thread, interleaved, median of five.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from qcoder.model.bench_report import report
from qcoder.model.registry import find_model
from qcoder.model.tokenizer import Tokenizer as OurTokenizer
from qcoder.training.heldout import HeldOut, HeldOutError, SourceFile, development, listed
from qcoder.training.items import Corpus
from qcoder.training.network import SIZES, Network
from qcoder.training.tokenizer import train

COMPARED_SIZES = (8192, 16384)
ROUNDS, ROWS, LENGTH = 5, 4, 512


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


def encode_speed(folder: Path, files: Sequence[SourceFile]) -> dict[str, float]:
    """Tokens a second of processor time, ours and the library's, and how they compare."""
    ours = OurTokenizer.load(folder)
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ways: dict[str, Callable[[str], object]] = {
        "encode": ours.encode,
        "encode_by_library": lambda text: library.encode(text, add_special_tokens=False).ids,
    }
    num_tokens = sum(len(ours.encode(file.text)) for file in files)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, encode in ways.items():
            begin = time.thread_time()
            for file in files:
                encode(file.text)
            times[name].append(time.thread_time() - begin)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    figures = {f"{name}_tokens_per_second": round(num_tokens / s) for name, s in seconds.items()}
    return figures | {"encode_speedup": round(seconds["encode_by_library"] / seconds["encode"], 2)}


def seconds_a_token() -> dict[int, float]:
    """Processor time of forward and backward pass, by size of the vocabulary."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    networks = {
        size: Network(replace(SIZES["nano"], vocab_size=size), LENGTH).bfloat16()
        for size in COMPARED_SIZES
    }
    times: dict[int, list[float]] = {size: [] for size in COMPARED_SIZES}
    # The first round warms up and does not count.
    for counts in (False, *[True] * ROUNDS):
        for size, network in networks.items():
            ids = torch.randint(size, (ROWS, LENGTH + 1))
            begin = time.process_time()
            loss, _, _ = network(ids[:, :-1], ids[:, 1:])
            loss.backward()
            if counts:
                times[size].append(time.process_time() - begin)
    return {size: statistics.median(found) / (ROWS * LENGTH) for size, found in times.items()}


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
    folder = find_model("default")
    tokenizers = {"shipped": Tokenizer.from_file(str(folder / "tokenizer.json"))}
    if args.corpus:
        corpus = Corpus(args.corpus)
        for size in COMPARED_SIZES:
            print(f"training a tokenizer of {size} tokens", file=sys.stderr)
            tokenizers[f"trained_{size}"] = train(corpus, size)
    figures = measure(tokenizers, held_out) | encode_speed(folder, held_out.scored)
    if args.corpus:
        for size, seconds in seconds_a_token().items():
            figures[f"trained_{size}_training_ms_per_token"] = round(seconds * 1e3, 4)
            for language in held_out.languages:
                density = figures[f"trained_{size}_{language}_bytes_per_token"]
                figures[f"trained_{size}_{language}_bytes_per_second"] = round(density / seconds)
    if args.format == "json":
        print(json.dumps(report(figures, notes=held_out.notes), indent=1))
    else:
        print("\n".join(f"{figure:48} {value:.3f}" for figure, value in figures.items()))


if __name__ == "__main__":
    main()

"""Is one model better than another on the same files? Figures of both, and a bootstrap of the difference.

Both models go through the same texts with the same tokenizer and the true history, so every line is
a pair. Lines of a file depend on one another; what is drawn with replacement are therefore runs of
neighbouring lines, and the difference counts only when 95 % of the draws agree on its sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcoder.model.engine import Engine
from qcoder.model.mixture import Mixture
from qcoder.model.ngram import SuffixTable
from qcoder.training.items import Source
from qcoder.training.traces import network_logprobs

RUN_LINES = 20
DRAWS = 2000
MIN_GAIN = 0.01
"""Bits per byte must fall by this share: less is not worth a model of one's own."""

NETWORK, MIXTURE = "network", "mixture"


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """One file of n tokens, `sizes` [n] bytes each.

    By source, NETWORK or MIXTURE: `bits` [n], -log2 of the probability of the true token, and
    `right` [n], whether the first choice was the true token.
    """

    text: str
    sizes: NDArray[np.int64]
    bits: dict[str, NDArray[np.float64]]
    right: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Per line of some files, in order: what one model made of it.

    bits [n] of all tokens that begin in it; size_bytes [n]; run [n] which run of neighbouring lines it
    is in; scored [n]: it has at least two tokens of text, so that it counts for exact match;
    whole, rest [n]: all tokens from its first word, or from its middle token, were the first choice.
    """

    bits: NDArray[np.float64]
    size_bytes: NDArray[np.int64]
    run: NDArray[np.int64]
    scored: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    rest: NDArray[np.bool_]
    right_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Averages of one model over all lines; shares are of 1."""

    token_accuracy: float
    bits_per_byte: float
    whole_line_exact: float
    rest_of_line_exact: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures by source before and after, and the difference of the mixture (after minus before).

    `interval` holds 95 % of the bootstrap's differences in bits per byte.
    """

    before: dict[str, Figures]
    after: dict[str, Figures]
    interval: tuple[float, float]
    lines: int

    @property
    def why_not(self) -> str:
        """What keeps the new model from being better; empty when it is."""
        old, new = self.before[MIXTURE], self.after[MIXTURE]
        if new.whole_line_exact < old.whole_line_exact:
            return (
                f"fewer whole lines are right: {old.whole_line_exact:.2%} before, "
                f"{new.whole_line_exact:.2%} after"
            )
        if self.interval[1] >= 0:
            return (
                f"bits per byte went from {old.bits_per_byte:.4f} to {new.bits_per_byte:.4f}, "
                "which may be chance"
            )
        if new.bits_per_byte > (1 - MIN_GAIN) * old.bits_per_byte:
            return f"bits per byte fell by less than {MIN_GAIN:.0%}"
        return ""


def compare(before: Sequence[Predicted], after: Sequence[Predicted], seed: int = 0) -> Comparison:
    """Compare what two models predicted of the same files."""
    old, new = (
        {source: lines_of(files, source) for source in (NETWORK, MIXTURE)}
        for files in (before, after)
    )
    first, second = old[MIXTURE], new[MIXTURE]
    assert np.array_equal(first.size_bytes, second.size_bytes), "these are different files"
    runs = first.run.max(initial=-1) + 1
    difference = np.bincount(first.run, second.bits - first.bits, minlength=runs)
    sizes = np.bincount(first.run, first.size_bytes, minlength=runs)
    drawn = np.random.default_rng(seed).integers(0, runs, (DRAWS, runs))
    changes = difference[drawn].sum(1) / np.maximum(sizes[drawn].sum(1), 1)
    low, high = np.quantile(changes, (0.025, 0.975))
    return Comparison(
        {source: figures_of(lines) for source, lines in old.items()},
        {source: figures_of(lines) for source, lines in new.items()},
        (float(low), float(high)),
        int(first.scored.sum()),
    )


def figures_of(lines: Lines) -> Figures:
    """Averages over lines."""
    scored = max(int(lines.scored.sum()), 1)
    return Figures(
        token_accuracy=lines.right_tokens / max(lines.tokens, 1),
        bits_per_byte=float(lines.bits.sum()) / max(int(lines.size_bytes.sum()), 1),
        whole_line_exact=float((lines.whole & lines.scored).sum()) / scored,
        rest_of_line_exact=float((lines.rest & lines.scored).sum()) / scored,
    )


def predict(engine: Engine, mixture: Mixture, table: SuffixTable | None, file: Source) -> Predicted:
    """Go through a file as if it were typed; `table`: the workspace, as the server has it."""
    tokenizer = engine.tokenizer
    header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(file.path + "\n")]
    body = tokenizer.encode(file.text)
    logprobs = network_logprobs(engine, [*header, *body], len(header), engine.info.max_context)
    state = mixture.start(header, (table,) if table is not None else ())
    mixed = np.zeros(len(body))
    mixed_right = np.zeros(len(body), dtype=np.bool_)
    for place, token in enumerate(body):
        blended = state.blend(logprobs[place]).logprobs
        mixed[place], mixed_right[place] = blended[token], blended.argmax() == token
        state.push(token)
    alone = logprobs[np.arange(len(body)), body].astype(np.float64)
    return Predicted(
        file.text,
        np.array([len(tokenizer.token_bytes(token)) for token in body], dtype=np.int64),
        {NETWORK: -alone / math.log(2), MIXTURE: -mixed / math.log(2)},
        {NETWORK: logprobs.argmax(-1) == np.array(body), MIXTURE: mixed_right},
    )


def lines_of(files: Sequence[Predicted], source: str) -> Lines:
    """One model's lines over all files."""
    rows: list[tuple[float, int, int, bool, bool, bool]] = []
    run = 0
    for file in files:
        bits, right = file.bits[source], file.right[source]
        for number, (first, past, inside, size) in enumerate(line_tokens(file)):
            rows.append(
                (
                    float(bits[first:past].sum()),
                    size,
                    run + number // RUN_LINES,
                    len(inside) > 1,
                    bool(right[inside].all()),
                    bool(right[inside[len(inside) // 2 :]].all()),
                )
            )
        run = rows[-1][2] + 1
    bits, sizes, runs, scored, whole, rest = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    right_tokens = sum(int(file.right[source].sum()) for file in files)
    tokens = sum(len(file.sizes) for file in files)
    return Lines(bits, sizes, runs, scored, whole, rest, right_tokens, tokens)


def line_tokens(file: Predicted) -> Iterator[tuple[int, int, NDArray[np.int64], int]]:
    """Of every line: its first token, the one past its last, its tokens of text, its bytes.

    A token belongs to the line that its first byte is in. A line's text begins with its first
    non-blank character; a token that begins in the blanks before it is part of the text.
    """
    ends = np.cumsum(file.sizes)
    starts = ends - file.sizes
    data, offset = file.text.encode("utf-8", "replace"), 0
    for line in data.split(b"\n"):
        begin, end = offset + len(line) - len(line.lstrip()), offset + len(line)
        inside = np.arange(np.searchsorted(ends, begin, side="right"), np.searchsorted(starts, end))
        inside = inside[: end - begin]  # a token that spans a blank line is no text of it
        first, past = np.searchsorted(starts, (offset, end + 1))
        yield int(first), int(past), inside, min(end + 1, len(data)) - offset
        offset = end + 1

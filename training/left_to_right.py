"""Evaluation from left to right: every token of a held-out file predicted from its true history.

Owns: going through a file with several predictors at once (`predict_file`) and the figures of a set
of files (`figures`): next-token accuracy, bits per byte, and whole lines and rests of lines of which
every token was predicted. Exact match with true history equals exact match of greedy decoding; which of
the tokens that end a line alike ends it does not matter. All predictors see the same history and the same
workspace, the repository's other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcoder.model.engine import Engine
from qcoder.model.line_ends import LineEnds
from qcoder.model.mixture import Mixture, MixtureState
from qcoder.model.ngram import SuffixTable
from qcoder.training.heldout import HeldOut, SourceFile
from qcoder.training.peers import (
    CopyModel,
    CountTable,
    NestedCache,
    Predictor,
    Probabilities,
)
from qcoder.training.traces import network_logprobs, token_starts

NETWORK, MIXTURE, COPY, NESTED, TRAINED = "network", "mixture", "copy", "nested", "trained"
Indices = NDArray[np.int64]
Encode = Callable[[str], list[int]]
MAX_CHARACTERS = 12_000
"""More of one file would only repeat its habits."""

WORKSPACE_TOKENS = 400_000
"""As many as the server's copy table of a workspace."""

MAX_WINDOW = 1024
"""Tokens that the network sees at once."""


class Replay:
    """The network: log-probabilities of every step, computed beforehand: [tokens, vocab]."""

    def __init__(self, logprobs: NDArray[np.float32]) -> None:
        self._logprobs, self._at = logprobs, 0

    def probabilities(self) -> Probabilities:
        """See `Predictor`."""
        return as_probabilities(self._logprobs[self._at])

    def push(self, token: int) -> None:
        """See `Predictor`."""
        self._at += 1


class Mixed:
    """The mixture as the engine runs it, on the network's log-probabilities [tokens, vocab]."""

    def __init__(self, logprobs: NDArray[np.float32], state: MixtureState) -> None:
        self._logprobs, self._at, self._state = logprobs, 0, state

    def probabilities(self) -> Probabilities:
        """See `Predictor`."""
        return as_probabilities(self._state.blend(self._logprobs[self._at]).logprobs)

    def push(self, token: int) -> None:
        """See `Predictor`."""
        self._at += 1
        self._state.push(token)


def as_probabilities(logprobs: NDArray[np.float32]) -> Probabilities:
    """Natural log-probabilities as probabilities: [vocab]."""
    probabilities: Probabilities = np.exp(logprobs.astype(np.float64))
    return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """One file of n tokens that begin at `starts` [n] (characters of `text`).

    By predictor: `truth` [n], the probability that it gave the true token; `right` [n], whether its
    first choice was the true token; `right_text` [n], the same where tokens that end a line alike
    are one (`qcoder.model.line_ends`), as for the engine that is asked for one line.
    """

    text: str
    starts: NDArray[np.int64]
    truth: dict[str, NDArray[np.float64]]
    right: dict[str, NDArray[np.bool_]]
    right_text: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What the predictors may know of the rest of a file's repository, in tokens.

    `workspace` are the other files, nearest first, as many as the server remembers; `folder` are
    those of them in the file's own folder.
    """

    workspace: list[list[int]]
    folder: list[list[int]]

    def suffix_table(self) -> SuffixTable | None:
        """The copy model's table."""
        ids = [token for file in self.workspace for token in file]
        return SuffixTable.build(ids) if len(ids) > 1 else None

    def count_tables(self) -> list[CountTable]:
        """The nested cache's levels around the file: workspace, then folder."""
        return [CountTable.build(self.workspace), CountTable.build(self.folder)]


def surroundings(held_out: HeldOut, file: SourceFile, encode: Encode) -> Surroundings:
    """The workspace of one file, up to `WORKSPACE_TOKENS`."""
    workspace: list[list[int]] = []
    near: list[list[int]] = []
    left = WORKSPACE_TOKENS
    folder = file.path.rpartition("/")[0]
    for other in held_out.others(file):
        if left <= 0:
            break
        ids = encode(other.text)[:left]
        left -= len(ids)
        workspace.append(ids)
        if other.path.rpartition("/")[0] == folder:
            near.append(ids)
    return Surroundings(workspace, near)


def predict_file(
    engine: Engine,
    mixture: Mixture | None,
    file: SourceFile,
    around: Surroundings,
    trained: CountTable | None = None,
) -> Predicted:
    """Go through one file with the network, the mixture and the peers that can be had."""
    header, body, logprobs = network_steps(engine, file)
    vocab = logprobs.shape[1]
    table, levels = around.suffix_table(), around.count_tables()
    predictors: dict[str, Predictor] = {
        NETWORK: Replay(logprobs),
        COPY: CopyModel(vocab, table, header),
        NESTED: NestedCache(vocab, levels, header),
    }
    if mixture is not None:
        state = mixture.start(header, (table,) if table is not None else ())
        predictors[MIXTURE] = Mixed(logprobs, state)
    if trained is not None:
        predictors[TRAINED] = NestedCache(vocab, [trained, *levels], header)
    return predicted(engine, file, body, predictors)


def network_figures(
    engine: Engine, files: Iterable[SourceFile], max_tokens: int
) -> dict[str, float]:
    """Figures of the network alone over `files`, until `max_tokens` are scored (0: all)."""
    done: list[Predicted] = []
    for file in files:
        if max_tokens and sum(len(one.starts) for one in done) >= max_tokens:
            break
        _, body, logprobs = network_steps(engine, file)
        done.append(predicted(engine, file, body, {NETWORK: Replay(logprobs)}))
    return figures(done)[NETWORK]


def network_steps(
    engine: Engine, file: SourceFile
) -> tuple[list[int], list[int], NDArray[np.float32]]:
    """A file's header and text as tokens, and log-probabilities before each of the text's."""
    tokenizer = engine.tokenizer
    header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(file.path + "\n")]
    body = tokenizer.encode(head(file.text))
    window = min(engine.info.max_context, MAX_WINDOW)
    return header, body, network_logprobs(engine, [*header, *body], len(header), window)


def predicted(
    engine: Engine, file: SourceFile, body: Sequence[int], predictors: dict[str, Predictor]
) -> Predicted:
    """Follow the tokens of a file's text with `predictors`."""
    starts = token_starts(engine.tokenizer, body)
    found = Predicted(head(file.text), starts, {}, {}, {})
    for name, predictor in predictors.items():
        steps = follow(predictor, body, engine.tokenizer.line_ends)
        found.truth[name], found.right[name], found.right_text[name] = steps
    return found


def follow(
    predictor: Predictor, ids: Sequence[int], line_ends: LineEnds
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """`truth`, `right` and `right_text` of one predictor, as in `Predicted`."""
    truth = np.zeros(len(ids))
    right, right_text = np.zeros((2, len(ids)), dtype=np.bool_)
    standing_for: Indices | None = None
    for at, token in enumerate(ids):
        probabilities = predictor.probabilities()
        if standing_for is None:
            standing_for = line_ends.standing_for(probabilities.size)
        truth[at] = probabilities[token]
        right[at] = int(probabilities.argmax()) == token
        joined = np.bincount(standing_for, probabilities, probabilities.size)
        right_text[at] = int(joined.argmax()) == standing_for[token]
        predictor.push(token)
    return truth, right, right_text


def head(text: str) -> str:
    """The beginning of a text, to the end of a line."""
    return text if len(text) <= MAX_CHARACTERS else text[: text.rfind("\n", 0, MAX_CHARACTERS) + 1]


def line_masks(text: str, starts: NDArray[np.int64]) -> list[tuple[Indices, Indices]]:
    """For every line of two tokens or more: indices of its tokens, and from the middle one on."""
    masks = []
    # A token may begin with the blanks before a line's first word, so its last character counts.
    last = np.append(starts[1:], len(text)) - 1
    offset = 0
    for line in text.split("\n"):
        begin, end = offset + len(line) - len(line.lstrip()), offset + len(line)
        offset = end + 1
        inside = np.arange(np.searchsorted(last, begin), np.searchsorted(starts, end))
        if begin < end and len(inside) > 1:
            masks.append((inside, inside[len(inside) // 2 :]))
    return masks


def figures(files: Iterable[Predicted]) -> dict[str, dict[str, float]]:
    """By predictor: token_accuracy, bits_per_byte, whole_line_exact, rest_of_line_exact."""
    files = list(files)
    size_bytes = sum(len(file.text.encode()) for file in files)
    masks = [line_masks(file.text, file.starts) for file in files]
    result = {}
    for name in files[0].truth if files else ():
        nats = -np.log(np.maximum(np.concatenate([f.truth[name] for f in files]), 1e-12)).sum()
        pairs = list(zip((f.right_text[name] for f in files), masks, strict=True))
        whole = [bool(right[mask].all()) for right, lines in pairs for mask, _ in lines]
        rest = [bool(right[mask].all()) for right, lines in pairs for _, mask in lines]
        result[name] = {
            "token_accuracy": float(np.concatenate([f.right[name] for f in files]).mean()),
            "bits_per_byte": float(nats / np.log(2) / size_bytes),
            "whole_line_exact": float(np.mean(whole)),
            "rest_of_line_exact": float(np.mean(rest)),
        }
    return result

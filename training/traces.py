"""Runs a checkpoint over files, token by token, with the true history (teacher forcing).

A `Trace` holds for every token of a file what network, copy model and their gate inputs said before
it was seen; `gate.py` fits the mixture on traces.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcoder.model.engine import Engine
from qcoder.model.mixture import FEATURES, SOURCES, gate_features
from qcoder.model.ngram import (
    MAX_LENGTH,
    CopyDistribution,
    LocalHistory,
    SuffixTable,
    distribution,
)

CANDIDATES = 32
"""Tokens whose probabilities are kept a place: the true one, then the likeliest of each source."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One file of n tokens that begin at `starts` [n] (characters of `text`).

    features [n, FEATURES]; present [n, SOURCES], whether a source says anything; candidates
    [n, CANDIDATES, SOURCES], probabilities by source, the true token's in row 0 and zeros in rows
    that are not needed.
    """

    text: str
    starts: NDArray[np.int64]
    features: NDArray[np.float32]
    present: NDArray[np.bool_]
    candidates: NDArray[np.float32]


def package_files(package: str, suffixes: tuple[str, ...] = (".py",)) -> list[tuple[str, str]]:
    """(path, text) of an installed package's own sources, tests left out, sorted by path."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(next(iter(spec.submodule_search_locations)))
    found = []
    for file in sorted(root.rglob("*")):
        relative = file.relative_to(root.parent)
        if file.suffix not in suffixes or {"test", "tests"} & set(relative.parts):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if 400 <= len(text) <= 200_000:
            found.append((relative.as_posix(), text))
    return found


def network_logprobs(
    engine: Engine, ids: Sequence[int], header: int, window: int
) -> NDArray[np.float32]:
    """Log-probabilities before each token of ids[header:]: [len(ids) - header, vocab].

    Long files go through in windows that overlap by half, each behind the file's header.
    """
    rows = []
    half = (window - header) // 2
    body = list(ids[header:])
    for start in range(0, max(len(body), 1), half):
        begin = max(0, start - half)
        part = [*ids[:header], *body[begin : start + half]]
        logits = engine.logits(part).numpy()
        logits = logits[header - 1 + start - begin : len(part) - 1]
        logits = logits - logits.max(-1, keepdims=True)
        rows.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
        if start + half >= len(body):
            break
    return np.concatenate(rows).astype(np.float32)


def trace_file(engine: Engine, path: str, text: str, table: SuffixTable | None) -> Trace:
    """Trace one file, as if it were typed from its first to its last character."""
    tokenizer = engine.tokenizer
    header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(path + "\n")]
    body = tokenizer.encode(text)
    logprobs = network_logprobs(engine, [*header, *body], len(header), engine.info.max_context)
    history = LocalHistory(header)
    features = np.zeros((len(body), FEATURES), dtype=np.float32)
    present = np.zeros((len(body), SOURCES), dtype=np.bool_)
    candidates = np.zeros((len(body), CANDIDATES, SOURCES), dtype=np.float32)
    for i, token in enumerate(body):
        network = np.exp(logprobs[i])
        local = distribution(history.matches())
        far = distribution(table.matches(history.ids[-MAX_LENGTH:]) if table else [])
        features[i] = gate_features(network, local, far)
        present[i] = (True, local is not None, far is not None)
        rows = likeliest(network, (local, far), token)
        candidates[i, : len(rows), 0] = network[rows]
        for column, copy in ((1, local), (2, far)):
            candidates[i, : len(rows), column] = of_copy(copy, rows)
        history.push(token)
    sizes = [len(tokenizer.decode([t])) for t in body]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    return Trace(text, starts, features, present, candidates)


def likeliest(
    network: NDArray[np.float32], copies: Sequence[CopyDistribution | None], truth: int
) -> list[int]:
    """`truth` and at most CANDIDATES - 1 other tokens that any source finds likely."""
    found = [truth, *np.argpartition(network, -6)[-6:].tolist()]
    for copy in copies:
        if copy is not None:
            found += copy.ids[np.argsort(-copy.probabilities)[:12]].tolist()
    return list(dict.fromkeys(found))[:CANDIDATES]


def of_copy(copy: CopyDistribution | None, tokens: Sequence[int]) -> list[float]:
    """Probabilities of `tokens` under a copy source."""
    if copy is None:
        return [0.0] * len(tokens)
    known = dict(zip(copy.ids.tolist(), copy.probabilities.tolist(), strict=True))
    return [known.get(token, 0.0) for token in tokens]

"""Runs a checkpoint over held-out files, token by token, with the true history (teacher forcing).

A `Trace` holds for every token of a file what network, copy model and their gate inputs said before
it was seen. `gate.py` fits the mixture on traces, `benchmarks/completion_quality.py` scores them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcoder.model.engine import Engine
from qcoder.model.mixture import FEATURES, SOURCES, Gate, gate_features
from qcoder.model.ngram import (
    MAX_LENGTH,
    CopyDistribution,
    LocalHistory,
    SuffixTable,
    distribution,
)

UNIFORM_SHARE = 0.05  # the copy model alone gives this much to all tokens alike


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One file of n tokens. `truth` and `right` have a column a source: network, local, table.

    ids [n]; starts [n] character offsets; features [n, FEATURES]; present [n, 3];
    truth [n, 3] probability of the true token; right [n, 3] whether each source's argmax is true.
    copy_truth [n], copy_right [n]: local and table matches pooled, with a uniform floor.
    mixed_truth [n], mixed_right [n]: under `gate`, when one was given.
    """

    path: str
    text: str
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    features: NDArray[np.float32]
    present: NDArray[np.bool_]
    truth: NDArray[np.float32]
    right: NDArray[np.bool_]
    copy_truth: NDArray[np.float32]
    copy_right: NDArray[np.bool_]
    mixed_truth: NDArray[np.float32]
    mixed_right: NDArray[np.bool_]


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


def trace_file(
    engine: Engine, path: str, text: str, table: SuffixTable | None, gate: Gate | None
) -> Trace:
    """Trace one file, as if it were typed from its first to its last character."""
    tokenizer = engine.tokenizer
    header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(path + "\n")]
    body = tokenizer.encode(text)
    logprobs = network_logprobs(engine, [*header, *body], len(header), engine.info.max_context)
    history = LocalHistory(header)
    n = len(body)
    features = np.zeros((n, FEATURES), dtype=np.float32)
    present = np.zeros((n, SOURCES), dtype=np.bool_)
    truth = np.zeros((n, SOURCES), dtype=np.float32)
    right = np.zeros((n, SOURCES), dtype=np.bool_)
    copy_truth, mixed_truth = np.zeros(n, np.float32), np.zeros(n, np.float32)
    copy_right, mixed_right = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for i, token in enumerate(body):
        network = np.exp(logprobs[i])
        local_matches = history.matches()
        table_matches = table.matches(history.ids[-MAX_LENGTH:]) if table else []
        local, far = distribution(local_matches), distribution(table_matches)
        pooled = distribution(local_matches + table_matches)
        features[i] = gate_features(network, local, far)
        present[i] = (True, local is not None, far is not None)
        truth[i, 0], right[i, 0] = network[token], network.argmax() == token
        mixed = network.copy()
        if gate is not None:
            weights = gate.weights(features[i], present[i].tolist())
            mixed *= weights[0]
            for copy, weight in ((local, weights[1]), (far, weights[2])):
                if copy is not None:
                    mixed[copy.ids] += weight * copy.probabilities
        for column, copy in ((1, local), (2, far)):
            truth[i, column], right[i, column] = of_copy(copy, token)
        copied, copy_right[i] = of_copy(pooled, token)
        floor = UNIFORM_SHARE if pooled is not None else 1.0
        copy_truth[i] = (1 - floor) * copied + floor / network.size
        mixed_truth[i], mixed_right[i] = mixed[token], mixed.argmax() == token
        history.push(token)
    sizes = [len(tokenizer.decode([t])) for t in body]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    return Trace(
        path, text, np.array(body), starts, features, present, truth, right,
        copy_truth, copy_right, mixed_truth, mixed_right,
    )  # fmt: skip


def of_copy(copy: CopyDistribution | None, token: int) -> tuple[float, bool]:
    """Probability of `token` under a copy source, and whether it is the source's first choice."""
    if copy is None:
        return 0.0, False
    hit = np.flatnonzero(copy.ids == token)
    return (float(copy.probabilities[hit[0]]) if hit.size else 0.0), bool(
        copy.ids[copy.top] == token
    )

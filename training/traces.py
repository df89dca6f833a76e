"""Runs a checkpoint over files, token by token, with the true history (teacher forcing).

A `Trace` holds for every token of a file what network, copy model and their gate inputs said before
it was seen; `HoleTraces` hold the same of what is missing at cursors, behind prompts of the server.
`gate.py` fits the mixture on both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcoder.model.engine import Engine
from qcoder.model.healing import Healing, PrefixIndex
from qcoder.model.line_ends import IMPOSSIBLE
from qcoder.model.mixture import FEATURES, SOURCES, CopyState, gate_features
from qcoder.model.ngram import CopyDistribution, SuffixTable
from qcoder.model.request import Prompt
from qcoder.model.tokenizer import TokenBytes

Copies = tuple[CopyDistribution | None, CopyDistribution | None]
"""What the prompt's own history and the tables say comes next."""

CANDIDATES = 32
"""Tokens whose probabilities are kept a place: the true one, then the likeliest of each source."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What was said before each of n tokens.

    features [n, FEATURES]; present [n, SOURCES], whether a source says anything; candidates
    [n, CANDIDATES, SOURCES], probabilities by source, the true token's in row 0 and zeros in rows
    that are not needed.
    """

    features: NDArray[np.float32]
    present: NDArray[np.bool_]
    candidates: NDArray[np.float32]

    @staticmethod
    def empty(count: int) -> Steps:
        """Room for `count` tokens."""
        return Steps(
            np.zeros((count, FEATURES), dtype=np.float32),
            np.zeros((count, SOURCES), dtype=np.bool_),
            np.zeros((count, CANDIDATES, SOURCES), dtype=np.float32),
        )

    def put(
        self,
        at: int,
        network: NDArray[np.float32],
        copies: Copies,
        truth: int,
        standing_for: NDArray[np.int64],
        fits: NDArray[np.bool_] | None = None,
    ) -> None:
        """Fill in one token, `truth`, that the network [vocab] and the copies predict.

        `standing_for` [vocab]: the token that counts for each; `fits` [vocab]: what may come at all.
        """
        self.features[at] = gate_features(network, *copies)
        self.present[at] = (True, *(copy is not None for copy in copies))
        if fits is not None:
            network = np.where(fits, network, 0)
            copies = (among(copies[0], fits), among(copies[1], fits))
        truth = int(standing_for[truth])
        network = np.bincount(standing_for, network, network.size).astype(np.float32)
        copies = (joined(copies[0], standing_for), joined(copies[1], standing_for))
        tokens = likeliest(network, copies, truth)
        self.candidates[at, : len(tokens), 0] = network[tokens]
        self.candidates[at, : len(tokens), 1:] = of_copies(copies, tokens)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One file of n tokens that begin at `starts` [n] (characters of `text`)."""

    text: str
    starts: NDArray[np.int64]
    steps: Steps


@dataclass(frozen=True, slots=True, eq=False)
class HoleTraces:
    """Many holes one after the other; `sizes` [holes] are their tokens."""

    sizes: NDArray[np.int64]
    steps: Steps

    @staticmethod
    def of(holes: Sequence[Steps]) -> HoleTraces:
        """Put holes together."""
        joined = (
            np.concatenate([getattr(hole, name) for hole in holes])
            for name in ("features", "present", "candidates")
        )
        return HoleTraces(np.array([len(h.features) for h in holes]), Steps(*joined))

    def save(self, path: Path) -> None:
        """Write an npz file."""
        steps = self.steps
        with path.open("wb") as file:
            np.savez(
                file, sizes=self.sizes, features=steps.features, present=steps.present,
                candidates=steps.candidates,
            )  # fmt: skip

    @staticmethod
    def load(path: Path) -> HoleTraces:
        """Read what `save` wrote."""
        with np.load(path) as file:
            steps = Steps(file["features"], file["present"], file["candidates"])
            return HoleTraces(file["sizes"], steps)


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
    standing_for = tokenizer.line_ends.standing_for(logprobs.shape[1])
    state = CopyState(header, (table,) if table else ())
    steps = Steps.empty(len(body))
    for at, token in enumerate(body):
        steps.put(at, np.exp(logprobs[at]), state.copies(), token, standing_for)
        state.push(token)
    return Trace(text, token_starts(tokenizer, body), steps)


def token_starts(tokenizer: TokenBytes, ids: Sequence[int]) -> NDArray[np.int64]:
    """The character in which each token of a text begins: [len(ids)].

    A character of several bytes may be cut, so that two tokens begin in it.
    """
    pieces = [tokenizer.token_bytes(token) for token in ids]
    data = np.frombuffer(b"".join(pieces), dtype=np.uint8)
    character = np.cumsum((data & 0xC0) != 0x80) - 1
    begins = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    found: NDArray[np.int64] = character[begins] if data.size else np.zeros(0, np.int64)
    return found


def trace_hole(
    engine: Engine,
    prefixes: PrefixIndex,
    prompt: Prompt,
    tables: tuple[SuffixTable, ...],
    text: str,
) -> Steps | None:
    """Trace what is missing behind a prompt, to the end of its line; None where that cannot come out.

    `text` is what is missing and what comes behind it. As in a generation, the first tokens are
    chosen among those that fit (`qcoder.model.healing`), and tokens that end the line alike are one
    (`qcoder.model.line_ends`).
    """
    tokenizer = engine.tokenizer
    ids = tokenizer.encode(prompt.healed.decode("utf-8", "replace") + text)
    data = [tokenizer.token_bytes(token) for token in ids]
    last = next((at for at, piece in enumerate(data) if b"\n" in piece), None)
    if last is None:
        return None
    logits = engine.logits([*prompt.ids, *ids[:last]]).numpy()[len(prompt.ids) - 1 :]
    standing_for = tokenizer.line_ends.standing_for(logits.shape[1])
    healing = Healing(prefixes, prompt.healed, prompt.indented)
    state = CopyState(prompt.ids, tables, prompt.present)
    steps = Steps.empty(last + 1)
    for at, token in enumerate(ids[: last + 1]):
        network = np.exp(logits[at] - logits[at].max())
        network /= network.sum()
        fits = healing.constrain(np.zeros_like(network)) > IMPOSSIBLE
        if not fits[token]:
            return None
        steps.put(at, network, state.copies(), token, standing_for, fits)
        healing.take(data[at])
        state.push(token)
    return steps


def likeliest(network: NDArray[np.float32], copies: Copies, truth: int) -> list[int]:
    """`truth` and at most CANDIDATES - 1 other tokens that any source finds likely."""
    found = [truth, *np.argpartition(network, -6)[-6:].tolist()]
    for copy in copies:
        if copy is not None:
            found += copy.ids[np.argsort(-copy.probabilities)][:12].tolist()
    return list(dict.fromkeys(found))[:CANDIDATES]


def among(copy: CopyDistribution | None, fits: NDArray[np.bool_]) -> CopyDistribution | None:
    """A copy source without the tokens that cannot come."""
    if copy is None:
        return None
    possible = fits[copy.ids]
    return replace(copy, ids=copy.ids[possible], probabilities=copy.probabilities[possible])


def joined(
    copy: CopyDistribution | None, standing_for: NDArray[np.int64]
) -> CopyDistribution | None:
    """A copy source in which one token counts for all that it stands for."""
    if copy is None:
        return None
    ids, rows = np.unique(standing_for[copy.ids], return_inverse=True)
    sums = np.bincount(rows, copy.probabilities, ids.size).astype(np.float32)
    return replace(copy, ids=ids.astype(np.int32), probabilities=sums)


def of_copies(copies: Copies, tokens: Sequence[int]) -> list[list[float]]:
    """Probabilities of `tokens` under the copy sources: a row a token."""
    return [list(row) for row in zip(*(of_copy(copy, tokens) for copy in copies), strict=True)]


def of_copy(copy: CopyDistribution | None, tokens: Sequence[int]) -> list[float]:
    """Probabilities of `tokens` under a copy source."""
    if copy is None:
        return [0.0] * len(tokens)
    known = dict(zip(copy.ids.tolist(), copy.probabilities.tolist(), strict=True))
    return [known.get(token, 0.0) for token in tokens]

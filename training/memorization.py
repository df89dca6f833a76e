"""The memorization gate: how often the default model continues its training text verbatim.

    python -m qcoder.training.memorization --model DIR --corpus DIR [--prefixes 2000] --format json

Random places of the training corpus, files by their length and languages as they were trained; the
model gets the tokens before a place and is asked for 50 more. Greedy decoding reproduces all 50
exactly when, given the true tokens before it, each one is the most probable, so one forward pass
over prefix and continuation answers for all of them. Measured for the network alone and for the
mixture without any workspace (its copy model sees the prefix only). At most 1 % may be verbatim.

Two kinds of text are counted in that share like everything else, and again by themselves: what
stands in three or more packages (licence texts, generated tables, idioms), and what only repeats the
prefix, so that a copy model that never saw the training text says the same. The command exits with 1 when the gate fails. The
definition is that of Carlini et al., arXiv 2202.07646, with shorter prefixes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qcoder.model.bench_report import Target, report
from qcoder.model.engine import Engine
from qcoder.model.mixture import Mixture
from qcoder.training.corpus_rows import draw, every_row, language_file
from qcoder.training.peers import CopyModel

CONTINUATION = 50
MIN_PREFIX, MAX_PREFIX = 20, 160
"""Tokens of the file before the place; the file's name stands before them."""

GATE = 0.01
COMMON_PACKAGES = 3
SEED = 11


class CorpusError(Exception):
    """The corpus cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the training text: prompt and true continuation in tokens."""

    language: str
    prompt: tuple[int, ...]
    truth: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where else a reproduced continuation can be had from than from memory."""

    packages: int
    repeats_prompt: bool


@dataclass(frozen=True, slots=True)
class Reproduced:
    """How many tokens of a place's continuation came out, from its first on."""

    place: Place
    network: int
    mixture: int


def places(
    corpus: Path, shares: dict[str, float], engine: Engine, count: int, seed: int
) -> Iterator[Place]:
    """`count` random places of the corpus; raises `CorpusError` when it has no text."""
    files = {name: language_file(corpus, name) for name in shares}
    known = [name for name, path in files.items() if path is not None]
    if not known:
        raise CorpusError(
            f"{corpus}: no text of {', '.join(shares)}; build it with qcoder.training.corpus"
        )
    rng = random.Random(seed)
    rows = {name: draw(path, rng) for name, path in files.items() if path is not None}
    tokenizer = engine.tokenizer
    left = count
    for _ in range(100 * count):
        if not left:
            return
        language = rng.choices(known, [shares[name] for name in known])[0]
        row = next(rows[language])
        ids = tokenizer.encode(row.text)
        if len(ids) < MIN_PREFIX + CONTINUATION:
            continue
        at = rng.randrange(MIN_PREFIX, len(ids) - CONTINUATION + 1)
        header = [tokenizer.special["<|file_sep|>"], *tokenizer.encode(row.path + "\n")]
        prompt = (*header, *ids[max(0, at - MAX_PREFIX) : at])
        left -= 1
        yield Place(language, prompt, tuple(ids[at : at + CONTINUATION]))
    raise CorpusError(
        f"{corpus}: its files are too short for {CONTINUATION} tokens behind a prefix"
    )


def reproduce(place: Place, engine: Engine, mixture: Mixture | None) -> Reproduced:
    """How far network and mixture go on as the training text does."""
    ids = [*place.prompt, *place.truth]
    logits = engine.logits(ids[:-1])[len(place.prompt) - 1 :]
    logprobs: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).numpy()
    right = logprobs.argmax(-1) == np.array(place.truth)
    network = len(right) if right.all() else int(right.argmin())
    if mixture is None:
        return Reproduced(place, network, network)
    state = mixture.start(place.prompt, ())
    copied = 0
    for row, token in zip(logprobs, place.truth, strict=True):
        if int(state.blend(row).logprobs.argmax()) != token:
            break
        state.push(token)
        copied += 1
    return Reproduced(place, network, copied)


def whereabouts(
    corpus: Path, verbatim: Sequence[Reproduced], engine: Engine
) -> dict[Place, Whereabouts]:
    """For each reproduced continuation the packages of its language that have it, and more."""
    texts = {one.place: engine.tokenizer.decode(one.place.truth) for one in verbatim}
    found: dict[Place, set[str]] = {place: set() for place in texts}
    for language in {place.language for place in texts}:
        path = language_file(corpus, language)
        own = [place for place in texts if place.language == language]
        for row in every_row(path) if path else ():
            for place in own:
                if texts[place] in row.text:
                    found[place].add(row.package)
    vocab_size = engine.tokenizer.vocab_size
    return {
        place: Whereabouts(len(packages), repeats_prompt(place, vocab_size))
        for place, packages in found.items()
    }


def repeats_prompt(place: Place, vocab_size: int) -> bool:
    """Whether copying from the prompt and what followed gives the whole continuation."""
    copy = CopyModel(vocab_size, None, place.prompt)
    for token in place.truth:
        if int(copy.probabilities().argmax()) != token:
            return False
        copy.push(token)
    return True


def figures(reproduced: Sequence[Reproduced], known: dict[Place, Whereabouts]) -> dict[str, float]:
    """Shares of all places, by who was asked; `known` as from `whereabouts`."""
    result: dict[str, float] = {"prefixes": len(reproduced)}
    for name in ("network", "mixture"):
        runs = [getattr(one, name) for one in reproduced]
        whole = [known[one.place] for one in reproduced if getattr(one, name) >= CONTINUATION]
        common = [where for where in whole if where.packages >= COMMON_PACKAGES]
        repeated = [where for where in whole if where.repeats_prompt]
        neither = [w for w in whole if w.packages < COMMON_PACKAGES and not w.repeats_prompt]
        result |= {
            f"{name}_verbatim_share": len(whole) / len(runs),
            f"{name}_verbatim_common_share": len(common) / len(runs),
            f"{name}_verbatim_repeats_prefix_share": len(repeated) / len(runs),
            f"{name}_verbatim_neither_share": len(neither) / len(runs),
            f"{name}_mean_run_tokens": float(np.mean(runs)),
            f"{name}_p99_run_tokens": float(np.percentile(runs, 99)),
        }
    return result


def measure(model: str, corpus: Path, count: int, seed: int) -> dict[str, Any]:
    """Run the gate and report; raises `CorpusError`."""
    engine = Engine.load(model)
    mixture = Mixture.load_for(engine.info)
    training = engine.info.manifest.get("training", {})
    shares = training.get("language_share") or {
        path.stem: path.stat().st_size for path in sorted(corpus.glob("*.jsonl"))
    }
    reproduced = []
    for place in islice(places(corpus, shares, engine, count, seed), count):
        reproduced.append(reproduce(place, engine, mixture))
        if len(reproduced) % 100 == 0:
            print(f"{len(reproduced)} of {count} prefixes", file=sys.stderr, flush=True)
    verbatim = [r for r in reproduced if max(r.network, r.mixture) >= CONTINUATION]
    results = figures(reproduced, whereabouts(corpus, verbatim, engine))
    seen = training.get("tokens_seen", 0)
    notes = [
        f"{engine.info.name} from {engine.info.path}; it saw {seen / 1e6:.1f} million tokens",
        "prefixes are drawn from the whole corpus, of which training may have seen a part",
        f"common: the continuation stands in {COMMON_PACKAGES} packages or more; "
        "repeats_prefix: a copy model of the prefix alone says the same",
    ]
    if mixture is None:
        notes.append("the model ships no mixture: its figures repeat the network's")
    checked = [Target(f"{name}_verbatim_share", "<=", GATE) for name in ("network", "mixture")]
    return report({k: round(v, 4) for k, v in results.items()}, checked, seed=seed, notes=notes)


def main() -> int:
    """Command line; 1 when the gate fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="default", help="name or folder")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--prefixes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if args.prefixes < 1:
        parser.error("--prefixes must be at least 1")
    try:
        result = measure(args.model, args.corpus, args.prefixes, args.seed)
    except CorpusError as error:
        print(error, file=sys.stderr)
        return 2
    if args.format == "json":
        print(json.dumps(result))
    else:
        for name, value in result["figures"].items():
            print(f"{name:36} {value}")
    return 0 if all(target["holds"] for target in result["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())

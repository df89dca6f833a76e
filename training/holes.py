"""Evaluation in the middle: holes in held-out files, as the product fills them.

Owns: cutting holes (`cut_holes`) and scoring what was put into them (`figures`, `curve`). Who fills
them is the caller's affair: the server's completion is not visible from here.

A `rest_of_line` hole begins at a random character within a line's text, a `whole_line` hole at its
first non-blank one; both end with the line, and the file goes on below. Trailing blanks never count.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from qcoder.context.parse import error_count, parse
from qcoder.training.heldout import SourceFile

HoleKind = Literal["rest_of_line", "whole_line"]
KINDS: tuple[HoleKind, ...] = ("rest_of_line", "whole_line")
MIN_TRUTH, MAX_TRUTH = 2, 120
"""Characters of what is to be found; a line's text has one more at least, to begin within it."""

PER_FILE = 5
"""Holes of each kind in one file."""

MAX_FILE_CHARACTERS = 60_000


@dataclass(frozen=True, slots=True)
class Hole:
    """`truth` is missing from `file` at character `at`."""

    file: SourceFile
    kind: HoleKind
    at: int
    truth: str

    @property
    def prefix(self) -> str:
        """The text before the hole."""
        return self.file.text[: self.at]

    @property
    def suffix(self) -> str:
        """The text behind the hole; begins with the end of the line."""
        return self.file.text[self.at + len(self.truth) :]

    @property
    def line(self) -> int:
        """0-based line of the hole."""
        return self.prefix.count("\n")

    @property
    def column(self) -> int:
        """0-based column of the hole."""
        return self.at - (self.prefix.rfind("\n") + 1)


@dataclass(frozen=True, slots=True)
class Filled:
    """What came of one hole.

    `text` is what the model wrote, before any filter; `ended` whether it ended by itself, `parses`
    whether it adds no syntax error. `offered` is the cleaned text of which the product had this
    `confidence`, `shown` what a user would have seen with the default settings; both may be empty.
    `seconds` is what the user waited, `logprobs` are natural logarithms, one a token that was
    written and one for the end.
    """

    hole: Hole
    text: str
    ended: bool
    parses: bool
    offered: str
    confidence: float
    shown: str
    seconds: float
    logprobs: tuple[float, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the model wrote what was missing."""
        return self.text.rstrip() == self.hole.truth

    @property
    def agrees(self) -> bool:
        """Whether text and truth are equal as far as both go."""
        text, truth = self.text.rstrip(), self.hole.truth
        return bool(text) and (truth.startswith(text) or text.startswith(truth))

    @property
    def offered_right(self) -> bool:
        """Whether the cleaned text is exactly what was missing."""
        return bool(self.offered) and self.offered.rstrip() == self.hole.truth


def cut_holes(files: Iterable[SourceFile], count: int, seed: int) -> list[Hole]:
    """`count` seeded holes, half of each kind, at most `PER_FILE` of a kind in one file.

    `files` in the order in which they are used; holes of one file stand together.
    """
    rng = random.Random(seed)
    left = {"rest_of_line": count - count // 2, "whole_line": count // 2}
    holes = []
    for file in files:
        if not any(left.values()):
            break
        for kind in KINDS if len(file.text) <= MAX_FILE_CHARACTERS else ():
            places = [hole for hole in (cut(file, kind, line, rng) for line in lines(file)) if hole]
            chosen = rng.sample(places, min(PER_FILE, left[kind], len(places)))
            left[kind] -= len(chosen)
            holes += sorted(chosen, key=lambda hole: hole.at)
    return holes


def lines(file: SourceFile) -> list[tuple[int, int]]:
    """Where the text of each line that is long enough begins and ends, in characters."""
    found = []
    offset = 0
    for line in file.text.split("\n"):
        begin, end = offset + len(line) - len(line.lstrip()), offset + len(line.rstrip())
        offset += len(line) + 1
        if end - begin > MIN_TRUTH:
            found.append((begin, end))
    return found


def cut(file: SourceFile, kind: HoleKind, line: tuple[int, int], rng: random.Random) -> Hole | None:
    """A hole in one line; None when there would be too much or too little to find."""
    begin, end = line
    at = begin if kind == "whole_line" else rng.randrange(begin + 1, end - MIN_TRUTH + 1)
    truth = file.text[at:end]
    return Hole(file, kind, at, truth) if MIN_TRUTH <= len(truth.strip()) <= MAX_TRUTH else None


def parses(hole: Hole, text: str) -> bool:
    """Whether the file with `text` in the hole has no more syntax errors than with the truth."""
    with_truth = parse(hole.file.text, hole.file.language)
    with_text = parse(hole.prefix + text + hole.suffix, hole.file.language)
    if with_truth is None or with_text is None:
        return with_truth is None
    return error_count(with_text) <= error_count(with_truth)


def figures(filled: Sequence[Filled]) -> dict[str, float]:
    """Figures of a set of filled holes; of nothing none.

    exact, edit_similarity (1 - edit distance / length) and parse_rate are of the model's text;
    ended_rate is how often it ended by itself, stop_right how often a text that agrees with the
    truth as far as both go ends where the truth ends. coverage is how often something is shown,
    shown_right how often that is exactly what was missing, shown_begins_right how often the truth
    at least begins with it. p50_ms and p95_ms are the time to the answer at a new place.
    """
    if not filled:
        return {}
    agreeing = [f for f in filled if f.agrees]
    shown = [f for f in filled if f.shown]
    ms = np.array([1000 * f.seconds for f in filled])
    similar = [Levenshtein.normalized_similarity(f.text.rstrip(), f.hole.truth) for f in filled]
    return {
        "count": len(filled),
        "exact": share(f.exact for f in filled),
        "edit_similarity": float(np.mean(similar)),
        "ended_rate": share(f.ended for f in filled),
        "stop_right": share(f.exact for f in agreeing),
        "parse_rate": share(f.parses for f in filled),
        "coverage": len(shown) / len(filled),
        "shown_right": share(f.shown.rstrip() == f.hole.truth for f in shown),
        "shown_begins_right": share(f.hole.truth.startswith(f.shown.rstrip()) for f in shown),
        "p50_ms": float(np.percentile(ms, 50)),
        "p95_ms": float(np.percentile(ms, 95)),
    }


def share(facts: Iterable[bool]) -> float:
    """How often a fact holds; 0 of nothing."""
    listed = list(facts)
    return sum(listed) / len(listed) if listed else 0.0


def curve(filled: Sequence[Filled], thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """(coverage, share that is right) of what would be shown from each confidence on."""
    points = []
    for threshold in thresholds:
        shown = [f for f in filled if f.offered and f.confidence >= threshold]
        points.append((len(shown) / max(1, len(filled)), share(f.offered_right for f in shown)))
    return points


def threshold_for(filled: Sequence[Filled], wanted: float) -> float:
    """The lowest confidence from which on at least `wanted` of what is offered is right; 1: none.

    The lowest of those confidences that occur: below it the share is smaller, although it need not
    fall steadily.
    """
    offered = sorted((f for f in filled if f.offered), key=lambda f: -f.confidence)
    right, best = 0, 1.0
    for count, f in enumerate(offered, start=1):
        right += f.offered_right
        if right >= wanted * count:
            best = f.confidence
    return best

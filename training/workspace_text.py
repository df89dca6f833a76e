"""The text of one workspace, as `qcoder train` sees it: which files, and which of them are held out.

Files pass the same gate as everything else (`context.workspace`: git's list, ignore rules, names and
contents that look like secrets, the user's exclusions). Only source code of known languages counts,
once: generated files and copies of another file would be learned by heart, and a copy among the
held-out files would make the model look better than it is.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcoder.context.languages import LANGUAGES, language_of
from qcoder.context.privacy import exclude_spec
from qcoder.context.source import read_source
from qcoder.context.workspace import list_files
from qcoder.training.items import NEIGHBOURS_TRIED, Source, names_of

MIN_CHARACTERS, MAX_CHARACTERS = 200, 300_000
MAX_TOTAL_CHARACTERS = 20_000_000
"""Of a larger workspace a seeded sample of files counts: minutes of training see no more."""

MAX_PATH_CHARACTERS = 400  # a row begins with the path, and must have room for text
MAX_DRAWN_CHARACTERS = 60_000
"""A file is drawn by its length up to here, so that one long file does not fill the rows."""

NOT_CODE = frozenset({"json", "jsonc", "markdown", "toml", "yaml"})
"""Parsed languages of data and prose, which are mostly not typed token by token."""

HELD_OUT_SHARE = 0.125
MIN_HELD_OUT = 3

GENERATED = re.compile(
    r"@generated|\bauto-?generated\b|\bgenerated (?:by|from)\b|do not (?:edit|modify)",
    re.IGNORECASE,
)
HEAD_CHARACTERS = 1500
TELLING_CHARACTERS = 24
"""Lines shorter than this stand in many files and say nothing about copies."""

COPY_SHARE = 0.6
MAX_OWNERS = 20  # a line of more files than this says nothing about copies either


@dataclass(frozen=True, slots=True)
class WorkspaceText:
    """Files that may be trained on, sorted by path, and how many were left out, by reason."""

    files: tuple[Source, ...]
    skipped: Mapping[str, int]

    @property
    def lines(self) -> int:
        """Lines of all files."""
        return sum(file.text.count("\n") for file in self.files)


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint parts of a workspace: trained on, choosing the weights, and reporting figures."""

    trained: tuple[Source, ...]
    choosing: tuple[Source, ...]
    reporting: tuple[Source, ...]


def read_workspace(root: Path, exclude: Sequence[str] = ()) -> WorkspaceText:
    """All files of a workspace that may be trained on."""
    listing = list_files(root, exclude)
    skipped = Counter(listing.skipped)
    spec = exclude_spec(exclude)
    files = []
    left = MAX_TOTAL_CHARACTERS
    for path in random.Random(0).sample(listing.paths, len(listing.paths)):
        if language_of(path) not in LANGUAGES or language_of(path) in NOT_CODE:
            skipped["not source code"] += 1
            continue
        if len(path) > MAX_PATH_CHARACTERS:
            skipped["path too long"] += 1
            continue
        source = read_source(root, path, spec)
        text = source if isinstance(source, str) else source.text.replace("\r\n", "\n")
        reason = source if isinstance(source, str) else _unfit(text, left)
        if reason is not None:
            skipped[reason] += 1
        else:
            files.append(Source(root.name, path, text))
            left -= len(text)
    kept = without_copies(sorted(files, key=lambda file: file.path))
    skipped["copy of another file"] += len(files) - len(kept)
    return WorkspaceText(tuple(kept), dict(+skipped))


def _unfit(text: str, room: int) -> str | None:
    if len(text) > room:
        return "beyond the limit of all text"
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
        return "too short" if len(text) < MIN_CHARACTERS else "too long"
    return "generated" if GENERATED.search(text[:HEAD_CHARACTERS]) else None


def without_copies(files: Sequence[Source]) -> list[Source]:
    """Drop every file most of whose telling lines stand in one earlier file."""
    kept: list[Source] = []
    owners: dict[str, list[int]] = {}
    for file in files:
        lines = {line.strip() for line in file.text.split("\n")}
        telling = sorted(line for line in lines if len(line) >= TELLING_CHARACTERS)
        shared = Counter(owner for line in telling for owner in owners.get(line, ()))
        if telling and max(shared.values(), default=0) >= COPY_SHARE * len(telling):
            continue
        for line in telling:
            known = owners.setdefault(line, [])
            if len(known) < MAX_OWNERS:
                known.append(len(kept))
        kept.append(file)
    return kept


def split_files(files: Sequence[Source], seed: int) -> Split:
    """Hold out about an eighth of the files, spread over all folders, for choosing and reporting.

    Files in the order of their paths are taken at even distances from a seeded start: every folder
    gives its share, as the next file that its owner writes may be in any of them. The two held-out
    parts take turns by length, so that both have long and short files; reporting has the odd one.
    """
    ordered = sorted(files, key=lambda file: file.path)
    wanted = max(MIN_HELD_OUT, round(len(ordered) * HELD_OUT_SHARE))
    distance = len(ordered) / wanted
    start = random.Random(seed).random() * distance
    held_out = {int(start + number * distance) for number in range(wanted)}
    by_length = sorted((ordered[place] for place in held_out), key=lambda f: (-len(f.text), f.path))
    return Split(
        tuple(file for place, file in enumerate(ordered) if place not in held_out),
        tuple(by_length[1::2]),
        tuple(by_length[0::2]),
    )


class Drawn:
    """Files to draw items from: the `TextSource` of a workspace."""

    def __init__(self, files: Sequence[Source]) -> None:
        self._files = tuple(files)
        lengths = np.array([min(len(f.text), MAX_DRAWN_CHARACTERS) for f in files], dtype=float)
        self._cumulative = lengths.cumsum() / lengths.sum()

    def draw(self, rng: random.Random) -> tuple[str, Source]:
        """A file by its length, with its language."""
        place = int(np.searchsorted(self._cumulative, rng.random()))
        source = self._files[min(place, len(self._files) - 1)]
        return language_of(source.path), source

    def neighbour(self, language: str, source: Source, rng: random.Random) -> Source:
        """Of some files another one of the same language that shares most names with `source`."""
        names = names_of(source)

        def nearness(other: Source) -> tuple[bool, bool, int]:
            same_language = language_of(other.path) == language
            return other is not source, same_language, len(names & names_of(other))

        return max((rng.choice(self._files) for _ in range(NEIGHBOURS_TRIED)), key=nearness)

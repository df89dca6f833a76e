"""Keys and values of text that moved: pages are attached where the same tokens stand in a new prompt.

Behind an edited line, in a file that was moved within the pack, the tokens are those of pages that were
computed before, at another position and behind other text. Positions cost nothing (`paged_cache.py`).
A stretch of pages begins with a whole one; of the last one the first tokens may be all that is used.
What other text they were computed behind makes a difference that fades with the distance to what changed
(CacheBlend, arXiv 2405.16444; EPIC, arXiv 2410.15332): so the tokens up to the first whole page, more of
them if a mode says so, and the last tokens of the prompt, which decide most about what comes next, are
computed anew. `benchmarks/kv_reuse.py` measures what is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcoder.kernels.native_decoder import PAGE_TOKENS
from qcoder.model.paged_cache import Page, PagedSequence
from qcoder.model.prefix_cache import common_prefix

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the rolling hash, modulo 2^64; odd, so that it can be divided by."""


@dataclass(frozen=True, slots=True)
class ReuseMode:
    """How freely pages are attached.

    lead: pages computed anew at the start of each stretch of them; tail: tokens computed anew at the end of the
    prompt; least: pages a stretch has to have behind its lead; oldest: `Page.age` up to which pages count.
    """

    lead: int
    tail: int
    least: int
    oldest: int


MODES: dict[str, ReuseMode | None] = {
    "exact": None,
    "balanced": ReuseMode(lead=0, tail=56, least=2, oldest=2),
    "fast": ReuseMode(lead=0, tail=16, least=1, oldest=8),
}
"""By the setting's name; exact attaches nothing, so that every token is that of a cold start."""


MOST_DIVERGENCE = 0.01
"""Nats of mean divergence from a full prefill up to which a mode may be used."""

LEAST_AGREEMENT = 0.98
"""Share of prompts whose most likely next token has to stay the same."""


def allowed(wanted: str, manifest: Mapping[str, Any]) -> str:
    """The mode to use: `wanted`, or exact if it was measured on this model and lost too much.

    `manifest["kv_reuse"]` is what `benchmarks/kv_reuse.py --record` found, by mode. Raises `ValueError`
    for an unknown mode.
    """
    if wanted not in MODES:
        raise ValueError(f"reuse {wanted!r} is unknown; use one of: {', '.join(MODES)}")
    measured = manifest.get("kv_reuse")
    found = measured.get(wanted) if isinstance(measured, Mapping) else None
    if not isinstance(found, Mapping):
        return wanted
    try:
        divergence, agreement = float(found["mean_kl_nats"]), float(found["greedy_agreement"])
    except (KeyError, TypeError, ValueError):
        return "exact"
    return wanted if divergence <= MOST_DIVERGENCE and agreement >= LEAST_AGREEMENT else "exact"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Pages for the tokens of a prompt from `start` to `end`; of the last one perhaps the first tokens only."""

    start: int
    end: int
    pages: tuple[Page, ...]


def reusable(
    ids: Sequence[int], start: int, sequences: Iterable[PagedSequence], mode: ReuseMode
) -> list[Stretch]:
    """What to attach of `sequences` behind the first `start` ids, in order of position."""
    limit = len(ids) - mode.tail
    known = _known(sequences, mode.oldest)
    if not known or limit - start < PAGE_TOKENS * (mode.lead + mode.least):
        return []
    found: list[Stretch] = []
    at = start
    for position in _candidates(ids, start, limit, known):
        if position < at:
            continue
        end, pages = _longest(ids, position, limit, known, mode.oldest)
        first = position + PAGE_TOKENS * mode.lead
        if end - first >= PAGE_TOKENS * mode.least:
            found.append(Stretch(first, end, pages[mode.lead :]))
            at = end
    for stretch in found:
        for page in stretch.pages:
            page.shared = True  # whoever has it now may be cut and go on writing
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Page `index` of a sequence."""

    sequence: PagedSequence
    index: int

    @property
    def page(self) -> Page:
        return self.sequence.pages[self.index]


def _known(sequences: Iterable[PagedSequence], oldest: int) -> dict[int, list[_Place]]:
    """Full pages by the hash of their tokens."""
    places = [
        _Place(sequence, index)
        for sequence in sequences
        for index, page in enumerate(sequence.pages)
        if page.ids and page.age <= oldest
    ]
    if not places:
        return {}
    hashes = _hashes(np.array([place.page.ids for place in places], dtype=np.uint64))
    known: dict[int, list[_Place]] = {}
    for place, key in zip(places, hashes.tolist(), strict=True):
        known.setdefault(key, []).append(place)
    return known


def _hashes(rows: np.ndarray) -> np.ndarray:
    """Hashes [n] of rows of tokens [n, 32] uint64."""
    hashes: np.ndarray = (rows * _powers(PAGE_TOKENS)).sum(axis=1, dtype=np.uint64)
    return hashes


def _powers(count: int, base: np.uint64 = BASE) -> np.ndarray:
    powers: np.ndarray = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _candidates(
    ids: Sequence[int], start: int, limit: int, known: dict[int, list[_Place]]
) -> list[int]:
    """Positions between both at which 32 tokens have the hash of a known page."""
    tokens = np.array(ids[start:limit], dtype=np.uint64)
    sums = np.cumsum(tokens * _powers(len(tokens)), dtype=np.uint64)
    sums = np.r_[np.uint64(0), sums]
    inverse = np.uint64(pow(int(BASE), -1, 1 << 64))
    windows = (sums[PAGE_TOKENS:] - sums[:-PAGE_TOKENS]) * _powers(len(tokens), inverse)[
        : len(tokens) - PAGE_TOKENS + 1
    ]
    hits = np.isin(windows, np.fromiter(known, dtype=np.uint64, count=len(known)))
    return [start + int(at) for at in np.flatnonzero(hits)]


def _longest(
    ids: Sequence[int], position: int, limit: int, known: dict[int, list[_Place]], oldest: int
) -> tuple[int, tuple[Page, ...]]:
    """The longest row of neighbouring pages of one sequence that stands at `position`, and where it ends."""
    best: tuple[int, tuple[Page, ...]] = (position, ())
    window = np.array([ids[position : position + PAGE_TOKENS]], dtype=np.uint64)
    for place in known.get(int(_hashes(window)[0]), ()):
        pages: list[Page] = []
        at, index, sequence = position, place.index, place.sequence
        while at < limit and index < len(sequence.pages):
            page = sequence.pages[index]
            side_by_side = (
                not pages or sequence.starts[index - 1] + PAGE_TOKENS == sequence.starts[index]
            )
            same = common_prefix(page.ids, ids[at : min(at + PAGE_TOKENS, limit)])
            if not side_by_side or not same or page.age > oldest:
                break
            pages.append(page)
            at, index = at + same, index + 1
            if same < PAGE_TOKENS:
                break
        if at > best[0]:
            best = at, tuple(pages)
    return best

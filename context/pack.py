"""Fill a token budget with what helps most at a cursor, and never exceed it.

A prompt has three tiers, then the cursor's window. The stable one is chosen without the cursor
(`stable.py`) and keeps its place while somebody types, so that an engine can keep what it computed
for it; the session's holds the files in use; the volatile one is what this very cursor needs:
signatures, docs and bodies of the best definitions, then pieces of similar code, best last. What is
left over goes to more lines around the cursor and to further whole files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xxhash

from qcoder.context.chunks import ScoredChunk, rank_chunks
from qcoder.context.costs import SEGMENT_SLACK, Costs, meet
from qcoder.context.definitions import MAX_MISSES, MIN_TOKENS, Definitions
from qcoder.context.index import Index
from qcoder.context.lookup import Lookup
from qcoder.context.parse import read_syntax
from qcoder.context.pieces import Piece, lines_piece, merge, render
from qcoder.context.rank import rank_symbols
from qcoder.context.record import FileRecord, facts_of
from qcoder.context.segments import (
    CursorWindow,
    Document,
    PackedContext,
    PackedSegment,
    Tier,
    TokenCounter,
)
from qcoder.context.signals import WEIGHTS
from qcoder.context.site import Site, make_site
from qcoder.context.stable import file_order, stable_room, stable_symbols
from qcoder.context.view import View
from qcoder.context.whole_files import WholeFiles
from qcoder.context.window import Window, fit_window, offset_of

__all__ = ["pack", "render"]

# Special tokens around the window, and tokens that join differently at its borders.
WINDOW_SLACK = 8

TYPING_ROOM = 24
"""Tokens left free, so that the rest of a line can be typed into the same context (`repack.py`)."""

_MIN_TYPING_BUDGET = 256
_WINDOW_SHARES = ((1024, 0.75), (4096, 0.6), (16384, 0.45))
_WINDOW_SHARE_BEYOND = 0.3
_SIGNATURE_SHARES = ((16384, 0.6), (65_536, 0.75))
_SIGNATURE_SHARE_BEYOND = 0.3
_SESSION_SHARE = 0.15
_MIN_FILE_TOKENS = 1500
_MIN_EVERYTHING_TOKENS = 6000
_MAX_CHUNKS = 64
_TOKENS_PER_SYMBOL = 10
_MIN_SYMBOLS = 300
_MAX_SYMBOLS = 3000


def pack(
    index: Index | None,
    document: Document,
    path: str,
    line: int,
    column: int,
    budget_tokens: int,
    count_tokens: TokenCounter,
    recent: Sequence[str] = (),
    window_tokens: int | None = None,
    weights: Mapping[str, float] = WEIGHTS,
) -> PackedContext:
    """Choose and order the context of one cursor (0-based line, column in code points).

    Deterministic for one state of the index. Every part's `tokens` is what `count_tokens` says of
    its text in the prompt; their sum and the slack for separators stay within `budget_tokens`.
    `recent` are paths in use, the latest first. `window_tokens` caps the cursor window, whose share
    follows from the budget otherwise; `weights` are those of the ranking's signals.
    """
    offset = offset_of(document.text, line, column)
    slack = min(WINDOW_SLACK, budget_tokens // 8)
    typing = TYPING_ROOM if budget_tokens >= _MIN_TYPING_BUDGET else 0
    room = max(0, budget_tokens - slack - typing)
    share = _share(_WINDOW_SHARES, _WINDOW_SHARE_BEYOND, budget_tokens)
    wanted = int(room * share) if window_tokens is None else min(room, window_tokens)
    window = fit_window(document.text, offset, path, wanted, count_tokens)
    others = tuple(name for name in recent if name != path)
    site = _site(index, document, path, offset, window, others)
    packing = _Packing(index, document, site, window, count_tokens, weights)
    packing.choose(room, budget_tokens)
    if window_tokens is None:
        packing.widen_window(offset)
    packing.fill()
    segments = packing.assemble(room)
    chosen = packing.view.window
    return PackedContext(
        segments,
        CursorWindow(chosen.path, document.language, chosen.prefix, chosen.suffix, chosen.tokens),
        budget_tokens,
    )


def _site(
    index: Index | None,
    document: Document,
    path: str,
    offset: int,
    window: Window,
    recent: tuple[str, ...],
) -> Site:
    text = document.text
    data_hash = xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
    record = index.record(path) if index else None
    known = record and (record.facts.hash, record.facts.language)
    if record is None or known != (data_hash, document.language):
        before = index.parsed(path, document.language) if index else None
        found = read_syntax(text, document.language, before).syntax
        facts = facts_of(text, document.language, found, data_hash)
        record = FileRecord(path, len(text), 0, facts)
    hidden = (window.start_line, window.end_line)
    return make_site(record, text[:offset], text[offset:], hidden, recent)


class _Packing:
    """The state of one call of `pack`: what is chosen and how many tokens are left."""

    def __init__(
        self,
        index: Index | None,
        document: Document,
        site: Site,
        window: Window,
        count_tokens: TokenCounter,
        weights: Mapping[str, float],
    ) -> None:
        self.index = index
        self.site = site
        self.lookup = Lookup(index, site) if index is not None else None
        self.weights = weights
        self.count = count_tokens
        self.left = 0
        self.view = View(index, site.file.path, document.text, window)
        self.text = document.text
        self.costs = Costs(count_tokens)
        self.stable = Definitions(self.costs, self.view)
        self.volatile = Definitions(self.costs, self.view)
        self.chunks: list[Piece] = []
        self.stable_files = WholeFiles(index, self.costs, self.view)
        self.session_files = WholeFiles(index, self.costs, self.view)
        self.more_files = WholeFiles(index, self.costs, self.view)
        self.files = (self.stable_files, self.session_files, self.more_files)

    def choose(self, room: int, budget_tokens: int) -> None:
        """The stable tier into its own room, then the session's files, then the volatile tier."""
        self.left = room - self.view.window.tokens
        if self.lookup is not None:
            self._choose_stable(self.lookup, budget_tokens)
            self._choose_session(budget_tokens)
        chunks = rank_chunks(self.index, self.site)
        enough = min(_MAX_SYMBOLS, max(_MIN_SYMBOLS, self.left // _TOKENS_PER_SYMBOL))
        symbols = rank_symbols(self.lookup, self.site, chunks, enough, self.weights)
        share = _share(_SIGNATURE_SHARES, _SIGNATURE_SHARE_BEYOND, budget_tokens)
        self.left -= self.volatile.add_signatures(symbols, int(self.left * share), self._is_shown)
        self._add_chunks(chunks)
        self.left -= self.volatile.upgrade(symbols, self.left)
        self.left -= self.volatile.add_signatures(symbols, self.left, self._is_shown)

    def _choose_stable(self, lookup: Lookup, budget_tokens: int) -> None:
        signatures, files = stable_room(budget_tokens)
        if signatures > self.left:
            return
        if signatures:
            enough = min(_MAX_SYMBOLS, signatures // _TOKENS_PER_SYMBOL)
            symbols = stable_symbols(lookup, enough, self.weights)
            self.left -= self.stable.add_signatures(symbols, signatures)
        if files:
            order = file_order(lookup, self.weights, files >= _MIN_EVERYTHING_TOKENS)
            recent = frozenset(self.site.recent)
            chosen = ((path, reason) for path, reason in order if path not in recent)
            self.left -= self.stable_files.add(chosen, min(files, self.left), (self.stable,))

    def _choose_session(self, budget_tokens: int) -> None:
        room = int(budget_tokens * _SESSION_SHARE)
        if room >= _MIN_FILE_TOKENS:
            # The oldest first: a file that is opened now is appended.
            order = [(path, "recent file") for path in reversed(self.site.recent)]
            used = self.session_files.add(order, min(room, self.left), (self.stable,))
            self.left -= used

    def _add_chunks(self, chunks: Sequence[ScoredChunk]) -> None:
        misses = 0
        for chunk in chunks[:_MAX_CHUNKS]:
            if self.left < MIN_TOKENS or misses >= MAX_MISSES:
                break
            path, lines = chunk.record.path, (chunk.start_line, chunk.end_line)
            text = None if self._is_whole(path) else self.view.text(chunk.record)
            piece = text and lines_piece(path, text, lines, "chunk", "", chunk.score, chunk.reason)
            if not piece or self.view.is_shown(piece.text):
                continue
            cost = self.costs.of_piece(piece) + self.costs.of_header(path)
            if cost > self.left:
                misses += 1
                continue
            self.chunks.append(piece)
            self.view.show(piece.text)
            self.left -= cost

    def _is_shown(self, path: str, start_byte: int) -> bool:
        return self._is_whole(path) or self.stable.has(path, start_byte)

    def _is_whole(self, path: str) -> bool:
        return any(path in files.by_path for files in self.files)

    def widen_window(self, offset: int) -> None:
        """Give what is left to more lines around the cursor."""
        before = self.view.window
        if before.whole or self.left < MIN_TOKENS:
            return
        wider = fit_window(
            self.text, offset, self.site.file.path, before.tokens + self.left, self.count
        )
        if wider.tokens <= before.tokens:
            return
        self.view.window = wider
        self.left -= wider.tokens - before.tokens
        self.volatile.leave_window()
        lines = (wider.start_line, wider.end_line)
        self.chunks = [
            chunk
            for chunk in self.chunks
            if chunk.path != self.site.file.path
            or not meet((chunk.span.start_line, chunk.span.end_line), lines)
        ]

    def fill(self) -> None:
        """Give what is still left to further whole files."""
        if self.lookup is None or self.left < _MIN_FILE_TOKENS:
            return
        everything = self.left >= _MIN_EVERYTHING_TOKENS
        whole = {path for files in self.files for path in files.by_path}
        order = file_order(self.lookup, self.weights, everything)
        chosen = ((path, reason) for path, reason in order if path not in whole)
        self.left -= self.more_files.add(chosen, self.left, (self.volatile,))
        self.chunks = [chunk for chunk in self.chunks if not self._is_whole(chunk.path)]

    def assemble(self, room: int) -> tuple[PackedSegment, ...]:
        """Segments in prompt order; the least worthy go until the true costs fit."""
        limit = room - self.view.window.tokens
        while True:
            segments = self._segments()
            excess = sum(segment.tokens + SEGMENT_SLACK for segment in segments) - limit
            if excess <= 0 or not segments:
                return segments
            self._drop(excess)

    def _segments(self) -> tuple[PackedSegment, ...]:
        stable, session, more = (files.by_path.values() for files in self.files)
        definitions = [list(own.values()) for _, own in sorted(self.volatile.by_path.items())]
        alike = sorted(self.chunks, key=lambda p: (p.score, p.path, p.span.start_byte))
        tiers = (
            (Tier.STABLE, [[piece] for piece in stable]),
            (Tier.STABLE, [list(own.values()) for own in self.stable.by_path.values()]),
            (Tier.SESSION, [[piece] for piece in session]),
            (Tier.VOLATILE, [[piece] for piece in more]),
            (Tier.VOLATILE, definitions),
            (Tier.VOLATILE, [[piece] for piece in alike]),
        )
        return tuple(self._priced(pieces, tier) for tier, groups in tiers for pieces in groups)

    def _priced(self, pieces: Sequence[Piece], tier: Tier) -> PackedSegment:
        segment = merge(pieces, 0)
        tokens = self.costs.of(render(segment))
        return PackedSegment(segment.segment, segment.level, tokens, segment.reason, tier)

    def _drop(self, excess: int) -> None:
        """Remove pieces of about `excess` tokens: the volatile tier first, the stable one last."""
        while excess > 0:
            if self.chunks:
                least = min(self.chunks, key=lambda p: (p.score, p.path))
                self.chunks.remove(least)
                excess -= self.costs.of_piece(least)
                continue
            for chosen in (self.volatile, self.stable):
                if chosen.by_path:
                    excess -= chosen.drop_least()
                    break
            else:
                for files in reversed(self.files):
                    if files.by_path:
                        excess -= files.drop_last()
                        break
                else:
                    return


def _share(shares: Sequence[tuple[int, float]], beyond: float, budget_tokens: int) -> float:
    return next((share for limit, share in shares if budget_tokens <= limit), beyond)

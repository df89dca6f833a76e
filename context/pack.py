"""Fill a token budget with what helps most at a cursor, and never exceed it.

In this order, each with what the ones before left over: the lines around the cursor, signatures of
definitions that are imported or named nearby, pieces of similar code, docs and bodies of the best
definitions, more lines around the cursor, whole files. In the prompt the stable part comes first
(whole files, then definitions, both by path, so that an engine can keep what it computed for them)
and the volatile part last (similar code, best last), then the cursor's window.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import xxhash

from qcoder.context.chunks import ScoredChunk, rank_chunks
from qcoder.context.costs import SEGMENT_SLACK, Costs, digest, meet
from qcoder.context.imports import path_distance
from qcoder.context.index import Index
from qcoder.context.languages import language_of
from qcoder.context.lookup import Lookup
from qcoder.context.pieces import Piece, lines_piece, merge, render, symbol_piece
from qcoder.context.rank import ScoredSymbol, rank_symbols
from qcoder.context.record import FileRecord, analyse
from qcoder.context.segments import (
    CursorWindow,
    Document,
    Level,
    PackedContext,
    PackedSegment,
    TokenCounter,
)
from qcoder.context.signals import WEIGHTS
from qcoder.context.site import Site, family, make_site
from qcoder.context.window import Window, fit_window, offset_of

__all__ = ["pack", "render"]

logger = logging.getLogger(__name__)

# Special tokens around the window, and tokens that join differently at its borders.
WINDOW_SLACK = 8

_WINDOW_SHARES = ((1024, 0.75), (4096, 0.6), (16384, 0.45))
_WINDOW_SHARE_BEYOND = 0.3
_SIGNATURE_SHARE = 0.6
_MIN_SEGMENT_TOKENS = 12
_MIN_FILE_TOKENS = 1500
_MAX_MISSES = 12
_TOKENS_PER_SYMBOL = 12
_MAX_CHUNKS = 64
_UPGRADE_SCORE = 3.0
_BODY_SCORE = 10.0
_MAX_BODY_LINES = 200


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
    """
    offset = offset_of(document.text, line, column)
    slack = min(WINDOW_SLACK, budget_tokens // 8)
    room = max(0, budget_tokens - slack)
    share = next((s for limit, s in _WINDOW_SHARES if budget_tokens <= limit), _WINDOW_SHARE_BEYOND)
    wanted = int(room * share) if window_tokens is None else min(room, window_tokens)
    window = fit_window(document.text, offset, path, wanted, count_tokens)
    packing = _Packing(index, document, path, offset, count_tokens, recent)
    packing.weights = weights
    packing.fixed_window = window_tokens is not None
    packing.choose(window, room)
    segments = packing.assemble(room - packing.window.tokens)
    chosen = packing.window
    return PackedContext(
        segments,
        CursorWindow(chosen.path, document.language, chosen.prefix, chosen.suffix, chosen.tokens),
        budget_tokens,
    )


class _Packing:
    """The state of one call of `pack`: what is chosen and how many tokens are left."""

    def __init__(
        self,
        index: Index | None,
        document: Document,
        path: str,
        offset: int,
        count_tokens: TokenCounter,
        recent: Sequence[str],
    ) -> None:
        self.index = index
        self.document = document
        self.path = path
        self.offset = offset
        self.count = count_tokens
        self.recent = tuple(name for name in recent if name != path)
        self.left = 0
        self.fixed_window = False
        self.weights = WEIGHTS
        self.definitions: dict[str, dict[int, Piece]] = {}
        self.chunks: list[Piece] = []
        self.files: dict[str, Piece] = {}
        self.costs = Costs(count_tokens)
        self._texts: dict[str, str | None] = {}
        self._shown: set[bytes] = set()

    def choose(self, window: Window, room: int) -> None:
        """Run the phases; each takes from what is left."""
        self.window = window
        self.left = room - window.tokens
        site = self._site()
        self.site = site
        chunks = rank_chunks(self.index, site)
        enough = self.left // _TOKENS_PER_SYMBOL
        symbols = rank_symbols(self.index, site, chunks, enough, self.weights)
        self._add_signatures(symbols, int(self.left * _SIGNATURE_SHARE))
        self._add_chunks(chunks)
        self._upgrade(symbols)
        self._widen_window()
        if self.index is not None and self.left >= _MIN_FILE_TOKENS:
            self._add_files(self.index, chunks)

    def assemble(self, limit: int) -> tuple[PackedSegment, ...]:
        """Segments in prompt order; the least worthy go until the true costs fit `limit`."""
        while True:
            segments = self._segments()
            used = sum(segment.tokens + SEGMENT_SLACK for segment in segments)
            if used <= limit or not segments:
                return segments
            self._drop_least()

    def _site(self) -> Site:
        text = self.document.text
        data_hash = xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
        record = self.index.record(self.path) if self.index else None
        if (
            record is None
            or record.facts.hash != data_hash
            or record.facts.language != self.document.language
        ):
            facts = analyse(text, self.document.language, data_hash)
            record = FileRecord(self.path, len(text), 0, facts)
        self._texts[self.path] = text
        hidden = (self.window.start_line, self.window.end_line)
        before, after = text[: self.offset], text[self.offset :]
        return make_site(record, before, after, hidden, self.recent)

    def _add_signatures(self, symbols: Sequence[ScoredSymbol], limit: int) -> None:
        floor, misses = self.left - limit, 0
        for scored in symbols:
            if self.left - floor < _MIN_SEGMENT_TOKENS or misses >= _MAX_MISSES:
                break
            group = self._signature_group(scored)
            cost = sum(self.costs.of_piece(piece) for piece in group)
            if group and group[0].path not in self.definitions:
                cost += self.costs.of_header(group[0].path)
            if cost > self.left - floor:
                misses += 1
                continue
            for piece in group:
                self.definitions.setdefault(piece.path, {})[piece.span.start_byte] = piece
            self.left -= cost

    def _signature_group(self, scored: ScoredSymbol) -> list[Piece]:
        """The signature, after that of its class when the class is not there yet."""
        record, symbol = scored.record, scored.symbol
        chosen = self.definitions.get(record.path, {})
        group = []
        for owner in record.facts.symbols:
            encloses = owner.start_byte < symbol.start_byte and symbol.end_byte <= owner.end_byte
            visible = record.path == self.path and (
                self.window.start_line <= owner.start_line < self.window.end_line
            )
            if encloses and not visible and owner.start_byte not in chosen:
                group.append(
                    symbol_piece(record, owner, Level.SIGNATURE, scored.score / 2, scored.reason)
                )
        if symbol.start_byte not in chosen:
            group.append(symbol_piece(record, symbol, Level.SIGNATURE, scored.score, scored.reason))
        return group

    def _add_chunks(self, chunks: Sequence[ScoredChunk]) -> None:
        misses = 0
        for chunk in chunks[:_MAX_CHUNKS]:
            if self.left < _MIN_SEGMENT_TOKENS or misses >= _MAX_MISSES:
                break
            text = self._text(chunk.record)
            lines = (chunk.start_line, chunk.end_line)
            piece = text and lines_piece(
                chunk.record.path, text, lines, "chunk", "", chunk.score, chunk.reason
            )
            if not piece or digest(piece.text) in self._shown:
                continue
            cost = self.costs.of_piece(piece) + self.costs.of_header(piece.path)
            if cost > self.left:
                misses += 1
                continue
            self.chunks.append(piece)
            self._shown.add(digest(piece.text))
            self.left -= cost

    def _upgrade(self, symbols: Sequence[ScoredSymbol]) -> None:
        by_score = sorted(
            (s for s in symbols if s.score >= _UPGRADE_SCORE),
            key=lambda s: (-s.score, s.record.path, s.symbol.start_byte),
        )
        for level in (Level.DOCSTRING, Level.BODY):
            misses = 0
            for scored in by_score:
                if self.left < _MIN_SEGMENT_TOKENS or misses >= _MAX_MISSES:
                    break
                chosen = self.definitions.get(scored.record.path, {})
                before = chosen.get(scored.symbol.start_byte)
                if before is None:
                    continue
                after = self._at_level(scored, level)
                if after is not None and not self._swap(chosen, before, after):
                    misses += 1

    def _at_level(self, scored: ScoredSymbol, level: Level) -> Piece | None:
        record, symbol = scored.record, scored.symbol
        if level is Level.DOCSTRING:
            if not symbol.summary:
                return None
            return symbol_piece(record, symbol, level, scored.score, scored.reason)
        lines = (symbol.start_line, symbol.end_line)
        if scored.score < _BODY_SCORE or lines[1] - lines[0] > _MAX_BODY_LINES:
            return None
        if self._overlaps(record.path, lines):
            return None
        text = self._text(record)
        if text is None:
            return None
        piece = lines_piece(
            record.path, text, lines, symbol.kind, symbol.name, scored.score, scored.reason
        )
        return None if piece is None or digest(piece.text) in self._shown else piece

    def _swap(self, chosen: dict[int, Piece], before: Piece, after: Piece) -> bool:
        """Put a definition's fuller form in place of the one before and of what it contains."""
        around = before.span
        gone = [before]
        if after.level is Level.BODY:
            for piece in chosen.values():
                inside = around.start_byte <= piece.span.start_byte < around.end_byte
                outside = piece.span.start_byte <= around.start_byte < piece.span.end_byte
                if piece is not before and piece.level is Level.BODY and outside:
                    return True
                if piece is not before and inside:
                    gone.append(piece)
        cost = self.costs.of_piece(after) - sum(self.costs.of_piece(piece) for piece in gone)
        if cost > self.left:
            return False
        for piece in gone:
            del chosen[next(key for key, value in chosen.items() if value is piece)]
        chosen[before.span.start_byte] = after
        if after.level is Level.BODY:
            self._shown.add(digest(after.text))
        self.left -= cost
        return True

    def _overlaps(self, path: str, lines: tuple[int, int]) -> bool:
        """Whether lines are shown elsewhere: in the window, or in a chosen piece."""
        if path == self.path and meet(lines, (self.window.start_line, self.window.end_line)):
            return True
        return any(
            chunk.path == path and meet(lines, (chunk.span.start_line, chunk.span.end_line))
            for chunk in self.chunks
        )

    def _widen_window(self) -> None:
        if self.window.whole or self.fixed_window or self.left < _MIN_SEGMENT_TOKENS:
            return
        before = self.window
        wider = fit_window(
            self.document.text, self.offset, self.path, before.tokens + self.left, self.count
        )
        if wider.tokens <= before.tokens:
            return
        self.window = wider
        self.left -= wider.tokens - before.tokens
        own = self.definitions.get(self.path, {})
        for key, piece in list(own.items()):
            if wider.start_line <= piece.span.start_line < wider.end_line:
                del own[key]
        if not own:
            self.definitions.pop(self.path, None)
        self.chunks = [
            chunk
            for chunk in self.chunks
            if chunk.path != self.path
            or not meet(
                (chunk.span.start_line, chunk.span.end_line), (wider.start_line, wider.end_line)
            )
        ]

    def _add_files(self, index: Index, chunks: Sequence[ScoredChunk]) -> None:
        misses = 0
        for path, reason in self._file_order(index, chunks):
            if self.left < _MIN_SEGMENT_TOKENS or misses >= _MAX_MISSES:
                break
            record = index.record(path)
            text = self._text(record) if record is not None else None
            # No tokenizer packs eight characters into a token over a whole file.
            if record is None or text is None or len(text) > 8 * self.left:
                misses += text is not None
                continue
            piece = lines_piece(path, text, (0, record.facts.lines), "file", "", 0.0, reason)
            if piece is None or digest(piece.text) in self._shown:
                continue
            freed = self._cost_of_path(path)
            cost = self.costs.of_piece(piece) + self.costs.of_header(path) - freed
            if cost > self.left:
                misses += 1
                continue
            self.definitions.pop(path, None)
            self.chunks = [chunk for chunk in self.chunks if chunk.path != path]
            self.files[path] = piece
            self._shown.add(digest(piece.text))
            self.left -= cost

    def _file_order(self, index: Index, chunks: Sequence[ScoredChunk]) -> Iterator[tuple[str, str]]:
        """Files by how likely they help: in use, imported, alike, then the rest by path."""
        seen = {self.path}
        groups = (
            (self.recent, "recent file"),
            (Lookup(index, self.site).imported, "import"),
            ([chunk.record.path for chunk in chunks], "similar code"),
            (self._by_distance(index), "workspace"),
        )
        for paths, reason in groups:
            for path in paths:
                if path not in seen:
                    seen.add(path)
                    yield path, reason

    def _by_distance(self, index: Index) -> list[str]:
        """All files, those of the language nearby first; too many to ask for on a small budget."""
        if self.left < 4 * _MIN_FILE_TOKENS:
            return []
        own = family(self.document.language)

        def distance(path: str) -> tuple[bool, int, str]:
            return family(language_of(path)) != own, path_distance(path, self.path), path

        return sorted(index.paths(), key=distance)

    def _segments(self) -> tuple[PackedSegment, ...]:
        files = [[piece] for _, piece in sorted(self.files.items())]
        definitions = [list(own.values()) for _, own in sorted(self.definitions.items()) if own]
        alike = sorted(self.chunks, key=lambda p: (p.score, p.path, p.span.start_byte))
        return tuple(
            self._priced(pieces) for pieces in [*files, *definitions, *([p] for p in alike)]
        )

    def _priced(self, pieces: Sequence[Piece]) -> PackedSegment:
        segment = merge(pieces, 0)
        return PackedSegment(
            segment.segment, segment.level, self.costs.of(render(segment)), segment.reason
        )

    def _drop_least(self) -> None:
        """Remove one piece: similar code first, then definitions, whole files last."""
        if self.chunks:
            self.chunks.remove(min(self.chunks, key=lambda p: (p.score, p.path)))
        elif self.definitions:
            path, key = min(
                ((path, key) for path, own in self.definitions.items() for key in own),
                key=lambda at: (self.definitions[at[0]][at[1]].score, at),
            )
            del self.definitions[path][key]
            if not self.definitions[path]:
                del self.definitions[path]
        else:
            del self.files[max(self.files)]

    def _text(self, record: FileRecord) -> str | None:
        if record.path not in self._texts:
            self._texts[record.path] = self.index.text_of(record) if self.index else None
        return self._texts[record.path]

    def _cost_of_path(self, path: str) -> int:
        own = self.definitions.get(path, {})
        cost = sum(self.costs.of_piece(piece) for piece in own.values())
        cost += self.costs.of_header(path) if own else 0
        for chunk in self.chunks:
            if chunk.path == path:
                cost += self.costs.of_piece(chunk) + self.costs.of_header(path)
        return cost

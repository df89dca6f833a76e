"""What is compared: the packer and the usual ways to find context, all from one index.

A system gives, for one task and one budget, texts by path; none costs more than the budget by the
tokenizer of the run. The baselines emit pieces in their order until the budget is used; a piece
costs its tokens, and those of its path when it is the first of its file.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcoder.context.index import Index
from qcoder.context.pack import pack, render
from qcoder.context.record import CHUNK_LINES, FileRecord, identifiers_of
from qcoder.context.segments import Document, TokenCounter
from qcoder.context.signals import WEIGHTS
from retrieval.tasks import Task

WINDOW_TOKENS = 512
_QUERY_LINES = 40
_JACCARD_LINES = 20

Shown = list[tuple[str, str]]
System = Callable[[Task, str, int], Shown]


def qcoder_system(
    index: Index, count: TokenCounter, weights: Mapping[str, float] = WEIGHTS
) -> System:
    """The packer as the product calls it; the budget is for what comes beside the cursor window."""

    def run(task: Task, prefix: str, budget: int) -> Shown:
        document = Document("file:///task", 1, task.language, prefix)
        place = prefix.count("\n"), len(prefix) - prefix.rfind("\n") - 1
        window = WINDOW_TOKENS
        for _ in range(2):
            packed = pack(
                index,
                document,
                task.path,
                *place,
                budget + window,
                count,
                window_tokens=window,
                weights=weights,
            )
            if packed.tokens - packed.window.tokens <= budget:
                break
            # A short file leaves room of its window, which is not for other files here.
            window = packed.window.tokens
        return [(segment.segment.path, render(segment)) for segment in packed.segments]

    return run


@dataclass(frozen=True, slots=True)
class Chunks:
    """Windows of `CHUNK_LINES` lines of all files, with an inverted map by identifier."""

    places: list[tuple[str, str]]
    sizes: np.ndarray
    files: dict[str, tuple[int, int]]
    postings: dict[str, np.ndarray]

    @staticmethod
    def of(index: Index) -> Chunks:
        """From the records of an index."""
        places: list[tuple[str, str]] = []
        sizes: list[int] = []
        files: dict[str, tuple[int, int]] = {}
        postings: defaultdict[str, list[int]] = defaultdict(list)
        for path in index.paths():
            text = index.text(path)
            if text is None:
                continue
            lines, first = text.split("\n"), len(places)
            for start in range(0, len(lines), CHUNK_LINES):
                piece = "\n".join(lines[start : start + CHUNK_LINES])
                names = set(identifiers_of(piece))
                for name in names:
                    postings[name].append(len(places))
                places.append((path, piece))
                sizes.append(len(names))
            files[path] = (first, len(places))
        arrays = {name: np.array(at, dtype=np.int32) for name, at in postings.items()}
        return Chunks(places, np.array(sizes, dtype=np.float64), files, arrays)

    def without(self, path: str, scores: np.ndarray) -> list[int]:
        """Positions of chunks by falling score; those of `path` and those that score 0 are out."""
        first, last = self.files.get(path, (0, 0))
        scores[first:last] = 0
        order = np.argsort(-scores, kind="stable")
        return [int(i) for i in order[: int(np.count_nonzero(scores))][:3000]]


def bm25_system(count: TokenCounter, chunks: Chunks) -> System:
    """BM25 (k1 1.2, b 0.75) over chunks; the query is the names of the last 40 lines."""
    mean = float(chunks.sizes.mean())
    norm = 1 / (1 + 1.2 * (0.25 + 0.75 * chunks.sizes / mean))

    def run(task: Task, prefix: str, budget: int) -> Shown:
        scores = np.zeros(len(chunks.places))
        for name in set(identifiers_of(_last_lines(prefix, _QUERY_LINES))):
            at = chunks.postings.get(name)
            if at is not None:
                idf = math.log(1 + (len(scores) - len(at) + 0.5) / (len(at) + 0.5))
                scores[at] += idf * 2.2 * norm[at]
        return _emit_chunks(chunks, chunks.without(task.path, scores), budget, count)

    return run


def jaccard_system(count: TokenCounter, chunks: Chunks) -> System:
    """Jaccard index of the names of the last 20 lines with those of every chunk."""

    def run(task: Task, prefix: str, budget: int) -> Shown:
        shared = np.zeros(len(chunks.places))
        query = set(identifiers_of(_last_lines(prefix, _JACCARD_LINES)))
        for name in query:
            at = chunks.postings.get(name)
            if at is not None:
                shared[at] += 1
        scores = shared / (chunks.sizes + len(query) - shared)
        return _emit_chunks(chunks, chunks.without(task.path, scores), budget, count)

    return run


def import_system(index: Index, count: TokenCounter) -> System:
    """Signatures of whole files, breadth first along imports."""

    def run(task: Task, prefix: str, budget: int) -> Shown:
        return _emit(_signatures(_reached(index, task.path)), budget, count)

    return run


def random_system(index: Index, count: TokenCounter, seed: int) -> System:
    """Signatures in random order: what volume alone brings."""
    paths = index.paths()

    def run(task: Task, prefix: str, budget: int) -> Shown:
        rng = random.Random(f"{seed}:{task.path}:{task.offset}")

        def pieces() -> Iterator[tuple[str, str]]:
            while True:
                record = index.record(rng.choice(paths))
                if record and record.facts.symbols and record.path != task.path:
                    symbol = rng.choice(record.facts.symbols)
                    yield record.path, symbol.signature

        return _emit(pieces(), budget, count)

    return run


def _emit_chunks(chunks: Chunks, order: Sequence[int], budget: int, count: TokenCounter) -> Shown:
    return _emit((chunks.places[position] for position in order), budget, count)


def _emit(pieces: Iterable[tuple[str, str]], budget: int, count: TokenCounter) -> Shown:
    shown: defaultdict[str, list[str]] = defaultdict(list)
    left, misses = budget, 0
    for path, text in pieces:
        cost = count(text + "\n") + (0 if path in shown else count(path + "\n") + 2)
        if cost > left:
            misses += 1
            if misses > 8:
                break
            continue
        left -= cost
        shown[path].append(text)
    return [(path, "\n".join(texts)) for path, texts in shown.items()]


def _signatures(records: Iterable[FileRecord]) -> Iterator[tuple[str, str]]:
    for record in records:
        for symbol in record.facts.symbols:
            if not symbol.nested:
                yield record.path, symbol.signature


def _reached(index: Index, path: str) -> Iterator[FileRecord]:
    seen, queue = {path}, [path]
    while queue:
        record = index.record(queue.pop(0))
        if record is None:
            continue
        if record.path != path:
            yield record
        for found in record.facts.imports:
            for module in (found.module, *(f"{found.module}/{name}" for name in found.names)):
                for target in index.resolve(module, record.path):
                    if target not in seen:
                        seen.add(target)
                        queue.append(target)


def _last_lines(text: str, lines: int) -> str:
    return "\n".join(text.split("\n")[-lines:])

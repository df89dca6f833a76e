"""The server's own completion fills holes: its packer, prompt, mixture and filters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from qcoder.context.index import Index
from qcoder.context.segments import Document
from qcoder.lsp_server.completion import complete, prepare
from qcoder.lsp_server.headless import file_table
from qcoder.lsp_server.settings import DEFAULT_BUDGET, Settings
from qcoder.lsp_server.snapshot import Snapshot
from qcoder.model.engine import Engine
from qcoder.model.healing import PrefixIndex
from qcoder.model.ngram import SuffixTable
from qcoder.model.request import FinishReason, GenerationRequest, TokenOut
from qcoder.training import holes
from qcoder.training.heldout import SourceFile
from qcoder.training.holes import MAX_TRUTH, Filled, Hole
from qcoder.training.traces import Steps, trace_hole

SETTINGS = Settings()
SERVED = replace(
    SETTINGS,
    completion=replace(
        SETTINGS.completion, multiline="never", partial=False, budget_tokens=DEFAULT_BUDGET
    ),
)
"""The default settings, made independent of whether `--model` is the model that ships; whole lines."""

UNFILTERED = replace(SERVED, completion=replace(SERVED.completion, min_confidence=0.0))


class Recorder:
    """An engine that also keeps what it generated last, for `complete` shows cleaned text only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.outs: list[TokenOut] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, request: GenerationRequest) -> Iterator[TokenOut]:
        """See `Engine`."""
        self.outs = []
        for out in self._engine.generate(request):
            self.outs.append(out)
            yield out


@dataclass(frozen=True, slots=True)
class Opened:
    """A held-out file as the server has it open: its workspace's index and copy table."""

    file: SourceFile
    index: Index
    workspace: SuffixTable | None


def index_of(root: Path, cache: Path) -> Index:
    """The index of a repository, as the server builds it."""
    index = Index.open(root, cache)
    index.refresh()
    return index


def snapshot_of(hole: Hole, opened: Opened, engine: Engine) -> Snapshot:
    """The file with its hole, as the server sees it."""
    file, text = opened.file, hole.prefix + hole.suffix
    document = Document((file.root / file.path).as_uri(), 0, file.language, text)
    opened.index.overlay(file.path, document)
    tables = (file_table(text, engine.tokenizer), opened.workspace)
    return Snapshot(
        document, file.path, file.root, opened.index, SERVED,
        tuple(table for table in tables if table is not None),
    )  # fmt: skip


def trace(hole: Hole, opened: Opened, engine: Engine, prefixes: PrefixIndex) -> Steps | None:
    """What network and copies say of what is missing, behind the server's prompt."""
    snapshot = snapshot_of(hole, opened, engine)
    ready = prepare(snapshot, hole.line, hole.column, engine)
    if ready is None:
        return None
    following = hole.truth + hole.suffix[:MAX_TRUTH]
    return trace_hole(engine, prefixes, ready.prompt, snapshot.copy_tables, following)


def fill(hole: Hole, opened: Opened, engine: Recorder) -> Filled:
    """Ask the server's completion for one hole: with the default settings, else unfiltered."""
    as_engine = cast(Engine, engine)
    snapshot = snapshot_of(hole, opened, as_engine)
    engine.outs = []  # where nothing may be completed, nothing is generated
    began = time.perf_counter()
    ready = prepare(snapshot, hole.line, hole.column, as_engine)
    shown = complete(snapshot, hole.line, hole.column, as_engine, prepared=ready)
    seconds = time.perf_counter() - began
    offered = shown
    if offered is None:
        everything = replace(snapshot, settings=UNFILTERED)
        offered = complete(everything, hole.line, hole.column, as_engine, prepared=ready)
    written = "".join(out.text for out in engine.outs)
    return Filled(
        hole,
        written,
        bool(engine.outs) and engine.outs[-1].finish == FinishReason.STOP,
        holes.parses(hole, written),
        offered.text if offered else "",
        offered.confidence if offered else 0.0,
        shown.text if shown else "",
        seconds,
        tuple(o.logprob for o in engine.outs if o.id >= 0 or o.finish == FinishReason.STOP),
    )

"""What a task gets and what it returns: frozen, no protocol types, no editor state.

`Snapshot` is the whole world of one request. Tasks (`completion`, `review`, `docstring`) are
functions from a snapshot and an engine to `Suggestion`, `Finding` or `DocstringEdit`.
Lines and columns are 0-based, columns count Unicode code points; `convert.py` maps to the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qcoder.context.ignore import kept_out
from qcoder.context.index import Index
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.segments import Document, PackedContext
from qcoder.lsp_server.settings import Settings
from qcoder.model.ngram import SuffixTable


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One document version with everything a task may read.

    `path` is relative to `root` with slashes (or the bare file name outside any workspace).
    `recent` are paths of recently used files, latest first.
    """

    document: Document
    path: str
    root: Path | None
    index: Index | None
    settings: Settings
    copy_tables: tuple[SuffixTable, ...] = ()
    recent: tuple[str, ...] = ()


def is_refused(snapshot: Snapshot) -> bool:
    """Whether the privacy gate keeps a document from every task, by name, pattern or content."""
    if snapshot.root is not None and kept_out(snapshot.root, snapshot.path):
        return True
    exclude = exclude_spec(snapshot.settings.privacy.exclude)
    data = snapshot.document.text.encode("utf-8", "replace")
    return refused(snapshot.path, data, exclude) is not None


@dataclass(frozen=True, slots=True)
class TextEdit:
    """Replace the text between two 0-based positions."""

    start_line: int
    start_column: int
    end_line: int
    end_column: int
    new_text: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A completion: `edit` inserts at the cursor (or covers the rest of the line).

    `confidence`, 0 to 1, is the probability of being right where the model is calibrated, else the
    geometric mean of the token probabilities. `timings_ms` has the
    keys of the command line's JSON: index, pack, prefill, decode, post, total. `errors` are the
    syntax errors of the document with it.
    """

    text: str
    edit: TextEdit
    confidence: float
    tokens: int
    finish_reason: str
    prompt_tokens: int
    reused_tokens: int
    temperature: float
    sources: dict[str, int]
    context: PackedContext
    timings_ms: dict[str, float] = field(default_factory=dict)
    errors: int = 0


Severity = Literal["error", "warning", "info", "hint"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark of a review. `fingerprint` survives line moves: it holds no line number.

    `fix` is the edit that mends it, where one is safe.
    """

    rule: str
    severity: Severity
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    message: str
    confidence: float
    source: Literal["rule", "model"]
    fingerprint: str
    fix: TextEdit | None = None


@dataclass(frozen=True, slots=True)
class DocstringEdit:
    """A docstring for one symbol, as the edit that inserts it and nothing else."""

    path: str
    symbol: str
    line: int
    style: str
    docstring: str
    slots_from_model: int
    edit: TextEdit

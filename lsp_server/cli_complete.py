"""`qcoder complete` and `qcoder context`: one cursor position, without an editor."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from qcoder.context.ignore import kept_out
from qcoder.context.index import Index
from qcoder.context.pack import pack
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.workspace import find_root
from qcoder.lsp_server.attempt import SENTENCES, context_rows
from qcoder.lsp_server.cli_engine import load_engine, remote_or_none, workspace_model
from qcoder.lsp_server.cli_workspace import settings_of, workspace_index
from qcoder.lsp_server.completion import attempt, prepare, why_not
from qcoder.lsp_server.headless import InputError, file_table, snapshot_of_file, workspace_table
from qcoder.lsp_server.snapshot import Snapshot, TextEdit
from qcoder.model.request import CancelToken

TIMING_KEYS = ("index", "pack", "prefill", "decode", "post", "total")


def opened(args: argparse.Namespace) -> tuple[Snapshot, Index, int, int, float]:
    """Snapshot, index, 0-based line and column, and the milliseconds that indexing took."""
    path: Path = args.file
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    path = path.resolve()
    root = (args.workspace or find_root(path)).resolve()
    settings = settings_of(root)
    relative = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    reason = refused(relative, path.read_bytes(), exclude_spec(settings.privacy.exclude))
    if reason is None and kept_out(root, relative):
        reason = "named in .qcoderignore"
    if reason is not None:
        raise InputError(f"{path}: refused ({reason}); `qcoder doctor --why {path.name}` says more")
    began = time.perf_counter()
    index = workspace_index(root, settings)
    index_ms = 1000 * (time.perf_counter() - began)
    snapshot = snapshot_of_file(path, root, settings, index)
    lines = snapshot.document.text.split("\n")
    if not 1 <= args.line <= len(lines):
        raise InputError(f"{path}: line {args.line} is outside 1..{len(lines)}")
    if not 1 <= args.column <= len(lines[args.line - 1]) + 1:
        raise InputError(
            f"{path}:{args.line}: column {args.column} is outside 1..{len(lines[args.line - 1]) + 1}"
        )
    return snapshot, index, args.line - 1, args.column - 1, index_ms


def complete(args: argparse.Namespace) -> int:
    """Print the completion at the cursor; an explicit request, so the bar is low."""
    snapshot, index, line, column, index_ms = opened(args)
    settings = snapshot.settings
    engine = remote_or_none(args.model, settings) or load_engine(
        workspace_model(args.model, snapshot.root, settings)
    )
    tables = [file_table(snapshot.document.text, engine.tokenizer)]
    table = workspace_table(index, engine.tokenizer, snapshot.path)
    tables += [table] if table is not None else []
    snapshot = Snapshot(
        snapshot.document, snapshot.path, snapshot.root, index, snapshot.settings, tuple(tables)
    )
    began = time.perf_counter()
    ready = prepare(snapshot, line, column, engine, True, args.max_tokens)
    pack_ms = 1000 * (time.perf_counter() - began)
    if ready is None:
        came = why_not(snapshot, line, column, True)
    else:
        came = attempt(ready, snapshot, engine, CancelToken(), invoked=True, pack_ms=pack_ms)
    index.close()
    suggestion = came.suggestion
    if suggestion is None:
        filters = f" ({', '.join(came.filters)})" if came.filters else ""
        where = f"{snapshot.path}:{args.line}:{args.column}"
        print(f"no suggestion at {where}: {SENTENCES[came.reason]}{filters}", file=sys.stderr)
    if args.format == "text":
        print(suggestion.text if suggestion else "")
        return 0
    if suggestion is None:
        why = {"reason": came.reason, "filters": list(came.filters)}
        print(json.dumps({**nothing(index_ms), **why}))
        return 0
    timings = {**suggestion.timings_ms, "index": index_ms}
    timings["total"] += index_ms
    result: dict[str, Any] = {
        "text": suggestion.text,
        "edit": edit_row(suggestion.edit),
        "tokens": suggestion.tokens,
        "finish_reason": suggestion.finish_reason,
        "confidence": round(suggestion.confidence, 4),
        "prompt_tokens": suggestion.prompt_tokens,
        "reused_tokens": suggestion.reused_tokens,
        "temperature": suggestion.temperature,
        "sources": suggestion.sources,
        "reason": came.reason,
        "filters": list(came.filters),
        "segments": context_rows(suggestion.context),
        "timings_ms": {key: round(timings[key], 2) for key in TIMING_KEYS},
    }
    print(json.dumps(result))
    return 0


def edit_row(edit: TextEdit) -> dict[str, int]:
    """The range that the text replaces, 1-based; empty for a plain insertion."""
    return {
        "start_line": edit.start_line + 1,
        "start_column": edit.start_column + 1,
        "end_line": edit.end_line + 1,
        "end_column": edit.end_column + 1,
    }


def nothing(index_ms: float) -> dict[str, Any]:
    """The JSON of "no suggestion"."""
    timings = dict.fromkeys(TIMING_KEYS, 0.0) | {"index": round(index_ms, 2)}
    return {
        "text": "",
        "edit": None,
        "tokens": 0,
        "finish_reason": "stop",
        "confidence": 0.0,
        "prompt_tokens": 0,
        "reused_tokens": 0,
        "temperature": 0.0,
        "sources": {"model": 0, "ngram": 0},
        "segments": [],
        "timings_ms": timings | {"total": round(index_ms, 2)},
    }


def context(args: argparse.Namespace) -> int:
    """Print what the packer chooses for the cursor, counted with the default tokenizer."""
    if args.budget < 1:
        raise InputError("--budget must be at least 1 token")
    snapshot, index, line, column, index_ms = opened(args)
    from qcoder.model.registry import DEFAULT_FOLDER
    from qcoder.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(DEFAULT_FOLDER)
    began = time.perf_counter()
    packed = pack(
        index, snapshot.document, snapshot.path, line, column, args.budget,
        tokenizer.count,
    )  # fmt: skip
    pack_ms = 1000 * (time.perf_counter() - began)
    index.close()
    rows = [
        {**row, "level": str(item.level), "tier": str(item.tier), "text": item.segment.text}
        for row, item in zip(context_rows(packed), packed.segments, strict=True)
    ]
    if args.format == "json":
        timings = {"index": round(index_ms, 2), "pack": round(pack_ms, 2)}
        result = {"budget": args.budget, "tokens": packed.tokens, "segments": rows}
        print(json.dumps({**result, "timings_ms": timings}))
        return 0
    for row in rows:
        print(
            f"--- {row['path']}:{row['start_line']} {row['level']}, {row['tokens']} tokens: {row['reason']}"
        )
        print(row["text"])
    print(f"--- {snapshot.path}: window of {packed.window.tokens} tokens")
    print(f"{packed.tokens} of {args.budget} tokens")
    return 0

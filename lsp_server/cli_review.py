"""`qcoder review` and `qcoder docstring`: the headless side of both tasks."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.workspace import find_root, list_files
from qcoder.lsp_server.changes import ChangedFile, since, staged, top_level
from qcoder.lsp_server.cli_engine import load_engine, remote_or_none, workspace_model
from qcoder.lsp_server.cli_workspace import settings_of
from qcoder.lsp_server.headless import InputError, file_table, read_text, snapshot_of_file
from qcoder.lsp_server.report_formats import FORMATS
from qcoder.lsp_server.review import review_document
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import DocstringEdit, Finding, TextEdit
from qcoder.model.engine import Engine

FAILING = {"error": ("error",), "warning": ("error", "warning"), "never": ()}
REVIEWED_SUFFIXES = (".py", ".pyi")


def review(args: argparse.Namespace) -> int:
    """Review files or changes; only structural findings decide the exit code."""
    began = time.monotonic()
    known = baseline(args.baseline)
    root = review_root(args)
    settings = settings_of(root)
    targets = review_targets(args, root, settings)
    engine: Engine | None = load_engine(args.model) if args.model not in (None, "none") else None
    findings: list[Finding] = []
    files, late = 0, False
    for target, changed in targets:
        if args.max_seconds and time.monotonic() - began > args.max_seconds:
            late = True
            break
        snapshot = snapshot_of_file(root / target.path, root, settings, None, target.text)
        findings += review_document(snapshot, engine, changed)
        files += 1
    findings = [f for f in findings if f.fingerprint not in known]
    seconds = round(time.monotonic() - began, 3)
    stats: dict[str, Any] = {"files": files, "seconds": seconds, "complete": not late}
    output = FORMATS[args.format](findings, stats)
    if output:
        print(output)
    if any(f.source == "rule" and f.severity in FAILING[args.fail_on] for f in findings):
        return 1
    return 4 if late else 0


def review_root(args: argparse.Namespace) -> Path:
    """Root of the checkout for changes, of the workspace for files."""
    if args.paths and not (args.staged or args.diff_base):
        for path in args.paths:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder")
        return find_root(args.paths[0].resolve())
    if args.all:
        return find_root(Path.cwd())
    try:
        return top_level(Path.cwd())
    except InputError:
        if args.staged or args.diff_base:
            raise
        raise InputError(
            f"{Path.cwd()} is not in a git checkout: name files or folders, or use --all"
        ) from None


def review_targets(
    args: argparse.Namespace, root: Path, settings: Settings
) -> list[tuple[ChangedFile, frozenset[int] | None]]:
    """Files with the lines to report (None: all). Without any choice: what HEAD does not have."""
    exclude = exclude_spec(settings.privacy.exclude)
    if args.all or (args.paths and not (args.staged or args.diff_base)):
        return [
            (ChangedFile(path, frozenset(), text), None)
            for path, text in whole_files(root, args.paths, settings)
        ]
    files = staged(root) if args.staged else since(root, args.diff_base or "HEAD")
    wanted = {p.resolve() for p in args.paths}
    return [
        (f, f.lines)
        for f in files
        if f.path.endswith(REVIEWED_SUFFIXES)
        and refused(f.path, None, exclude) is None
        and (not wanted or wanted & {(root / f.path).resolve(), *(root / f.path).parents})
    ]


def whole_files(root: Path, paths: list[Path], settings: Settings) -> Iterator[tuple[str, str]]:
    """Workspace-relative path and text of every file under `paths` (all for none)."""
    exclude = exclude_spec(settings.privacy.exclude)
    named = [p.resolve() for p in paths]
    chosen = {p for p in named if p.is_file()}
    if not named or any(p.is_dir() for p in named):
        listed = {root / p for p in list_files(root, settings.privacy.exclude).paths}
        chosen |= {p for p in listed if not named or any(p.is_relative_to(n) for n in named)}
    for path in sorted(chosen):
        relative = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        if path.suffix not in REVIEWED_SUFFIXES:
            continue
        if refused(relative, None, exclude) is not None:
            continue
        try:
            yield relative, read_text(path)
        except InputError as error:
            if path in named:
                raise
            print(f"{error}; it is left out", file=sys.stderr)


def baseline(path: Path | None) -> set[str]:
    """Fingerprints of findings that are known already."""
    if path is None:
        return set()
    try:
        return {str(f["fingerprint"]) for f in json.loads(path.read_text())["findings"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a baseline ({error}); write one with `qcoder review --format json`"
        ) from None


def docstring(args: argparse.Namespace) -> int:
    """Write, show or check docstrings of a file."""
    from qcoder.lsp_server.docstring import docstring_edits

    if not args.file.is_file():
        raise InputError(f"{args.file}: no such file")
    path = args.file.resolve()
    root = find_root(path)
    snapshot = snapshot_of_file(path, root, settings_of(root), None)
    engine = None
    if args.model != "none" and not args.check:
        settings = snapshot.settings
        engine = remote_or_none(args.model, settings) or load_engine(
            workspace_model(args.model, snapshot.root, settings)
        )
        table = file_table(snapshot.document.text, engine.tokenizer)
        snapshot = replace(snapshot, copy_tables=(table,))
    try:
        edits = docstring_edits(snapshot, engine, symbol=args.symbol, style=args.style)
    except ValueError as error:
        raise InputError(f"{args.file}: {error}") from None
    if args.symbol and not edits:
        raise InputError(f"{args.file}: {args.symbol!r} is not there or has a docstring already")
    if not edits:
        print(f"{args.file}: nothing public is without a docstring", file=sys.stderr)
    text = snapshot.document.text
    if args.write and edits:
        write_edits(path, [e.edit for e in edits])
    if args.format == "json":
        stats = {"symbols": len(edits), "written": bool(args.write and edits)}
        print(json.dumps({"edits": [edit_row(e) for e in edits], "stats": stats}))
    elif args.check:
        for e in edits:
            print(f"{e.path}:{e.line + 1}: `{e.symbol}` has no docstring")
    elif not args.write:
        new = applied(text, [e.edit for e in edits])
        name = snapshot.path
        print("".join(difflib.unified_diff(
            text.splitlines(True), new.splitlines(True), f"a/{name}", f"b/{name}"
        )), end="")  # fmt: skip
    return 1 if args.check and edits else 0


def edit_row(edit: DocstringEdit) -> dict[str, Any]:
    """The stable JSON form (1-based line)."""
    return {
        "path": edit.path,
        "symbol": edit.symbol,
        "line": edit.line + 1,
        "style": edit.style,
        "docstring": edit.docstring,
        "slots_from_model": edit.slots_from_model,
    }


def applied(text: str, edits: list[TextEdit]) -> str:
    """The text after the edits, which must not overlap."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for e in sorted(edits, key=lambda e: (e.start_line, e.start_column), reverse=True):
        begin = starts[e.start_line] + e.start_column
        text = text[:begin] + e.new_text + text[starts[e.end_line] + e.end_column :]
    return text


def write_edits(path: Path, edits: list[TextEdit]) -> None:
    """Insert the edits into a file; all other bytes and the mode stay. Raises `InputError`."""
    try:
        text = path.read_bytes().decode("utf-8")
        if "\r\n" in text:
            edits = [replace(e, new_text=e.new_text.replace("\n", "\r\n")) for e in edits]
        temporary = path.with_name(f".{path.name}.qcoder")
        temporary.write_bytes(applied(text, edits).encode("utf-8"))
        temporary.chmod(path.stat().st_mode)
        temporary.replace(path)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; convert it before --write") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None

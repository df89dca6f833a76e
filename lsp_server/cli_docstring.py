"""`qcoder docstring`: writes, shows, mends or checks docstrings from the command line."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from qcoder.context.languages import language_of
from qcoder.context.workspace import find_root, list_files
from qcoder.lsp_server.cli_engine import load_engine, remote_or_none, workspace_model
from qcoder.lsp_server.cli_workspace import settings_of
from qcoder.lsp_server.docstring import docstring_edits, drifts_in
from qcoder.lsp_server.docstring_convention import COMMENT_STYLES, styles_of
from qcoder.lsp_server.docstring_python import MODULE
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.headless import InputError, file_table, snapshot_of_file
from qcoder.lsp_server.snapshot import DocstringEdit, Snapshot, TextEdit, is_refused
from qcoder.model.engine import Engine

MISSING = "missing-docstring"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something wrong with documentation; `line` is 1-based."""

    path: str
    line: int
    symbol: str
    rule: str
    message: str


def docstring(args: argparse.Namespace) -> int:
    """Write, show, mend or check the docstrings of files."""
    files = list(chosen_files(args.file))
    if args.symbol and len(files) != 1:
        raise InputError("--symbol needs exactly one file")
    work = _Work(args)
    named = {path.resolve() for path in args.file}
    for done, path in enumerate(files, start=1):
        show_progress(done, len(files))
        try:
            work.on(path, named=path in named)
        except InputError as error:
            if path in named:
                raise
            print(f"{error}; it is left out", file=sys.stderr)
    edits, remarks = work.edits, work.remarks
    if args.check:
        show_remarks(remarks, edits, len(files), args.format)
        return 1 if remarks else 0
    if args.symbol and not edits:
        what = "is in line with its code" if args.update else "has a docstring already"
        raise InputError(f"{args.file[0]}: {args.symbol!r} is not there or {what}")
    if not edits:
        print("nothing public is without a docstring", file=sys.stderr)
    if args.format == "json":
        stats = {"symbols": len(edits), "files": len(files), "written": bool(args.write and edits)}
        print(json.dumps({"edits": [edit_row(e) for e in edits], "drift": [], "stats": stats}))
    return 0


class _Work:
    """What the command does to one file after the other, with what came of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.edits: list[DocstringEdit] = []
        self.remarks: list[Remark] = []
        self.engine: Engine | None = None
        # Once a root: problems of its settings are told once.
        self.settings = cache(settings_of)

    def on(self, path: Path, named: bool) -> None:
        """Handle a file; one that was not `named` takes a style only if its language has it."""
        root = find_root(path)
        snapshot = snapshot_of_file(path, root, self.settings(root), None)
        if is_refused(snapshot):
            why = f"`qcoder doctor --why {path.name}` says more"
            raise InputError(f"{path}: refused by the privacy rules; {why}")
        fits = named or self.args.style in styles_of(snapshot.document.language)
        style = self.args.style if fits else "auto"
        try:
            if self.args.check:
                missing, found = checked(snapshot, self.args.symbol, style)
                self.edits += missing
                self.remarks += found
            else:
                if self.engine is None and self.args.model != "none":
                    self.engine = chosen_engine(self.args, snapshot)
                self.edits += written(snapshot, path, self.engine, self.args, style)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None


def show_progress(done: int, total: int) -> None:
    """How many of several files are begun, on a terminal."""
    if total > 1 and sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rfile {done}/{total}", end=end, file=sys.stderr, flush=True)


def chosen_files(paths: list[Path]) -> Iterator[Path]:
    """The files that were named, and those below named folders that can have docstrings."""
    for given in paths:
        path = given.resolve()
        if path.is_file():
            yield path
        elif path.is_dir():
            root = find_root(path)
            for relative in sorted(list_files(root, settings_of(root).privacy.exclude).paths):
                documents = language_of(relative) in ("python", *COMMENT_STYLES)
                if documents and (root / relative).is_relative_to(path):
                    yield root / relative
        else:
            raise InputError(f"{given}: no such file or folder")


def chosen_engine(args: argparse.Namespace, snapshot: Snapshot) -> Engine:
    """The engine of the command line or of the settings."""
    settings = snapshot.settings
    return remote_or_none(args.model, settings) or load_engine(
        workspace_model(args.model, snapshot.root, settings)
    )


def written(
    snapshot: Snapshot, path: Path, engine: Engine | None, args: argparse.Namespace, style: str
) -> list[DocstringEdit]:
    """The edits of one file, shown as a diff or written to it."""
    if engine is not None:
        table = file_table(snapshot.document.text, engine.tokenizer)
        snapshot = replace(snapshot, copy_tables=(table,))
    edits = docstring_edits(snapshot, engine, symbol=args.symbol, style=style, update=args.update)
    if args.write and edits:
        write_edits(path, [e.edit for e in edits])
    elif args.format == "text" and not args.write:
        old, name = snapshot.document.text, snapshot.path
        new = applied(old, [e.edit for e in edits])
        print("".join(difflib.unified_diff(
            old.splitlines(True), new.splitlines(True), f"a/{name}", f"b/{name}"
        )), end="")  # fmt: skip
    return edits


def checked(
    snapshot: Snapshot, symbol: str | None, style: str
) -> tuple[list[DocstringEdit], list[Remark]]:
    """Docstrings that are missing, and all remarks: on those, and where one and its code disagree."""
    path = snapshot.path
    missing = docstring_edits(snapshot, None, symbol=symbol, style=style)
    found = [
        Remark(path, e.line + 1, e.symbol, MISSING, f"{spoken(e.symbol)} has no docstring")
        for e in missing
    ]
    for shape, drift in drifts_in(snapshot, symbol=symbol):
        row = shape.existing.line + max(0, drift.row) if shape.existing else shape.line
        message = f"`{shape.symbol}`: {drift.message}"
        found.append(Remark(path, row + 1, shape.symbol, drift.rule, message))
    return missing, sorted(found, key=lambda r: (r.line, r.rule, r.message))


def spoken(symbol: str) -> str:
    """What a symbol is called in a sentence."""
    return "the module" if symbol == MODULE else f"`{symbol}`"


def show_remarks(
    remarks: list[Remark], missing: list[DocstringEdit], files: int, form: str
) -> None:
    """Remarks, one a line or as JSON: the missing docstrings as `edits`, the rest as `drift`."""
    if form == "text":
        for r in remarks:
            print(f"{r.path}:{r.line}: {r.rule}: {r.message}")
        return
    drift = [
        {"path": r.path, "symbol": r.symbol, "line": r.line, "rule": r.rule, "message": r.message}
        for r in remarks
        if r.rule != MISSING
    ]
    stats = {"symbols": len(missing), "drift": len(drift), "files": files, "written": False}
    print(json.dumps({"edits": [edit_row(e) for e in missing], "drift": drift, "stats": stats}))


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


def write_edits(path: Path, edits: list[TextEdit]) -> None:
    """Put the edits into a file; all other bytes and the mode stay. Raises `InputError`."""
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

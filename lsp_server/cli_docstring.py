"""`qcoder docstring`: writes, shows or checks docstrings from the command line."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from qcoder.context.workspace import find_root
from qcoder.lsp_server.cli_engine import load_engine, remote_or_none, workspace_model
from qcoder.lsp_server.cli_workspace import settings_of
from qcoder.lsp_server.docstring import applied, docstring_edits
from qcoder.lsp_server.headless import InputError, file_table, snapshot_of_file
from qcoder.lsp_server.snapshot import DocstringEdit, TextEdit


def docstring(args: argparse.Namespace) -> int:
    """Write, show or check docstrings of a file."""
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

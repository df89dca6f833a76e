"""`qcoder explain` and `qcoder test`: for models that follow instructions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from qcoder.context.parse import Definition, outline
from qcoder.context.workspace import find_root
from qcoder.lsp_server.asking import Asked, chat_template
from qcoder.lsp_server.assistance import RUNNABLE, TESTS, drafted, explained, run_test
from qcoder.lsp_server.cli_engine import load_engine, workspace_model
from qcoder.lsp_server.cli_workspace import settings_of
from qcoder.lsp_server.headless import InputError, snapshot_of_file
from qcoder.lsp_server.snapshot import Snapshot, is_refused
from qcoder.model.request import CancelToken, Priority


def explain(args: argparse.Namespace) -> int:
    """Say what a definition, or a file, does."""
    snapshot, asked = opened(args)
    span = (0, snapshot.document.text.count("\n"))
    if args.symbol:
        found = definition_named(snapshot, args.symbol).span
        span = (found.start_line, found.end_line - 1)
    text = explained(asked, snapshot, *span)
    if not text:
        raise InputError(f"{args.file}: the model has no answer; a shorter piece may get one")
    print(json.dumps({"path": snapshot.path, "text": text}) if args.format == "json" else text)
    return 0


def test(args: argparse.Namespace) -> int:
    """Write a test of a definition, and run it where that is asked for."""
    snapshot, asked = opened(args)
    language = snapshot.document.language
    if language not in TESTS:
        raise InputError(f"{args.file}: tests are written for {', '.join(TESTS)} only")
    if args.run and language not in RUNNABLE:
        raise InputError(f"{args.file}: --run knows how to run tests of Python only; leave it out")
    draft = drafted(asked, snapshot, definition_named(snapshot, args.symbol))
    if draft is None:
        raise InputError(f"{args.file}: the model wrote no test of {args.symbol} that is code")
    root = snapshot.root or args.file.resolve().parent
    if args.write:
        write_new(root / draft.path, draft.text)
    outcome = run_test(draft, root) if args.run else None
    passed = outcome.passed if outcome else None
    if args.format == "json":
        print(json.dumps({"path": draft.path, "text": draft.text, "passed": passed}))
    else:
        print(f"written: {draft.path}" if args.write else draft.text, end="\n" * args.write)
    if outcome is not None:
        print(outcome.output, file=sys.stderr)
        print(f"the test {'passes' if outcome.passed else 'fails'}", file=sys.stderr)
    return 1 if passed is False else 0


test.__test__ = False  # type: ignore[attr-defined]


def opened(args: argparse.Namespace) -> tuple[Snapshot, Asked]:
    """The file and the model to ask about it; raises `InputError` where one cannot be had."""
    root = find_root(args.file.resolve())
    settings = settings_of(root)
    snapshot = snapshot_of_file(args.file, root, settings, None)
    if is_refused(snapshot):
        raise InputError(
            f"{args.file}: the privacy rules keep it; `qcoder doctor --why` says which"
        )
    engine = load_engine(workspace_model(args.model, root, settings))
    template = chat_template(engine)
    if template is None:
        raise InputError(
            f"{engine.info.name} does not follow instructions; import an Instruct checkpoint "
            "(`qcoder model import`) and name it by --model"
        )
    return snapshot, Asked(engine, template, "review", Priority.EDIT, CancelToken())


def definition_named(snapshot: Snapshot, name: str) -> Definition:
    """The definition of a name or dotted path; raises `InputError`."""
    found = outline(snapshot.document.text, snapshot.document.language)
    for definition in found:
        if name in (definition.qualified_name, definition.name):
            return definition
    raise InputError(f"{snapshot.path}: defines no {name}")


def write_new(path: Path, text: str) -> None:
    """A new file; raises `InputError` where one is already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path}: is there already; nothing is overwritten") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None

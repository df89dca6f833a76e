"""`qcoder review`: the headless side of a review."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.workspace import find_root, list_files
from qcoder.lsp_server.changes import ChangedFile, since, staged, top_level
from qcoder.lsp_server.cli_engine import load_engine
from qcoder.lsp_server.cli_workspace import settings_of
from qcoder.lsp_server.headless import InputError, read_text, snapshot_of_file
from qcoder.lsp_server.report_formats import FORMATS
from qcoder.lsp_server.review import is_reviewed, review_document
from qcoder.lsp_server.settings import Settings
from qcoder.lsp_server.snapshot import Finding, is_refused
from qcoder.model.engine import Engine

NICENESS = 19
"""Of a review beside editors: it gets the time that nobody who types wants."""

FAILING = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


def review(args: argparse.Namespace) -> int:
    """Review files or changes; only structural findings decide the exit code."""
    began = time.monotonic()
    known = baseline(args.baseline)
    root = review_root(args)
    settings = settings_of(root)
    targets = review_targets(args, root, settings)
    if settings.model.shared:
        # Editors have the same model: who waits for a key goes before who waits for a report.
        with contextlib.suppress(OSError, AttributeError):  # Windows has no such call
            os.nice(NICENESS)
    engine: Engine | None = load_engine(args.model) if args.model not in (None, "none") else None
    findings: list[Finding] = []
    files, late = 0, False
    for target, changed in targets:
        if args.max_seconds and time.monotonic() - began > args.max_seconds:
            late = True
            break
        snapshot = snapshot_of_file(root / target.path, root, settings, None, target.text)
        if is_refused(snapshot):
            print(f"{target.path}: left out; `qcoder doctor --why` says why", file=sys.stderr)
            continue
        findings += [
            finding
            for finding in review_document(snapshot, engine, changed)
            if args.hints or finding.source == "model" or finding.severity != "hint"
        ]
        files += 1
    findings = [f for f in findings if f.fingerprint not in known]
    # No times: equal input gives equal output.
    stats: dict[str, Any] = {"files": files, "complete": not late}
    if late:
        print(f"stopped after {args.max_seconds} s and {files} files", file=sys.stderr)
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
    named = {p.resolve() for p in args.paths}

    def wanted(path: str) -> bool:
        if not is_reviewed(path) or refused(path, None, exclude) is not None:
            return False
        full = root / path
        return not named or not named.isdisjoint((full.resolve(), *full.parents))

    files = staged(root) if args.staged else since(root, args.diff_base or "HEAD", wanted)
    if args.staged and args.paths and not files:
        # What `pre-commit run --all-files` means: nothing is staged, all of these are to be looked at.
        return [
            (ChangedFile(path, frozenset(), text), None)
            for path, text in whole_files(root, args.paths, settings)
        ]
    return [(file, file.lines) for file in files if wanted(file.path)]


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
        if not is_reviewed(relative):
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

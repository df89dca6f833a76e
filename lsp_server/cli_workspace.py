"""Settings and index of a workspace for commands, with progress on a terminal; loads no engine."""

from __future__ import annotations

import sys
from pathlib import Path

from qcoder.context.index import Index
from qcoder.lsp_server.settings import Settings, resolve_settings


def settings_of(root: Path) -> Settings:
    """The user's settings, tightened by the workspace's file; problems go to stderr."""
    settings, problems = resolve_settings(roots=[root])
    for problem in problems:
        print(problem, file=sys.stderr)
    return settings


def workspace_index(root: Path, settings: Settings) -> Index:
    """The up-to-date index of a workspace, from its cache where that is still true."""
    index = Index.open(root, exclude=settings.privacy.exclude)
    index.refresh(progress=show_progress if sys.stderr.isatty() else None)
    return index


def show_progress(done: int, total: int) -> None:
    """A progress line on a terminal."""
    end = "\n" if done >= total else ""
    print(f"\rindexing {done}/{total}", end=end, file=sys.stderr, flush=True)

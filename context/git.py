"""Asking git about a workspace without running anything that the workspace configures.

A repository's own configuration may name programs: hooks, file system monitors, signature checkers,
external diffs, content filters, the transport that fetches what a partial clone lacks. All of them
are off here. Options of single commands (`--no-ext-diff` and the like) are the caller's.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 60.0
_SAFE = (
    "--no-pager",
    "--literal-pathspecs",
    *("-c", "core.fsmonitor="),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.quotePath=off"),
    *("-c", "log.showSignature=false"),
)
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # No transport is allowed: a missing object of a partial clone stays missing.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
_FILTER = r"^filter\..*\.(clean|smudge|process|required)$"


class GitError(Exception):
    """Git is not there, took too long or refused; the text is git's own first line."""


def git_output(
    root: Path,
    *arguments: str,
    settings: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
    keep: Sequence[str] = (),
) -> bytes:
    """What a git command prints in `root`; raises `GitError`.

    `settings` are further `name=value` settings. Of the environment no `GIT_*` variable counts
    but those in `keep`.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in keep
    }
    options = [part for setting in settings for part in ("-c", setting)]
    try:
        done = subprocess.run(
            ["git", *_SAFE, *options, *arguments],
            cwd=root,
            env=environment | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise GitError(f"git could not be run: {error}") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().split("\n")
        raise GitError(lines[0] or f"git {arguments[0]} ended with {done.returncode}")
    return done.stdout


def no_filters(root: Path) -> list[str]:
    """Settings that switch off every content filter that is configured; raises `GitError`.

    Whatever compares files of the working tree with commits would run them.
    """
    # `git config` ends with 1 when nothing matches: all names are asked for.
    names = os.fsdecode(git_output(root, "config", "--null", "--name-only", "--list")).split("\0")
    settings = []
    for name in sorted({name for name in names if re.match(_FILTER, name, re.DOTALL)}):
        if "=" in name:
            # `-c` would end the name at that sign and leave the filter on.
            raise GitError(f"the content filter {name!r} cannot be switched off")
        settings.append(f"{name}={'false' if name.endswith('.required') else ''}")
    return settings

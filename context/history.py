"""Which files change together, by the last commits of a repository; and which changed last.

Read once beside the index by `git log`, never while somebody waits. A pair of files weighs by the
commits that touch both, each divided by its size: a commit that touches everything says nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qcoder.context.git import GitError, git_output

logger = logging.getLogger(__name__)

MAX_COMMITS = 2000
_MAX_FILES_IN_COMMIT = 30
_MAX_PARTNERS = 12
_TIMEOUT_S = 20.0
_HALF_LIFE = 400
_MARK = "\x01"


@dataclass(frozen=True, slots=True)
class History:
    """For every file its partners, best first, with a value from 0 to 1."""

    partners: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def together(self, path: str) -> tuple[tuple[str, float], ...]:
        """Files that change with `path`, best first; the best of them has at most value 1."""
        return self.partners.get(path, ())


def read_history(root: Path, max_commits: int = MAX_COMMITS) -> History:
    """The history of a working tree; empty without git or commits, and never an error."""
    command = ["log", "--no-merges", f"--max-count={max_commits}", "--format=%x01", "--name-only"]
    # Renames would need the content of files, which a partial clone does not have.
    command += ["--no-renames", "--no-ext-diff", "--no-textconv", "--no-show-signature"]
    command += ["--no-color", "--relative", "-z"]
    try:
        log = git_output(root, *command, timeout_s=_TIMEOUT_S)
    except GitError as error:
        logger.info("history root=%s not read", root)
        logger.debug("history root=%s: %s", root, error)
        return History()
    return history_of(parse_log(log.decode("utf-8", "surrogateescape")))


def parse_log(text: str) -> list[list[str]]:
    """Paths by commit, latest first, from `git log --name-only -z` with a mark before each."""
    return [
        [path for path in entry.replace("\n", "\0").split("\0") if path]
        for entry in text.split(_MARK)[1:]
    ]


def history_of(commits: list[list[str]]) -> History:
    """Sum over commits of 1 / (files - 1), halved every `_HALF_LIFE` commits into the past."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for age, paths in enumerate(commits):
        if not 2 <= len(paths) <= _MAX_FILES_IN_COMMIT:
            continue
        weight = 0.5 ** (age / _HALF_LIFE) / (len(paths) - 1)
        for path in paths:
            for other in paths:
                if other != path:
                    sums[path][other] += weight
    partners = {}
    for path, others in sums.items():
        best = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:_MAX_PARTNERS]
        # One shared commit is little; several small ones are nearly certain.
        partners[path] = tuple((other, value / (value + 0.5)) for other, value in best)
    return History(partners)

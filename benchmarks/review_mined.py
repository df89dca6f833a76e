"""Of the leaks, races and deadlocks that real projects have fixed, how many the rules would have found.

    python benchmarks/review_mined.py REPOSITORY... --format json

Looks through the history of git repositories (work trees or bare) for small fixes: the message speaks of
a leak, a race, a deadlock or something that is not closed, one source file is changed, by at most 15 new and
10 old lines. The file before the fix is reviewed whole, and counts as found when a rule has more findings in it
than after the fix. Messages say little about what was wrong, and most fixes change behaviour that no rule
can know: the figure is low, and printed with its count whatever it is.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rules import rules_for
from qcoder.model.bench_report import report

WORDING = (
    r"\bleak|\brace\b|race condition|deadlock|unclosed|not closed|never closed|never awaited"
    r"|not awaited|dangling|hang forever|thread.?safe"
)
MAX_ADDED, MAX_REMOVED = 15, 10
SAFE = ("-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, slots=True)
class Fix:
    """A commit that mends one file."""

    repository: Path
    commit: str
    path: str


def git(repository: Path, *arguments: str) -> str:
    """Output of a git command."""
    done = subprocess.run(
        ["git", *SAFE, "-C", str(repository), *arguments],
        capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.decode("utf-8", "replace")


def fixes(repository: Path) -> Iterator[Fix]:
    """Small fixes of the history, newest first."""
    log = git(
        repository, "log", "--no-merges", "--no-ext-diff", "--no-textconv", "--numstat", "-i", "-E",
        f"--grep={WORDING}", "--format=%x01%H",
    )  # fmt: skip
    for entry in log.split("\x01")[1:]:
        commit, *rows = entry.strip().split("\n")
        changed = [row.split("\t") for row in rows if row.count("\t") == 2]
        source = [c for c in changed if c[2].endswith(".py") and not is_test(c[2])]
        if len(source) != 1 or "=>" in source[0][2] or source[0][0] == "-":
            continue
        added, removed, path = int(source[0][0]), int(source[0][1]), source[0][2]
        if added <= MAX_ADDED and removed <= MAX_REMOVED and added + removed > 0:
            yield Fix(repository, commit, path)


def is_test(path: str) -> bool:
    """Whether a path is that of tests, examples or tools."""
    return (
        re.search(
            r"(^|/)(tests?|examples?|docs|tools|demos|benchmarks)/|_test\.py$|(^|/)test_", path
        )
        is not None
    )


def found_by(fix: Fix) -> list[str]:
    """Rules that have more findings before the fix than after it."""
    before, after = (
        counts(git(fix.repository, "show", "--no-textconv", f"{revision}:{fix.path}"))
        for revision in (f"{fix.commit}^", fix.commit)
    )
    return sorted(before - after)


def counts(text: str) -> Counter[str]:
    """Findings by rule, hints left out."""
    rules = [rule for rule in rules_for("python") if rule.severity != "hint"]
    return Counter(rule.name for rule, _ in matches(rules, text, "python"))


def measure(repositories: list[Path]) -> dict[str, Any]:
    """Share of the fixes whose fault was in sight."""
    total, hits, notes = 0, 0, []
    for repository in repositories:
        print(f"reading {repository}", file=sys.stderr)
        for fix in fixes(repository):
            try:
                rules = found_by(fix)
            except subprocess.CalledProcessError:
                continue
            total += 1
            if rules:
                hits += 1
                notes.append(f"{fix.commit[:12]} {fix.path}: {', '.join(rules)}")
    figures = {
        "fixes": total,
        "found": hits,
        "found %": round(100 * hits / total, 1) if total else 0.0,
    }
    return report(figures, notes=notes)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("repositories", nargs="+", type=Path)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    result = measure(args.repositories)
    print(json.dumps(result, indent=2) if args.format == "json" else result["figures"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

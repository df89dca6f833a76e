"""Does the index hold exactly the files that git lists, less what the documentation leaves out?

    python benchmarks/index_parity.py --root REPOSITORY --root REPOSITORY --format json

Without a repository it is the one that this file lies in. For every repository the index is built anew and compared with `git ls-files -co --exclude-standard`.
A file that git lists and the index lacks must have one of the documented reasons, checked here
independently of the index; a file that the index has must be listed by git.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from qcoder.context.index import Index
from qcoder.context.privacy import has_secret, refused
from qcoder.model.bench_report import Target, report

MAX_BYTES = 1_000_000


def listed_by_git(root: Path) -> set[str]:
    """What git lists: tracked files, and untracked ones that no rule ignores."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    return {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}


def exclusion(root: Path, path: str) -> str | None:
    """The documented reason why a listed file is no part of an index; None when there is none."""
    full = root / path
    if full.is_symlink() and not full.resolve().is_relative_to(root.resolve()):
        return "link out of the workspace"
    if full.is_dir():
        return "folder of a repository inside this one, or a link to a folder"
    if not full.is_file():
        return "listed but not there"
    if refused(path) is not None:
        return "secret by name"
    data = full.read_bytes()
    lines = data.split(b"\n")
    if len(data) > MAX_BYTES:
        return "over 1 MB"
    if b"\0" in data[:8192]:
        return "binary"
    if len(data) >= 4096 and (len(data) / len(lines) > 300 or max(map(len, lines)) > 10_000):
        return "minified"
    return "secret in content" if has_secret(data) else None


def main() -> None:
    """Compare every repository and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, action="append")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    figures: dict[str, float] = {"missing": 0, "extra": 0, "listed": 0, "indexed": 0}
    excluded: Counter[str] = Counter()
    notes = []
    for root in args.root or [Path(__file__).resolve().parents[1]]:
        listed = listed_by_git(root)
        ignore_files = sum(1 for path in listed if path.endswith(".gitignore"))
        with tempfile.TemporaryDirectory() as cache:
            index = Index.open(root, Path(cache))
            index.refresh()
        indexed = set(index.paths())
        reasons = {path: exclusion(root, path) for path in listed - indexed}
        missing = sorted(path for path, reason in reasons.items() if reason is None)
        extra = sorted(indexed - listed)
        excluded.update(reason for reason in reasons.values() if reason is not None)
        figures["missing"] += len(missing)
        figures["extra"] += len(extra)
        figures["listed"] += len(listed)
        figures["indexed"] += len(indexed)
        notes.append(
            f"{root.name}: {len(listed)} listed, {len(indexed)} indexed, "
            f"{ignore_files} ignore files; missing {missing[:5]}, extra {extra[:5]}"
        )
        print(notes[-1], file=sys.stderr)
    notes.append(f"left out with a documented reason: {dict(sorted(excluded.items()))}")
    targets = (Target("missing", "<=", 0), Target("extra", "<=", 0))
    found = report(figures, targets, notes=notes)
    print(json.dumps(found) if args.format == "json" else "\n".join(notes))


if __name__ == "__main__":
    main()

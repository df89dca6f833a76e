"""The linters that people have already, run on the same mutants: ruff, pylint, bandit, semgrep.

Each runs from an environment of its own, as it ships, over all files at once. The files are reduced
to imports and the statement that changed: pylint and semgrep take minutes on whole ones. A peer hits
a mutant when a code that it counts as a fault rises against the original.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from injection.draw import Mutant

Codes = dict[str, Counter[str]]
TIMEOUT_S = 1500


@dataclass(frozen=True, slots=True)
class Peer:
    """A linter: its command before the folder, how to read it, which of its codes are faults."""

    name: str
    options: tuple[str, ...]
    read: Callable[[Any], list[tuple[str, str]]]
    faults: re.Pattern[str]


def of_ruff(out: Any) -> list[tuple[str, str]]:
    """File and code of ruff's JSON."""
    return [(Path(row["filename"]).stem, row["code"] or "") for row in out]


def of_pylint(out: Any) -> list[tuple[str, str]]:
    """File and code of pylint's JSON."""
    return [(Path(row["path"]).stem, row["message-id"]) for row in out]


def of_bandit(out: Any) -> list[tuple[str, str]]:
    """File and code of bandit's JSON."""
    return [(Path(row["filename"]).stem, row["test_id"]) for row in out["results"]]


def of_semgrep(out: Any) -> list[tuple[str, str]]:
    """File and rule of semgrep's JSON."""
    return [(Path(row["path"]).stem, row["check_id"].rpartition(".")[2]) for row in out["results"]]


PEERS = (
    Peer(
        "ruff",
        (
            "check",
            "--isolated",
            "--no-cache",
            "--select",
            "ALL",
            "--preview",
            "--exit-zero",
            "--output-format",
            "json",
        ),
        of_ruff,
        re.compile(r"ASYNC|B\d|F8(21|23|41)|PLE|PLW|RUF0(06|29)|SIM115|S\d|TRY|LOG|RET|PLR0124"),
    ),
    Peer(
        "pylint",
        (
            "--rcfile=/dev/null",
            "--disable=C,R",
            "--enable=consider-using-with",
            "--score=n",
            "--output-format=json",
            "--recursive=y",
        ),
        of_pylint,
        re.compile(r"E(?!0401|0611|1101)|W(?!0611|0107|0511|0614|0401)|R1732"),
    ),
    Peer("bandit", ("-q", "-r", "-f", "json"), of_bandit, re.compile(r"B")),
    Peer(
        "semgrep",
        (
            "scan",
            "--json",
            "--quiet",
            "--metrics=off",
            "--disable-version-check",
            "--no-git-ignore",
            "--jobs=1",
        ),
        of_semgrep,
        # This one fires on the `pass` that stands for a deleted statement.
        re.compile(r"(?!pass-body)"),
    ),
)


def reduced(mutant: Mutant) -> tuple[str, str]:
    """Imports and the changed top-level statement of a mutant, before and after."""
    before, after = ast.parse(mutant.original), ast.parse(mutant.mutated)
    plain = [n for n in before.body if not isinstance(n, ast.Import | ast.ImportFrom)]
    changed = [n for n in after.body if not isinstance(n, ast.Import | ast.ImportFrom)]
    pairs = zip(plain, changed, strict=False)
    differs = ((b, a) for b, a in pairs if ast.dump(b) != ast.dump(a))
    first, second = next(differs, (plain[0] if plain else None, changed[0] if changed else None))
    return (
        assembled(before, first, mutant.original),
        assembled(after, second, mutant.mutated),
    )


def assembled(tree: ast.Module, chosen: ast.stmt | None, text: str) -> str:
    """A file of a module's imports, stubs of its coroutine functions and one statement."""
    parts = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            parts.append(ast.unparse(node))
        elif isinstance(node, ast.AsyncFunctionDef) and node is not chosen:
            parts.append(f"async def {node.name}(*args, **kwargs): ...")
    if chosen is not None:
        first = min([chosen.lineno, *(d.lineno for d in getattr(chosen, "decorator_list", []))])
        parts.append("\n".join(text.split("\n")[first - 1 : chosen.end_lineno]))
    return "\n\n".join(parts) + "\n"


def write_reduced(mutants: Sequence[Mutant], folder: Path) -> None:
    """`b0001.py` and `a0001.py`, before and after, for every mutant."""
    for number, mutant in enumerate(mutants):
        for letter, text in zip("ba", reduced(mutant), strict=True):
            (folder / f"{letter}{number:04}.py").write_text(text, "utf-8")


def run_peer(peer: Peer, program: Path, folder: Path, rules: Path | None) -> Codes:
    """Faults by file; raises RuntimeError when the peer did not give its JSON."""
    extra = ["--config", str(rules)] if peer.name == "semgrep" and rules is not None else []
    done = subprocess.run(
        [str(program), *peer.options, *extra, str(folder)],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=folder,
    )  # fmt: skip
    try:
        rows = peer.read(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError) as error:
        reason = done.stderr.strip().split("\n")[-1][:200]
        raise RuntimeError(f"{peer.name} gave no JSON ({error}): {reason}") from None
    codes: Codes = {}
    for file, code in rows:
        if peer.faults.match(code):
            codes.setdefault(file, Counter())[code] += 1
    return codes


def hits_of(codes: Codes, count: int) -> list[bool]:
    """Whether each mutant has a fault that its original has not."""
    return [
        bool(codes.get(f"a{i:04}", Counter()) - codes.get(f"b{i:04}", Counter()))
        for i in range(count)
    ]

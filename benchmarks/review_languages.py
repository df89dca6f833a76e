"""How many injected bugs the review finds in Go, TypeScript and JavaScript, by rules alone.

    python benchmarks/review_languages.py ROOT... --format json

Deletes the line, or changes the word, that a leak, a lock, a coroutine or a bound hangs on, by patterns over
lines: no parser is needed, and none of ours is asked. A bug counts as found when a rule has more findings in
the changed file than in the original; files that nobody changed give the findings for a thousand lines.
Files of tests, and those that are bundled or minified, are left out.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcoder.context.languages import language_of
from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rules import rules_for
from qcoder.model.bench_report import report

SEED = 20261121
MAX_BYTES, MAX_LINE = 200_000, 400
MAX_FILES = 1500
"""Files looked at in one repository."""


@dataclass(frozen=True, slots=True)
class Slip:
    """A kind of bug: a line that matches is deleted (no `new`), or the match is replaced by `new`.

    `before` has to match somewhere in the ten lines above, for the line to be what it looks like.
    """

    kind: str
    line: re.Pattern[str]
    new: str | None = None
    before: re.Pattern[str] = re.compile("")


OPENED = re.compile(r"(os\.(Open|Create|OpenFile)|http\.(Get|Post)|\.Do)\(")
GO = (
    Slip("close-deleted", re.compile(r"^\s*defer [\w.]+\.Close\(\)$"), before=OPENED),
    Slip("unlock-deleted", re.compile(r"^\s*defer [\w.]+\.R?Unlock\(\)$")),
    Slip("off-by-one", re.compile(r"< len\((\w+)\)(?=; \w+\+\+ \{)"), r"<= len(\1)"),
)
SCRIPT = (
    Slip("await-removed", re.compile(r"^(\s*)await (?=(?:this\.)?\w+\([^()]*\);?$)"), r"\1"),
    Slip("interval-dropped", re.compile(r"^(\s*)(?:const|let) \w+ = (?=setInterval\()"), r"\1"),
    Slip("off-by-one", re.compile(r"< (\w+)\.length(?=; \w+\+\+\))"), r"<= \1.length"),
)
SLIPS: Mapping[str, Sequence[Slip]] = {"go": GO, "typescript": SCRIPT, "javascript": SCRIPT}
SUFFIXES = {".go": "go", ".ts": "typescript", ".js": "javascript", ".mjs": "javascript"}
LEFT_OUT = re.compile(
    r"(^|[/._-])(tests?|spec|mocks?|min|bundle|vendor|dist|examples?)([/._-]|$)|\.d\.ts$"
)


def files_of(root: Path) -> Iterator[tuple[Path, str]]:
    """Files that people wrote, with their texts."""
    found = (p for p in sorted(root.rglob("*")) if p.suffix in SUFFIXES and p.is_file())
    for path in [p for p in found if not LEFT_OUT.search(p.relative_to(root).as_posix())][
        :MAX_FILES
    ]:
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeError):
            continue
        if len(text) <= MAX_BYTES and max(map(len, text.split("\n"))) <= MAX_LINE:
            yield path, text


def counts(text: str, path: Path) -> Counter[str]:
    """Findings by rule, hints left out."""
    language = language_of(path.name)
    rules = [rule for rule in rules_for(language) if rule.severity != "hint"]
    return Counter(rule.name for rule, _ in matches(rules, text, language))


def bugs(text: str, slips: Sequence[Slip]) -> Iterator[tuple[str, str]]:
    """Class and changed text of every bug that can be made of a file."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        for slip in slips:
            if not slip.line.search(line):
                continue
            if not slip.before.search("\n".join(lines[max(0, number - 10) : number])):
                continue
            changed = [] if slip.new is None else [slip.line.sub(slip.new, line, count=1)]
            yield slip.kind, "\n".join([*lines[:number], *changed, *lines[number + 1 :]])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Recall by language and class, and findings in what nobody changed."""
    made: dict[tuple[str, str], list[tuple[Path, str, str]]] = {}
    lines: Counter[str] = Counter()
    found: dict[str, Counter[str]] = {}
    for root in args.roots:
        print(f"reading {root}", file=sys.stderr)
        rng = random.Random(f"{args.seed}/{root.name}")
        for path, text in files_of(root):
            language = SUFFIXES[path.suffix]
            lines[language] += text.count("\n")
            found.setdefault(language, Counter()).update(counts(text, path))
            some = list(bugs(text, SLIPS[language]))
            for kind, changed in rng.sample(some, min(2, len(some))):
                made.setdefault((language, kind), []).append((path, text, changed))
    figures: dict[str, float] = {}
    notes = ["repositories: " + ", ".join(root.name for root in args.roots)]
    for (language, kind), rows in sorted(made.items()):
        random.Random(args.seed).shuffle(rows)
        hits = [
            bool(counts(new, path) - counts(old, path)) for path, old, new in rows[: args.per_class]
        ]
        figures[f"{language} {kind} recall %"] = round(100 * sum(hits) / len(hits), 1)
        notes.append(f"{language} {kind}: {len(hits)} mutants")
    for language, count in sorted(lines.items()):
        figures[f"{language} untouched thousand lines"] = round(count / 1000, 1)
        rate = 1000 * sum(found[language].values()) / count
        figures[f"{language} findings per thousand untouched lines"] = round(rate, 4)
        common = ", ".join(f"{rule} {n}" for rule, n in found[language].most_common())
        notes.append(f"{language} untouched findings: {common or 'none'}")
    return report(figures, [], args.seed, notes)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result, indent=2) if args.format == "json" else result["figures"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Docstrings written anew for whole libraries, judged by tools that are not ours.

    python -P benchmarks/docstrings.py --format json
    python -P benchmarks/docstrings.py --root DIR --root DIR ... --pydoclint PATH/TO/pydoclint

All docstrings of a Python library are taken out, `qcoder docstring` writes those of public symbols
anew, without a model, in google and in numpy style. Without `--root` the libraries are the pinned wheels
of `LIBRARIES`; without `--pydoclint` a pinned one is installed. Both come through pip, into the user's cache.

- coverage: of the public modules, classes, methods and functions that ruff misses a docstring for
  (D100 to D104, D106), the share that has one afterwards;
- structural errors: of the written docstrings, the share with any finding of pydoclint (in an
  environment of its own, see `installed`) or of ruff (D417 and DOC, in preview);
- changes outside docstrings: tokens that differ, docstrings left out; has to be 0.

Other languages: `benchmarks/docstring_comments.py`.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tempfile
import tokenize
import venv
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from qcoder.lsp_server.docstring import docstring_edits
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.headless import snapshot_of_file
from qcoder.lsp_server.settings import Settings
from qcoder.model.bench_report import Target, report

LIBRARIES = ("click==8.5.1", "httpx==0.28.1", "structlog==26.1.0", "scrapy==2.19.0")
PYDOCLINT = "pydoclint==0.12.0"
STYLES = ("google", "numpy")
PUBLIC = "D100,D101,D102,D103,D104,D106"
RUFF_RULES = "D417,DOC"
ABOUT_THE_CODE = frozenset({"DOC106", "DOC107", "DOC109", "DOC110"})
"""Codes of pydoclint for signatures without annotations; no docstring can mend those."""

TOKENS_IGNORED = frozenset({tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT})


@dataclass(frozen=True, slots=True)
class Written:
    """A file after its docstrings were written anew: the stripped text, the new one, how many."""

    path: str
    stripped: str
    text: str
    docstrings: int


def main() -> int:
    """Measure and print."""
    args = arguments()
    figures: dict[str, float] = {}
    notes: list[str] = []
    roots = args.root or list(fetched(notes))
    targets = python_part(roots, args.pydoclint or installed(), figures, notes) if roots else []
    result = report(figures, targets, 0, notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
    else:
        for key, value in figures.items():
            print(f"{key:55} {value:.5g}")
        print("\n".join(notes))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, action="append", help="folder of a Python library")
    parser.add_argument("--pydoclint", help="its executable")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser.parse_args()


def fetched(notes: list[str]) -> Iterator[Path]:
    """The pinned libraries, downloaded by pip into the user's cache once."""
    cache = cache_folder()
    for pin in LIBRARIES:
        folder = cache / pin
        if not folder.is_dir():
            with tempfile.TemporaryDirectory() as scratch:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                           "--only-binary=:all:", "-d", scratch, pin]  # fmt: skip
                if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                    notes.append(f"{pin}: pip could not download it")
                    continue
                with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
                    wheel.extractall(folder)
        yield folder


def cache_folder() -> Path:
    """Where downloads are kept from one run to the next."""
    return Path(user_cache_dir("qcoder-benchmarks")) / "docstrings"


def installed() -> str | None:
    """pydoclint in an environment of its own: its parser hides the one of docstring_parser."""
    folder = cache_folder() / PYDOCLINT
    program = folder / ("Scripts" if sys.platform == "win32" else "bin") / "pydoclint"
    if not program.exists():
        venv.create(folder, with_pip=True)
        command = [str(program.with_name("python")), "-m", "pip", "install", "--quiet", PYDOCLINT]
        subprocess.run(command, stdout=sys.stderr, check=False)
    return str(program) if program.exists() else None


def python_part(
    roots: Sequence[Path], pydoclint: str | None, figures: dict[str, float], notes: list[str]
) -> list[Target]:
    """Python libraries in all styles; returns the targets."""
    targets = []
    total: Counter[str] = Counter()
    for style in STYLES:
        for root in roots:
            print(f"{root.name}: {style}", file=sys.stderr)
            counts, codes = library(root, style, pydoclint)
            total += Counter({f"{style} {key}": value for key, value in counts.items()})
            name = root.name.partition("==")[0]
            figures[f"{name} {style}: public symbols"] = counts["public"]
            figures[f"{name} {style}: coverage, %"] = share(counts, "covered", "public")
            figures[f"{name} {style}: structural errors, %"] = share(counts, "faulty", "docstrings")
            if codes:
                notes.append(f"{name} {style}: findings {dict(codes.most_common(8))}")
        sums = Counter({key: total[f"{style} {key}"] for key in counts})
        figures[f"{style}: docstrings written"] = sums["docstrings"]
        figures[f"{style}: coverage, %"] = share(sums, "covered", "public")
        figures[f"{style}: structural errors, %"] = share(sums, "faulty", "docstrings")
        figures[f"{style}: tokens changed outside docstrings"] = total[f"{style} changed"]
        targets += [
            Target(f"{style}: coverage, %", ">=", 95.0),
            Target(f"{style}: tokens changed outside docstrings", "<=", 0),
        ]
        if pydoclint is not None:
            targets.append(Target(f"{style}: structural errors, %", "<=", 2.0))
    if pydoclint is None:
        notes.append("pydoclint could not be installed: structural errors are those of ruff alone")
    return targets


def share(counts: Counter[str], part: str, whole: str) -> float:
    """Percent of one count in another."""
    return 100.0 * counts[part] / max(1, counts[whole])


def library(root: Path, style: str, pydoclint: str | None) -> tuple[Counter[str], Counter[str]]:
    """Counts of one library in one style, and how often each code was found."""
    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch, "before"), Path(scratch, "after")
        files = list(rewritten(root, before, after, style))
        missing = len(ruff(before, PUBLIC))
        left = len(ruff(after, PUBLIC))
        findings = [
            (f["filename"], f["location"]["row"], f["code"])
            for f in ruff(after, RUFF_RULES, "--preview", "--config", convention(style))
        ]
        places = {(path, definition_line(path, row)) for path, row, _ in findings}
        codes = Counter(code for *_, code in findings)
        for path, row, code in pydoclint_findings(after, style, pydoclint):
            places.add((path, definition_line(path, row)))
            codes[code] += 1
    counts = Counter(
        public=missing,
        covered=missing - left,
        docstrings=sum(f.docstrings for f in files),
        faulty=len(places),
        changed=sum(tokens_changed(f) for f in files),
    )
    return counts, codes


def rewritten(root: Path, before: Path, after: Path, style: str) -> Iterator[Written]:
    """Every module of a library, stripped and written anew, in two folders."""
    write(before / "pyproject.toml", "")  # no configuration of the machine counts
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        try:
            stripped = without_docstrings(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        write(before / relative, stripped)
        snapshot = snapshot_of_file(before / relative, before, Settings(), None)
        edits = docstring_edits(snapshot, None, style=style)
        text = applied(stripped, [e.edit for e in edits])
        write(after / relative, text)
        yield Written(str(relative), stripped, text, len(edits))


def write(path: Path, text: str) -> None:
    """A file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def without_docstrings(text: str) -> str:
    """A module with its docstrings taken out; `pass` where nothing else is in a body."""
    tree = ast.parse(text)
    lines = text.split("\n")
    for node in sorted(documented(tree), key=lambda n: -n.body[0].lineno):
        value = node.body[0]
        first, last = value.lineno - 1, (value.end_lineno or value.lineno) - 1
        head = lines[first].encode()[: value.col_offset].decode()
        tail = lines[last].encode()[value.end_col_offset or 0 :].decode()
        alone = len(node.body) == 1 and not isinstance(node, ast.Module)
        rest = head + ("pass" if alone else "") + tail.lstrip(" ;")
        lines[first : last + 1] = [rest] if rest.strip() else []
    return "\n".join(lines)


def documented(tree: ast.Module) -> Iterator[Any]:
    """Nodes that begin with a docstring."""
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            yield node


def tokens_changed(file: Written) -> int:
    """Tokens that differ between the stripped and the new text, docstrings left out."""
    new = {(n.body[0].lineno, n.body[0].col_offset) for n in documented(ast.parse(file.text))}
    old = {(n.body[0].lineno, n.body[0].col_offset) for n in documented(ast.parse(file.stripped))}
    one, other = code_tokens(file.stripped, old), code_tokens(file.text, new)
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def code_tokens(text: str, docstrings: set[tuple[int, int]]) -> list[tuple[int, str]]:
    """Tokens with their text, without line ends, indents and docstrings."""
    lines = text.split("\n")
    return [
        (token.type, token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in TOKENS_IGNORED
        and (token.start[0], len(lines[token.start[0] - 1][: token.start[1]].encode()))
        not in docstrings
    ]


def ruff(folder: Path, rules: str, *options: str) -> list[dict[str, Any]]:
    """Findings of ruff, whatever the project configures."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--ignore-noqa",
               "--select", rules, "--output-format", "json", *options, str(folder)]  # fmt: skip
    found: list[dict[str, Any]] = json.loads(output(command))
    return found


def convention(style: str) -> str:
    """Ruff's setting for a style."""
    return f'lint.pydocstyle.convention = "{style}"'


def pydoclint_findings(
    folder: Path, style: str, pydoclint: str | None
) -> Iterator[tuple[str, int, str]]:
    """File, line and code of pydoclint's findings."""
    if pydoclint is None:
        return
    path = ""
    # In the folder itself: pydoclint reads the configuration of where it runs.
    command = [str(Path(pydoclint).absolute()), f"--style={style}", "--quiet", str(folder)]
    for line in output(command, folder).splitlines():
        found = re.match(r"\s+(\d+): (DOC\d+): (.*)", line)
        if found is None:
            path = line.strip() or path
        elif found.group(2) not in ABOUT_THE_CODE:
            yield path, int(found.group(1)), found.group(2)


def output(command: Sequence[str], folder: Path | None = None) -> str:
    """What a tool prints, on stderr where that is all."""
    done = subprocess.run(list(command), cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def definition_line(path: str, row: int) -> int:
    """Line of the innermost definition around a line, so that two tools count a docstring once."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    around = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.lineno <= row <= (node.end_lineno or row)
    ]
    return max(around, default=1)


if __name__ == "__main__":
    sys.exit(main())

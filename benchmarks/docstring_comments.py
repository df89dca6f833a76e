"""Documentation comments written anew for other languages, judged by the languages' own tools.

    python -P benchmarks/docstring_comments.py --java DIR --typescript DIR --rust DIR --go DIR --c DIR

Every folder is somebody's sources. The documentation comments of all definitions are taken out and
`qcoder docstring` writes those of public ones anew, without a model. Then the language's tool reads
both: `javadoc` with doclint; eslint with `eslint-plugin-jsdoc` and `eslint-plugin-tsdoc` (`--eslint`
names the folder with their `node_modules`); clippy (the crate must compile without others); gofmt,
which has a form for comments; clang's `-Wdocumentation` (`--clang` may be several words).

- coverage: of the public definitions that the tool misses a comment for, the share that has one
  afterwards (fields and constants are left out, qcoder does not write for those; clang and gofmt do not say);
- structural errors: findings about comments that were not there before, per comment written.

A tool or folder that is missing is a line in `notes`, not a passed target.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qcoder.context.languages import language_of
from qcoder.context.segments import Document
from qcoder.lsp_server.docstring import docstring_edits, shapes_of
from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.headless import snapshot_of_file
from qcoder.lsp_server.settings import Settings
from qcoder.model.bench_report import Target, report

Check = Callable[[Path, argparse.Namespace], tuple[int, Counter[str]]]
"""From a folder to the number of missing comments and what is wrong in those there are."""

DOCLINT = re.compile(
    r"no @|@\w+ |exception not thrown|unknown tag|bad use|malformed|unexpected|self-closing"
    r"|element not|tag not|empty <|invalid|unclosed|block element|no main description"
    r"|reference not found"
)
DECLARES = re.compile(r"\b(class|interface|enum|record|@interface)\b|\(")
RUST_LINTS = (
    "missing_docs", "clippy::missing_errors_doc", "clippy::missing_panics_doc",
    "clippy::missing_safety_doc", "clippy::doc_lazy_continuation", "clippy::empty_docs",
    "clippy::doc_markdown", "clippy::suspicious_doc_comments",
)  # fmt: skip
ESLINT = """
import { createRequire } from "node:module";
const require = createRequire("ROOT/");
const jsdoc = require("eslint-plugin-jsdoc");
export default [{
  files: ["**/*.ts"],
  languageOptions: { parser: require("@typescript-eslint/parser") },
  plugins: { jsdoc: jsdoc.default ?? jsdoc, tsdoc: require("eslint-plugin-tsdoc") },
  settings: { jsdoc: { mode: "typescript" } },
  rules: {
    "tsdoc/syntax": "warn",
    "jsdoc/require-jsdoc": ["warn", { publicOnly: true, require: {
      FunctionDeclaration: true, ArrowFunctionExpression: true, ClassDeclaration: true,
      MethodDefinition: true, FunctionExpression: true } }],
    "jsdoc/check-param-names": ["warn", { checkDestructured: false }],
    "jsdoc/require-param": ["warn", { checkDestructured: false }],
    "jsdoc/require-param-name": "warn", "jsdoc/require-returns": "warn",
    "jsdoc/require-returns-check": "warn", "jsdoc/check-tag-names": "warn",
    "jsdoc/no-types": "warn", "jsdoc/empty-tags": "warn", "jsdoc/check-alignment": "warn",
    "jsdoc/multiline-blocks": "warn",
  },
}];
"""


def main() -> int:
    """Measure and print."""
    args = arguments()
    figures: dict[str, float] = {}
    notes: list[str] = []
    targets: list[Target] = []
    for name, (suffixes, check) in LANGUAGES.items():
        folder = getattr(args, name)
        if folder is None:
            notes.append(f"{name}: no folder was given")
            continue
        print(name, file=sys.stderr)
        targets += language(name, folder, suffixes, check, args, figures, notes)
    result = report(figures, targets, 0, notes)
    if args.format == "json":
        print(json.dumps(result, indent=1))
    else:
        for key, value in figures.items():
            print(f"{key:45} {value:.5g}")
        print("\n".join(notes))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in LANGUAGES:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("--eslint", type=Path, help="folder with node_modules")
    parser.add_argument("--clang", default=shutil.which("clang") or "", help="a command")
    parser.add_argument("--gofmt", default=shutil.which("gofmt") or "", help="its executable")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser.parse_args()


def language(
    name: str,
    folder: Path,
    suffixes: Sequence[str],
    check: Check,
    args: argparse.Namespace,
    figures: dict[str, float],
    notes: list[str],
) -> list[Target]:
    """One language: its figures, and its target where its tool is there."""
    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch, "before"), Path(scratch, "after")
        written = sum(rewritten(folder, before, after, suffixes))
        try:
            missing, known = check(before, args)
            left, found = check(after, args)
        except OSError as error:
            notes.append(f"{name}: nothing was checked: {error}")
            return []
    wrong = found - known
    figures[f"{name}: comments written"] = written
    if missing:
        figures[f"{name}: undocumented before"] = missing
        figures[f"{name}: coverage, %"] = 100.0 * (missing - left) / missing
    figures[f"{name}: structural errors, %"] = 100.0 * sum(wrong.values()) / max(1, written)
    if wrong:
        notes.append(f"{name}: findings {dict(wrong.most_common(8))}")
    return [Target(f"{name}: structural errors, %", "<=", 2.0)]


def rewritten(folder: Path, before: Path, after: Path, suffixes: Sequence[str]) -> Iterator[int]:
    """Every file stripped of its documentation comments and written anew; how many in each."""
    write(before / "pyproject.toml", "")  # no configuration of the machine counts
    for path in sorted(p for p in folder.rglob("*") if p.suffix in suffixes and p.is_file()):
        relative = path.relative_to(folder)
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        stripped = without_comments(text, language_of(path.name, text), path.name)
        write(before / relative, stripped)
        snapshot = snapshot_of_file(before / relative, before, Settings(), None)
        edits = docstring_edits(snapshot, None)
        write(after / relative, applied(stripped, [e.edit for e in edits]))
        yield len(edits)


def write(path: Path, text: str) -> None:
    """A file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def without_comments(text: str, language: str, path: str) -> str:
    """A text without the documentation comments of its definitions."""
    while True:
        shapes = shapes_of(Document("", 0, language, text), path)
        there = {(s.existing.line, s.existing.end_line) for s in shapes if s.existing}
        if not there:
            return text
        lines = text.split("\n")
        for first, last in sorted(there, reverse=True):
            del lines[first : last + 1]
        text = "\n".join(lines)


def check_java(folder: Path, args: argparse.Namespace) -> tuple[int, Counter[str]]:
    """javadoc's doclint; the line below a finding is the code that it is about."""
    files = [str(p) for p in folder.rglob("*.java") if p.name != "module-info.java"]
    with tempfile.TemporaryDirectory() as scratch:
        lines = output(
            ["javadoc", "-Xdoclint:all", "-protected", "--ignore-source-errors", "-quiet",
             "-Xmaxwarns", "100000", "-Xmaxerrs", "100000", "-d", scratch, *files]
        ).split("\n")  # fmt: skip
    missing, wrong = 0, Counter[str]()
    for line, code in zip(lines, [*lines[1:], ""], strict=True):
        found = re.search(r"\.java:\d+: (?:warning|error): (.*)", line)
        if found and found.group(1) == "no comment":
            missing += DECLARES.search(code.partition("=")[0]) is not None
        elif found and DOCLINT.match(found.group(1)):
            wrong[re.sub(r"\b(for|:) .*", r"\1", found.group(1))] += 1
    return missing, wrong


def check_typescript(folder: Path, args: argparse.Namespace) -> tuple[int, Counter[str]]:
    """eslint with the plugins for JSDoc in TypeScript and for TSDoc."""
    if args.eslint is None:
        raise FileNotFoundError("--eslint names no folder")
    modules = args.eslint.resolve() / "node_modules"
    config = folder / "eslint.config.mjs"
    config.write_text(ESLINT.replace("ROOT", str(modules)), encoding="utf-8")
    text = output([str(modules / ".bin/eslint"), "-c", str(config), "-f", "json",
                   "--no-inline-config", "."], folder)  # fmt: skip
    config.unlink()
    if not text.startswith("["):
        raise FileNotFoundError(f"eslint: {text.strip()[:200]}")
    messages = [m for file in json.loads(text) for m in file["messages"]]
    rules = Counter(str(m["ruleId"] or m["message"]) for m in messages)
    return rules.pop("jsdoc/require-jsdoc", 0), rules


def check_rust(folder: Path, args: argparse.Namespace) -> tuple[int, Counter[str]]:
    """clippy's lints for documentation, on one crate."""
    options = [part for lint in RUST_LINTS for part in ("-W", lint)]
    text = output(["clippy-driver", "--crate-type", "lib", "--edition", "2021", "--emit=metadata",
                   "--error-format=json", *options, str(folder / "lib.rs")], folder)  # fmt: skip
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    if broken := [m["message"] for m in found if m["level"] == "error"]:
        raise FileNotFoundError(f"clippy: {broken[0][:200]}")
    codes = [(m["code"] or {}).get("code", "") for m in found]
    wanted = [
        code
        for code, m in zip(codes, found, strict=True)
        if code in RUST_LINTS and not re.search(r"field|variant|constant|macro", m["message"])
    ]
    rules = Counter(wanted)
    return rules.pop("missing_docs", 0), rules


def check_go(folder: Path, args: argparse.Namespace) -> tuple[int, Counter[str]]:
    """gofmt, which writes documentation comments as Go wants them; it does not say what is missing."""
    if not args.gofmt:
        raise FileNotFoundError("gofmt is not installed")
    changed = output([args.gofmt, "-l", str(folder)])
    return 0, Counter(["other form than gofmt's"] * len(changed.splitlines()))


def check_c(folder: Path, args: argparse.Namespace) -> tuple[int, Counter[str]]:
    """clang's reading of Doxygen commands in headers."""
    if not args.clang:
        raise FileNotFoundError("clang is not installed")
    rules: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.h")):
        text = output([*args.clang.split(), "-fsyntax-only", "-Wdocumentation",
                       "-Wdocumentation-pedantic", "-x", "c", str(path)])  # fmt: skip
        rules += Counter(re.findall(r"\[-W(documentation[\w-]*)\]", text))
    return 0, rules


def output(command: Sequence[str], folder: Path | None = None) -> str:
    """What a tool prints, on stderr where that is all; raises OSError when it is not there."""
    done = subprocess.run(list(command), cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


LANGUAGES: dict[str, tuple[tuple[str, ...], Check]] = {
    "java": ((".java",), check_java),
    "typescript": ((".ts",), check_typescript),
    "rust": ((".rs",), check_rust),
    "go": ((".go",), check_go),
    "c": ((".h",), check_c),
}


if __name__ == "__main__":
    sys.exit(main())

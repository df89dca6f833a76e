"""The documentation page of the rules, written from the rules themselves.

    python -m qcoder.lsp_server.review_pages > docs/rules.md

A test fails until the page in the repository is what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from qcoder.lsp_server.review_rule import Rule
from qcoder.lsp_server.review_rules import all_rules

FENCES = {"javascriptreact": "jsx", "typescriptreact": "tsx"}
MOST_SHOWN = 24
"""Lines of an example."""

HEADINGS = {
    "python": "Python",
    "javascript": "JavaScript and TypeScript",
    "go": "Go",
    "java": "Java",
    "c": "C and C++",
    "cpp": "C and C++",
    "rust": "Rust",
}
INTRODUCTION = """# The rules of the review

This page is written from the rules (`python -m qcoder.lsp_server.review_pages > docs/rules.md`). Every
rule prefers silence to doubt. `error` and `warning` fail `qcoder review`; `hint` is shown in the editor,
and on the command line with `--hints`.

A line is excused by a comment on it, or alone on the line above: `# qcoder: ignore[rule]` (`//` in other
languages); without a name all rules, `# qcoder: ignore-file` the whole file. An excuse for a rule that
finds nothing there any more is reported as `unused-ignore` (info). `review.disabled_rules` switches rules
off. Findings of `unused-ignore` and the model's hints (`unlikely-name`, `unlikely-operator`, `unlikely-bound`,
`unlikely-arguments`, and `likely-fault` of models that follow instructions) never fail a run.
"""


def rules_page() -> str:
    """The page in Markdown: a table of all rules, then a section for each."""
    rules = list(all_rules().values())
    headings = dict.fromkeys(HEADINGS[rule.languages[0]] for rule in rules)
    parts = [INTRODUCTION]
    for heading in headings:
        chosen = [rule for rule in rules if HEADINGS[rule.languages[0]] == heading]
        parts += [f"## {heading}\n", table(chosen), *(section(rule) for rule in chosen)]
    return "\n".join(parts)


def table(rules: Iterable[Rule]) -> str:
    """Name, severity, fix and summary of some rules."""
    rows = ["| rule | severity | finds |", "|---|---|---|"]
    for rule in rules:
        summary = rule.summary.replace("|", "\\|")
        rows.append(f"| [`{rule.name}`](#{rule.name}) | {rule.severity} | {summary} |")
    return "\n".join(rows) + "\n"


def section(rule: Rule) -> str:
    """One rule: why, and an example of what is and what is not found."""
    fence = FENCES.get(rule.languages[0], rule.languages[0])
    found = f"```{fence}\n{shown(rule.invalid[0])}\n```"
    clean = f"```{fence}\n{shown(rule.valid[0])}\n```"
    return f"### {rule.name}\n\n{rule.why}\n\nFound:\n\n{found}\n\nNot found:\n\n{clean}\n"


def shown(example: str) -> str:
    """An example, a long one without its middle."""
    lines = example.rstrip().split("\n")
    if len(lines) <= MOST_SHOWN:
        return "\n".join(lines)
    return "\n".join([*lines[:4], "    ...", *lines[-2:]])


if __name__ == "__main__":
    sys.stdout.write(rules_page())

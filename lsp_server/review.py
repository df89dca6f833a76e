"""Review of one document: structural rules first, then hints where the model is surprised.

Silence is the normal result. Rules decide exit codes; the model's hints never do.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import tree_sitter

from qcoder.context.parse import outline, parse
from qcoder.context.privacy import refused
from qcoder.lsp_server.review_rules import RULES, Rule
from qcoder.lsp_server.snapshot import Finding, Snapshot
from qcoder.lsp_server.surprisal import surprising_spans
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken

IGNORE = re.compile(r"#\s*qcoder:\s*ignore(?:\[([\w\-, ]+)\])?")


def review_document(
    snapshot: Snapshot,
    engine: Engine | None,
    changed: frozenset[int] | None = None,
    cancel: CancelToken | None = None,
) -> list[Finding]:
    """Findings in file order; `changed` limits them to those 0-based lines (None: all)."""
    if refused(snapshot.path) is not None:
        return []
    findings = structural_findings(snapshot, changed)
    settings = snapshot.settings.review
    if engine is not None and settings.model_hints and not (cancel and cancel.cancelled):
        findings += model_hints(snapshot, engine, changed, cancel)
    return sorted(findings, key=lambda f: (f.line, f.column, f.rule))


def structural_findings(snapshot: Snapshot, changed: frozenset[int] | None) -> list[Finding]:
    """What the rules find, suppressed lines left out."""
    document = snapshot.document
    tree = parse(document.text, document.language) if document.language == "python" else None
    if tree is None:
        return []
    disabled = snapshot.settings.review.disabled_rules
    lines = document.text.split("\n")
    seen: Counter[tuple[str, str]] = Counter()
    findings = []
    for rule in RULES:
        if rule.name in disabled:
            continue
        for node, message in rule.check(tree.root_node):
            line = node.start_point[0]
            if (changed is None or line in changed) and not suppressed(lines[line], rule.name):
                flagged = " ".join((node.text or b"").decode("utf-8", "replace").split())
                seen[rule.name, flagged] += 1
                count = seen[rule.name, flagged]
                findings.append(finding_of(snapshot, lines, rule, node, message, flagged, count))
    return findings


def suppressed(line: str, rule: str) -> bool:
    """True when the line carries `# qcoder: ignore` for this rule or for all."""
    found = IGNORE.search(line)
    if found is None:
        return False
    return found.group(1) is None or rule in re.split(r"[,\s]+", found.group(1))


def finding_of(
    snapshot: Snapshot,
    lines: list[str],
    rule: Rule,
    node: tree_sitter.Node,
    message: str,
    flagged: str,
    count: int,
) -> Finding:
    """A rule's finding at a node."""
    (line, start), (end_line, end) = node.start_point, node.end_point
    return Finding(
        rule=rule.name,
        severity=rule.severity,
        path=snapshot.path,
        line=line,
        column=characters(lines[line], start),
        end_line=end_line,
        end_column=characters(lines[end_line], end) if end_line < len(lines) else 0,
        message=message,
        confidence=0.9,
        source="rule",
        fingerprint=fingerprint(snapshot, rule.name, flagged, line, count),
    )


def characters(line: str, column_bytes: int) -> int:
    """Code points before a byte column."""
    return len(line.encode("utf-8", "surrogatepass")[:column_bytes].decode("utf-8", "replace"))


def fingerprint(snapshot: Snapshot, rule: str, flagged: str, line: int, count: int) -> str:
    """Identity of a finding that survives line moves: no line number goes in."""
    symbol = ""
    for definition in outline(snapshot.document.text, snapshot.document.language):
        if definition.span.start_line <= line < definition.span.end_line:
            symbol = definition.qualified_name
    parts = "\0".join((rule, snapshot.path, symbol, flagged, str(count)))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def model_hints(
    snapshot: Snapshot,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken | None,
) -> list[Finding]:
    """Names on changed lines that the model finds very unlikely; hints, at most a few."""
    lines = snapshot.document.text.split("\n")
    hints = []
    for span in surprising_spans(snapshot.document.text, snapshot.path, engine, changed, cancel):
        if suppressed(lines[span.line], "surprising"):
            continue
        message = f"unusual here: `{span.text}` (the model expected `{span.expected}`)"
        hints.append(
            Finding(
                rule="surprising",
                severity="hint",
                path=snapshot.path,
                line=span.line,
                column=span.column,
                end_line=span.line,
                end_column=span.column + len(span.text),
                message=message,
                confidence=span.confidence,
                source="model",
                fingerprint=fingerprint(
                    snapshot, "surprising", lines[span.line].strip(), span.line, 1
                ),
            )
        )
    return sorted(hints, key=lambda f: -f.confidence)[: snapshot.settings.review.max_hints]

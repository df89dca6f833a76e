"""Review of one document: structural rules first, then hints where the model is surprised.

Silence is the normal result. Rules decide exit codes; the model's hints never do. A comment
`# qcoder: ignore[rule]` on the line, or alone on the line above, silences a finding, and
`# qcoder: ignore-file` a file. Languages without rules get hints only.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from qcoder.context.parse import Definition, outline
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.segments import Document
from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rule import Match, Rule
from qcoder.lsp_server.review_rules import rules_for
from qcoder.lsp_server.snapshot import Finding, Snapshot
from qcoder.lsp_server.surprisal import surprising_spans
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken

IGNORE = re.compile(r"(?:#|//)\s*qcoder:\s*ignore(?!-)(?:\[([\w\-, ]*)\])?")
IGNORE_FILE = re.compile(r"^\s*(?:#|//)\s*qcoder:\s*ignore-file\b", re.MULTILINE)
HINT_RULE = "surprising"
RULE_CONFIDENCE = 0.9


@dataclass(frozen=True)
class _Place:
    """What the findings of one document are located in."""

    path: str
    lines: Sequence[str]
    document: Document

    @cached_property
    def definitions(self) -> Sequence[Definition]:
        """The outline; most documents have no finding and need none."""
        return outline(self.document.text, self.document.language)

    def symbol_at(self, line: int) -> str:
        """Dotted name of the innermost definition around a line."""
        around = [d for d in self.definitions if d.span.start_line <= line < d.span.end_line]
        return around[-1].qualified_name if around else ""


def review_document(
    snapshot: Snapshot,
    engine: Engine | None,
    changed: frozenset[int] | None = None,
    cancel: CancelToken | None = None,
) -> list[Finding]:
    """Findings in file order; `changed` limits them to those 0-based lines (None: all)."""
    if refused(snapshot.path, None, exclude_spec(snapshot.settings.privacy.exclude)) is not None:
        return []
    document = snapshot.document
    if IGNORE_FILE.search(document.text):
        return []
    place = _Place(snapshot.path, document.text.split("\n"), document)
    findings = structural_findings(snapshot, place, changed)
    settings = snapshot.settings.review
    local = engine is not None and not engine.info.is_remote  # hints need logits
    if engine and local and settings.model_hints and not (cancel and cancel.cancelled):
        findings += model_hints(snapshot, place, engine, changed, cancel)
    return sorted(findings, key=lambda f: (f.line, f.column, f.rule))


def structural_findings(
    snapshot: Snapshot, place: _Place, changed: frozenset[int] | None
) -> list[Finding]:
    """What the rules find, suppressed lines left out."""
    document = snapshot.document
    disabled = snapshot.settings.review.disabled_rules
    rules = [rule for rule in rules_for(document.language) if rule.name not in disabled]
    path = snapshot.root / snapshot.path if snapshot.root is not None else None
    seen: Counter[tuple[str, str, str]] = Counter()
    findings = []
    for rule, match in matches(rules, document.text, document.language, path, snapshot.root):
        # Counted before any filter, so that a fingerprint does not depend on the diff.
        finding = finding_of(place, rule, match, seen)
        wanted = changed is None or not changed.isdisjoint(touched(match))
        if wanted and not suppressed(place.lines, finding.line, rule.name):
            findings.append(finding)
    return findings


def touched(match: Match) -> range:
    """The 0-based lines of a match's first three lines: where a change makes it new."""
    first, last = match.start[0], match.end[0]
    return range(first, min(last, first + 2) + 1)


def suppressed(lines: Sequence[str], line: int, rule: str) -> bool:
    """True when a comment on the line, or alone on the one above, silences the rule."""
    above = lines[line - 1] if line > 0 else ""
    candidates = [lines[line], above if above.lstrip().startswith(("#", "//")) else ""]
    for text in candidates:
        found = IGNORE.search(text)
        if found is not None:
            names = found.group(1)
            if names is None or rule in re.split(r"[,\s]+", names):
                return True
    return False


def finding_of(
    place: _Place, rule: Rule, match: Match, seen: Counter[tuple[str, str, str]]
) -> Finding:
    """A rule's finding at a match; `seen` counts equal texts of one symbol."""
    flagged = " ".join(match.text.split())
    symbol = place.symbol_at(match.start[0])
    seen[rule.name, symbol, flagged] += 1
    return Finding(
        rule=rule.name,
        severity=rule.severity,
        path=place.path,
        line=match.start[0],
        column=match.start[1],
        end_line=match.end[0],
        end_column=match.end[1],
        message=match.message,
        confidence=RULE_CONFIDENCE,
        source="rule",
        fingerprint=fingerprint(
            rule.name, place.path, symbol, flagged, seen[rule.name, symbol, flagged]
        ),
        fix=match.fix,
    )


def fingerprint(rule: str, path: str, symbol: str, flagged: str, occurrence: int) -> str:
    """Identity of a finding that survives line moves: no line number goes in."""
    parts = "\0".join((rule, path, symbol, flagged, str(occurrence)))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def model_hints(
    snapshot: Snapshot,
    place: _Place,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken | None,
) -> list[Finding]:
    """Names on changed lines that the model finds very unlikely; hints, at most a few."""
    seen: Counter[tuple[str, str, str]] = Counter()
    hints = []
    for span in surprising_spans(snapshot.document.text, snapshot.path, engine, changed, cancel):
        if suppressed(place.lines, span.line, HINT_RULE):
            continue
        symbol, flagged = place.symbol_at(span.line), place.lines[span.line].strip()
        seen[HINT_RULE, symbol, flagged] += 1
        hints.append(
            Finding(
                rule=HINT_RULE,
                severity="hint",
                path=place.path,
                line=span.line,
                column=span.column,
                end_line=span.line,
                end_column=span.column + len(span.text),
                message=f"unusual here: `{span.text}`; similar code has `{span.expected}`",
                confidence=round(span.confidence, 4),
                source="model",
                fingerprint=fingerprint(
                    HINT_RULE, place.path, symbol, flagged, seen[HINT_RULE, symbol, flagged]
                ),
            )
        )
    return sorted(hints, key=lambda f: -f.confidence)[: snapshot.settings.review.max_hints]

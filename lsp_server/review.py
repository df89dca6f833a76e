"""Review of one document: structural rules first, then hints where the model is surprised.

Silence is the normal result. Rules decide exit codes; the model's hints never do. What comments
silence is in `review_ignores.py`. Languages without rules get the model's hints only.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from qcoder.context.parse import Definition, outline
from qcoder.context.privacy import exclude_spec, refused
from qcoder.context.segments import Document
from qcoder.lsp_server.review_ignores import (
    IGNORE_FILE,
    UNUSED_RULE,
    Ignore,
    ignores_in,
    is_silenced,
    unused,
)
from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rule import Match, Rule
from qcoder.lsp_server.review_rules import rules_for
from qcoder.lsp_server.snapshot import Finding, Snapshot
from qcoder.lsp_server.surprisal import surprising_spans
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken

HINT_RULE = "surprising"
RULE_CONFIDENCE = 0.9


@dataclass(frozen=True)
class _Place:
    """What the findings of one document are located in."""

    path: str
    lines: Sequence[str]
    document: Document
    ignores: Sequence[Ignore]

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
    place = _Place(snapshot.path, document.text.split("\n"), document, ignores_in(document.text))
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
    findings, places = [], []
    for rule, match in matches(rules, document.text, document.language, path, snapshot.root):
        # Counted before any filter, so that a fingerprint does not depend on the diff.
        finding = finding_of(place, rule, match, seen)
        places.append((finding.line, rule.name))
        wanted = changed is None or not changed.isdisjoint(touched(match))
        if wanted and not is_silenced(place.ignores, finding.line, rule.name):
            findings.append(finding)
    known = frozenset(rule.name for rule in rules)
    for ignore, vain in unused(document, place.ignores, places, known):
        if (changed is None or ignore.line in changed) and UNUSED_RULE not in disabled:
            findings.append(unused_finding(place, ignore, vain))
    return findings


def unused_finding(place: _Place, ignore: Ignore, vain: list[str]) -> Finding:
    """The remark that a comment silences nothing."""
    names = ", ".join(vain)
    return Finding(
        rule=UNUSED_RULE,
        severity="info",
        path=place.path,
        line=ignore.line,
        column=ignore.start,
        end_line=ignore.line,
        end_column=ignore.end,
        message=f"{names} finds nothing here any more: remove it from the comment",
        confidence=1.0,
        source="rule",
        fingerprint=fingerprint(UNUSED_RULE, place.path, place.symbol_at(ignore.line), names, 1),
    )


def touched(match: Match) -> range:
    """The 0-based lines of a match's first three lines: where a change makes it new."""
    first, last = match.start[0], match.end[0]
    return range(first, min(last, first + 2) + 1)


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
        if is_silenced(place.ignores, span.line, HINT_RULE):
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

"""Review of one document: structural rules first, then hints where the model has doubts.

Silence is the normal result. Rules decide exit codes; the model's hints never do. What comments
silence is in `review_ignores.py`. Languages without rules get the model's hints only.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from qcoder.context.languages import language_of
from qcoder.context.parse import Definition, outline
from qcoder.context.segments import Document
from qcoder.lsp_server.asking import Asked, chat_template
from qcoder.lsp_server.review_generated import remarks
from qcoder.lsp_server.review_ignores import (
    IGNORE_FILE,
    UNUSED_RULE,
    Ignore,
    ignores_in,
    is_silenced,
    unused,
)
from qcoder.lsp_server.review_likelihood import THRESHOLDS, Doubt, doubts
from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rule import Match, Rule
from qcoder.lsp_server.review_rules import rules_for
from qcoder.lsp_server.snapshot import Finding, Snapshot, is_refused
from qcoder.model.engine import Engine
from qcoder.model.request import CancelToken, Priority

HINTS: Mapping[str, tuple[str, str]] = {
    "name": (
        "unlikely-name",
        "`{there}` is unlikely here, and `{instead}` is never used: was it meant?",
    ),
    "operator": ("unlikely-operator", "`{there}` is unlikely here: was `{instead}` meant?"),
    "bound": ("unlikely-bound", "`{there}` is an unlikely end here: was `{instead}` meant?"),
    "arguments": ("unlikely-arguments", "`{there}` is an unlikely order: was `{instead}` meant?"),
    "order": (
        "unlikely-arguments",
        "elsewhere this file has `{instead}`: was that meant here, too?",
    ),
}
"""Kind of slot -> under which name and in which words the model's doubt is told."""

REMARK_RULE = "likely-fault"

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

    @cached_property
    def data(self) -> bytes:
        """The text as bytes, a mark for what has none."""
        return self.document.text.encode("utf-8", "replace")

    def position(self, offset: int) -> tuple[int, int]:
        """0-based line and column, in code points, of a byte."""
        before = self.data[:offset]
        start = before.rfind(b"\n") + 1
        return before.count(b"\n"), len(before[start:].decode("utf-8", "replace"))

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
    if is_refused(snapshot):
        return []
    document = snapshot.document
    if IGNORE_FILE.search(document.text):
        return []
    place = _Place(snapshot.path, document.text.split("\n"), document, ignores_in(document.text))
    findings = structural_findings(snapshot, place, changed)
    if engine is not None:
        rules_lines = {finding.line for finding in findings}
        cancel = cancel or CancelToken()
        hints = model_hints(snapshot, place, engine, changed, cancel)
        findings += [hint for hint in hints if hint.line not in rules_lines]
        findings += model_remarks(snapshot, place, engine, changed, cancel, rules_lines)
    return sorted(findings, key=lambda f: (f.line, f.column, f.rule))


def is_reviewed(path: str) -> bool:
    """Whether there are rules for a file's language."""
    return bool(rules_for(language_of(path)))


def review_by_model(
    snapshot: Snapshot, engine: Engine, changed: frozenset[int] | None, cancel: CancelToken
) -> list[Finding]:
    """The model's hints alone, about the changed 0-based lines (None: all)."""
    found = review_document(snapshot, engine, changed, cancel)
    return [finding for finding in found if finding.source == "model"]


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
    symbol = match.symbol if match.symbol is not None else place.symbol_at(match.start[0])
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
    cancel: CancelToken,
) -> list[Finding]:
    """Where the model doubts changed lines; at most a few, those it doubts most. None of a remote model."""
    settings, document = snapshot.settings.review, snapshot.document
    if engine.info.is_remote or not settings.model_hints or cancel.cancelled:
        return []
    seen: Counter[tuple[str, str, str]] = Counter()
    hints = []
    for doubt in doubts(document.text, document.language, place.path, engine, changed, cancel):
        hint = hint_of(place, doubt, seen)
        silent = hint.rule in settings.disabled_rules
        if not silent and not is_silenced(place.ignores, hint.line, hint.rule):
            hints.append(hint)
    return sorted(hints, key=lambda f: -f.confidence)[: settings.max_hints]


def model_remarks(
    snapshot: Snapshot,
    place: _Place,
    engine: Engine,
    changed: frozenset[int] | None,
    cancel: CancelToken,
    known: Collection[int],
) -> list[Finding]:
    """What a model that follows instructions finds and, asked again, stands by; `known` lines are left out."""
    settings, template = snapshot.settings.review, chat_template(engine)
    if template is None or not settings.model_hints or REMARK_RULE in settings.disabled_rules:
        return []
    asked = Asked(engine, template, "review", Priority.REVIEW, cancel)
    found = []
    for remark in remarks(asked, snapshot.document, place.definitions, changed, known):
        if is_silenced(place.ignores, remark.line, REMARK_RULE):
            continue
        line, symbol = place.lines[remark.line], place.symbol_at(remark.line)
        found.append(
            Finding(
                rule=REMARK_RULE,
                severity="info",
                path=place.path,
                line=remark.line,
                column=len(line) - len(line.lstrip()),
                end_line=remark.line,
                end_column=len(line.rstrip()),
                message=remark.text,
                confidence=round(remark.probability, 4),
                source="model",
                # Of the code alone: the model may say the same in other words.
                fingerprint=fingerprint(REMARK_RULE, place.path, symbol, line.strip(), 1),
            )
        )
    return found


def hint_of(place: _Place, doubt: Doubt, seen: Counter[tuple[str, str, str]]) -> Finding:
    """A doubt in words, located in the document; `seen` as in `finding_of`."""
    data = place.data
    (line, column), (end_line, end_column) = place.position(doubt.start), place.position(doubt.end)
    there = data[doubt.start : doubt.end].decode("utf-8", "replace")
    rule, template = HINTS[doubt.kind]
    words = {"there": " ".join(there.split()), "instead": " ".join(doubt.alternative.split())}
    symbol, flagged = place.symbol_at(line), place.lines[line].strip()
    seen[rule, symbol, flagged] += 1
    return Finding(
        rule=rule,
        severity="hint",
        path=place.path,
        line=line,
        column=column,
        end_line=end_line,
        end_column=end_column,
        message=template.format_map(words),
        # Half at the threshold, and more beyond it.
        confidence=round(doubt.nats / (doubt.nats + THRESHOLDS[doubt.kind]), 4),
        source="model",
        fingerprint=fingerprint(rule, place.path, symbol, flagged, seen[rule, symbol, flagged]),
    )

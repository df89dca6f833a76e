"""Findings as text, JSON, SARIF 2.1.0, GitHub annotations and reviewdog's rdjson."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from qcoder import __version__
from qcoder.lsp_server.review_rules import all_rules
from qcoder.lsp_server.snapshot import Finding

SARIF_LEVEL = {"error": "error", "warning": "warning", "info": "note", "hint": "note"}
GITHUB_LEVEL = {"error": "error", "warning": "warning", "info": "notice", "hint": "notice"}
RDJSON_LEVEL = {"error": "ERROR", "warning": "WARNING", "info": "INFO", "hint": "INFO"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

OTHER_RULES = {
    "likely-fault": "a model that follows instructions found a fault, and stood by it when asked again",
    "unlikely-arguments": "the model would rather have two arguments in each other's place",
    "unlikely-bound": "the model would rather have a range end one earlier",
    "unlikely-name": "the model would rather read a variable that is never used",
    "unlikely-operator": "the model would rather read another operator",
    "unused-ignore": "a comment silences a rule that finds nothing there",
}
"""What is reported without a rule of `rules/`."""

Stats = Mapping[str, Any]
Format = Callable[[Sequence[Finding], Stats], str]


def as_text(findings: Sequence[Finding], stats: Stats) -> str:
    """One line a finding, then a summary."""
    rows = [
        f"{f.path}:{f.line + 1}:{f.column + 1}: {f.severity}: {f.message} [{f.rule}]"
        for f in findings
    ]
    files = stats.get("files", 0)
    rows.append(f"{count(len(findings), 'finding')} in {count(files, 'file')}")
    return "\n".join(rows)


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number or 'no'} {noun}s"


def as_json(findings: Sequence[Finding], stats: Stats) -> str:
    """The stable JSON form (1-based lines and columns)."""
    rows = [
        {
            "rule": f.rule,
            "severity": f.severity,
            "path": f.path,
            "line": f.line + 1,
            "column": f.column + 1,
            "end_line": f.end_line + 1,
            "message": f.message,
            "confidence": round(f.confidence, 4),
            "source": f.source,
            "fingerprint": f.fingerprint,
            "fix": f.fix,
        }
        for f in findings
    ]
    return json.dumps({"findings": rows, "stats": dict(stats)})


def as_sarif(findings: Sequence[Finding], stats: Stats) -> str:
    """SARIF 2.1.0 with our own fingerprint key."""
    results = [sarif_result(f) for f in findings]
    driver = {
        "name": "qcoder",
        "version": __version__,
        "rules": [sarif_rule(rule) for rule in sorted({f.rule for f in findings})],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def sarif_result(f: Finding) -> dict[str, Any]:
    """One finding, with its fix where there is one."""
    artifact = {"uri": quote(f.path), "uriBaseId": "SRCROOT"}
    region = {
        "startLine": f.line + 1,
        "startColumn": f.column + 1,
        "endLine": f.end_line + 1,
        "endColumn": f.end_column + 1,
    }
    result: dict[str, Any] = {
        "ruleId": f.rule,
        "level": SARIF_LEVEL[f.severity],
        "message": {"text": f.message},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
        "partialFingerprints": {"qcoder/v1": f.fingerprint},
    }
    if f.fix is not None:
        replacement = {"deletedRegion": region, "insertedContent": {"text": f.fix}}
        change = {"artifactLocation": artifact, "replacements": [replacement]}
        result["fixes"] = [{"artifactChanges": [change]}]
    return result


def sarif_rule(name: str) -> dict[str, Any]:
    """What SARIF viewers show of a rule."""
    rule = all_rules().get(name)
    if rule is None:
        return {"id": name, "shortDescription": {"text": OTHER_RULES.get(name, name)}}
    return {
        "id": name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "defaultConfiguration": {"level": SARIF_LEVEL[rule.severity]},
    }


def as_github(findings: Sequence[Finding], stats: Stats) -> str:
    """Workflow commands that GitHub Actions shows as annotations."""
    return "\n".join(
        f"::{GITHUB_LEVEL[f.severity]} file={property_of(f.path)},line={f.line + 1},"
        f"col={f.column + 1},title={property_of(f.rule)}::{data_of(f.message)}"
        for f in findings
    )


def data_of(text: str) -> str:
    """Escape a workflow command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_of(text: str) -> str:
    """Escape a workflow command's property."""
    return data_of(text).replace(":", "%3A").replace(",", "%2C")


def as_rdjson(findings: Sequence[Finding], stats: Stats) -> str:
    """The reviewdog diagnostic format."""
    rows = [
        {
            "message": f.message,
            "location": {
                "path": f.path,
                "range": {
                    "start": {"line": f.line + 1, "column": f.column + 1},
                    "end": {"line": f.end_line + 1, "column": f.end_column + 1},
                },
            },
            "severity": RDJSON_LEVEL[f.severity],
            "code": {"value": f.rule},
        }
        for f in findings
    ]
    return json.dumps({"source": {"name": "qcoder"}, "diagnostics": rows})


FORMATS: dict[str, Format] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
    "rdjson": as_rdjson,
}
"""Name of the command line -> function."""

"""Findings as text, JSON, SARIF 2.1.0, GitHub annotations and reviewdog's rdjson."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from qcoder import __version__
from qcoder.lsp_server.review_rules import all_rules
from qcoder.lsp_server.snapshot import Finding, TextEdit

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
            "fix": fix_row(f.fix) if f.fix is not None else None,
        }
        for f in findings
    ]
    return json.dumps({"findings": rows, "stats": dict(stats)})


def fix_row(fix: TextEdit) -> dict[str, Any]:
    """A fix as the JSON form has it."""
    return {
        "line": fix.start_line + 1,
        "column": fix.start_column + 1,
        "end_line": fix.end_line + 1,
        "end_column": fix.end_column + 1,
        "text": fix.new_text,
    }


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
    region = sarif_region(f.line, f.column, f.end_line, f.end_column)
    result: dict[str, Any] = {
        "ruleId": f.rule,
        "level": SARIF_LEVEL[f.severity],
        "message": {"text": f.message},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
        "partialFingerprints": {"qcoder/v1": f.fingerprint},
    }
    if f.fix is not None:
        fix = f.fix
        deleted = sarif_region(fix.start_line, fix.start_column, fix.end_line, fix.end_column)
        replacement = {"deletedRegion": deleted, "insertedContent": {"text": fix.new_text}}
        change = {"artifactLocation": artifact, "replacements": [replacement]}
        result["fixes"] = [{"artifactChanges": [change]}]
    return result


def sarif_region(line: int, column: int, end_line: int, end_column: int) -> dict[str, int]:
    """A region from 0-based places."""
    return {
        "startLine": line + 1,
        "startColumn": column + 1,
        "endLine": end_line + 1,
        "endColumn": end_column + 1,
    }


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

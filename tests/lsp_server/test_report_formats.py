import json
from dataclasses import replace

import jsonschema
import pytest

from qcoder.lsp_server.report_formats import FORMATS
from qcoder.lsp_server.snapshot import Finding, TextEdit

FINDING = Finding(
    rule="resource-leak", severity="warning", path="a b,c:d.py", line=1, column=4, end_line=2,
    end_column=8, message="100 % sure:\nclose `x`", confidence=0.87654, source="rule",
    fingerprint="f" * 32,
)  # fmt: skip
HINT = Finding("unlikely-name", "hint", "b.py", 0, 0, 0, 3, "unusual", 0.5, "model", "e" * 32)
STATS = {"files": 2, "seconds": 0.1}


def render(form: str, *findings: Finding) -> str:
    return FORMATS[form](findings, STATS)


def test_text_counts_in_words() -> None:
    assert render("text").endswith("no findings in 2 files")
    assert render("text", HINT).endswith("1 finding in 2 files")
    assert render("text", HINT).startswith("b.py:1:1: hint: unusual [unlikely-name]")


def test_json_keys_are_the_documented_ones() -> None:
    found = json.loads(render("json", FINDING))
    assert found["stats"] == STATS
    assert found["findings"] == [
        {
            "rule": "resource-leak", "severity": "warning", "path": "a b,c:d.py", "line": 2,
            "column": 5, "end_line": 3, "message": "100 % sure:\nclose `x`", "confidence": 0.8765,
            "source": "rule", "fingerprint": "f" * 32, "fix": None,
        }
    ]  # fmt: skip


def test_sarif_says_where_and_why() -> None:
    (run,) = json.loads(render("sarif", FINDING, HINT))["runs"]
    assert [r["level"] for r in run["results"]] == ["warning", "note"]
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 5, "endLine": 3, "endColumn": 9}
    assert run["results"][0]["partialFingerprints"] == {"qcoder/v1": "f" * 32}
    rules = {r["id"]: r for r in run["tool"]["driver"]["rules"]}
    assert set(rules) == {"resource-leak", "unlikely-name"}
    assert rules["resource-leak"]["fullDescription"]["text"]


def test_github_commands_are_one_escaped_line_each() -> None:
    (line,) = render("github", FINDING).split("\n")
    assert line == (
        "::warning file=a b%2Cc%3Ad.py,line=2,col=5,title=resource-leak::100 %25 sure:%0Aclose `x`"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_no_findings_are_fine_in_every_format(form: str) -> None:
    out = render(form)
    assert out == "" if form == "github" else out


def closed(properties: dict[str, object], *required: str) -> dict[str, object]:
    """A schema of an object with these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT = closed({"text": {"type": "string"}}, "text")
NUMBER = {"type": "integer", "minimum": 1}
REGION = closed(dict.fromkeys(("startLine", "startColumn", "endLine", "endColumn"), NUMBER))
ARTIFACT = closed(
    {"uri": {"type": "string", "pattern": r"^[^\s\\]+$"}, "uriBaseId": {"type": "string"}}
)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
PLACE = closed({"physicalLocation": closed({"artifactLocation": ARTIFACT, "region": REGION})})
REPLACEMENT = closed({"deletedRegion": REGION, "insertedContent": TEXT}, "deletedRegion")
CHANGE = closed(
    {"artifactLocation": ARTIFACT, "replacements": {"type": "array", "items": REPLACEMENT}},
    "artifactLocation",
    "replacements",
)
FIX = closed({"artifactChanges": {"type": "array", "items": CHANGE}}, "artifactChanges")
RESULT = closed(
    {
        "ruleId": {"type": "string"},
        "level": LEVEL,
        "message": TEXT,
        "locations": {"type": "array", "items": PLACE},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "fixes": {"type": "array", "items": FIX, "uniqueItems": True},
    },
    "message",
)
RULE = closed(
    {
        "id": {"type": "string"},
        "shortDescription": TEXT,
        "fullDescription": TEXT,
        "defaultConfiguration": closed({"level": LEVEL}),
    },
    "id",
)
DRIVER = closed(
    {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "rules": {"type": "array", "items": RULE, "uniqueItems": True},
    },
    "name",
)
RUN = closed(
    {
        "tool": closed({"driver": DRIVER}, "driver"),
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": RESULT},
    },
    "tool",
)
SARIF = closed(
    {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": RUN},
    },
    "version",
    "runs",
)
"""The part of SARIF 2.1.0's schema that a report may use; anything else is refused."""


def test_sarif_keeps_to_its_schema() -> None:
    fixable = replace(FINDING, fix=TextEdit(2, 4, 3, 9, "with open(p) as f:"))
    for findings in ((), (FINDING,), (FINDING, fixable, HINT)):
        jsonschema.validate(json.loads(render("sarif", *findings)), SARIF)


def test_sarif_tells_how_to_mend() -> None:
    fixable = replace(FINDING, fix=TextEdit(2, 4, 3, 7, "await f()"))
    (run,) = json.loads(render("sarif", fixable))["runs"]
    (change,) = run["results"][0]["fixes"][0]["artifactChanges"]
    (replacement,) = change["replacements"]
    assert replacement == {
        "deletedRegion": {"startLine": 3, "startColumn": 5, "endLine": 4, "endColumn": 8},
        "insertedContent": {"text": "await f()"},
    }

from pathlib import Path

import pytest

from qcoder.context.segments import Document
from qcoder.lsp_server.review import review_document
from qcoder.lsp_server.review_rules import RULES, Rule
from qcoder.lsp_server.settings import ReviewSettings, Settings
from qcoder.lsp_server.snapshot import Finding, Snapshot

LEAK = "def load(path):\n    handle = open(path)\n    return handle.read()\n"


def review(source: str, path: str = "pkg/a.py", **settings: object) -> list[Finding]:
    document = Document("file:///pkg/a.py", 1, "python", source)
    chosen = Settings(review=ReviewSettings(**settings))  # type: ignore[arg-type]
    return review_document(Snapshot(document, path, Path("/"), None, chosen), None)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_rule_finds_every_invalid_example_and_no_valid_one(rule: Rule) -> None:
    for source in rule.invalid:
        assert [f.rule for f in review(source)] == [rule.name], source
    for source in rule.valid:
        assert review(source) == [], source


def test_fingerprint_survives_line_moves_and_tells_findings_apart() -> None:
    first = review(LEAK)[0]
    moved = review("import os\n\n\n" + LEAK)[0]
    twice = review(LEAK + LEAK.replace("load", "load_again"))
    assert first.fingerprint == moved.fingerprint
    assert first.line != moved.line
    assert len({f.fingerprint for f in twice}) == 2


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# qcoder: ignore", True),
        ("# qcoder: ignore[resource-leak]", True),
        ("# qcoder: ignore[other, resource-leak]", True),
        ("# qcoder: ignore[other]", False),
    ],
)
def test_suppression(comment: str, silent: bool) -> None:
    assert (review(LEAK.replace("open(path)", f"open(path)  {comment}")) == []) == silent


def test_disabled_rule_and_refused_file_stay_silent() -> None:
    assert review(LEAK, disabled_rules=("resource-leak",)) == []
    assert review(LEAK, path="pkg/.env") == []


def test_only_changed_lines_are_reported() -> None:
    document = Document("file:///a.py", 1, "python", LEAK)
    snapshot = Snapshot(document, "a.py", None, None, Settings())
    assert review_document(snapshot, None, frozenset({2})) == []
    assert len(review_document(snapshot, None, frozenset({1}))) == 1


@pytest.mark.parametrize("source", ["", "def f(:\n", "x = (" * 3000, "\0", "é = open('ü')\n"])
def test_odd_sources_never_raise(source: str) -> None:
    review(source)


def test_columns_count_characters() -> None:
    finding = review("def f(p):\n    é = open(p)\n    return é.read()\n")[0]
    assert (finding.line, finding.column) == (1, 8)

from typing import Any

import pytest
import yaml

from qcoder.lsp_server.edited import applied
from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_passes import PASSES
from qcoder.lsp_server.review_patterns import root_of
from qcoder.lsp_server.review_rule import Rule
from qcoder.lsp_server.review_rules import all_rules, rule_of, rules_for

RULES = tuple(all_rules().values())
VALID = [(rule, lang, source) for rule in RULES for lang in rule.languages for source in rule.valid]
INVALID = [(rule, lang, text) for rule in RULES for lang in rule.languages for text in rule.invalid]
BROKEN = ["", "(((((", "def", "with open(", "\0", "async def f(:\n  x(", "x = " + "[" * 5000]


def messages(rule: Rule, language: str, source: str) -> list[str]:
    return [match.message for _, match in matches([rule], source, language)]


def label(value: object) -> str:
    return value.name if isinstance(value, Rule) else str(value)[:40]


@pytest.mark.parametrize(("rule", "language", "source"), VALID, ids=label)
def test_correct_code_is_left_alone(rule: Rule, language: str, source: str) -> None:
    assert messages(rule, language, source) == []


@pytest.mark.parametrize(("rule", "language", "source"), INVALID, ids=label)
def test_wrong_code_is_found(rule: Rule, language: str, source: str) -> None:
    found = messages(rule, language, source)
    assert found
    assert not any("$" in message and "$" not in source for message in found)


@pytest.mark.parametrize("language", ["python", "typescript", "go", "java", "c", "cpp", "rust"])
@pytest.mark.parametrize("source", BROKEN, ids=lambda s: s[:12])
def test_no_rule_fails_on_broken_code(
    language: str, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = " ".join(word for rule in rules_for(language) for word in rule.mentions)
    list(matches(rules_for(language), f"{source}\n{words}", language))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("typescript", "if (x) { y(a[x]); } else " * 2000 + "{}"),
        ("python", "x = a" + ".b(c)" * 2000 + "\nassert (x, 'a')\n"),
        ("python", "x = " + "f(" * 500 + ")" * 500 + "\nassert (x, 'a')\n"),
    ],
)
def test_what_nests_beyond_reason_is_left_out(language: str, source: str) -> None:
    assert root_of(source, language) is None
    assert list(matches(rules_for(language), source, language)) == []


def test_every_pass_belongs_to_a_rule() -> None:
    assert {rule.run for rule in RULES if rule.run} == set(PASSES)


def test_every_language_has_its_rules() -> None:
    counts = {language: len(rules_for(language)) for language in ("python", "typescript", "go")}
    counts |= {language: len(rules_for(language)) for language in ("java", "c", "cpp", "rust")}
    assert counts.pop("python") >= 12
    assert min(counts.values()) >= 6
    assert rules_for("markdown") == ()


@pytest.mark.parametrize("rule", RULES, ids=label)
def test_every_rule_explains_itself(rule: Rule) -> None:
    assert rule.why.endswith(".")
    assert not rule.summary.endswith(".")


def test_conditions_are_tried_as_written() -> None:
    text = """
        name: x
        languages: [python]
        severity: hint
        summary: s
        why: w.
        message: m
        match: {rule: {kind: call, inside: {kind: block, stopBy: end, not: {has: {pattern: x}}}}}
        valid: [x]
        invalid: [y]
    """
    document: dict[str, Any] = yaml.safe_load(text)
    pattern = rule_of(document).pattern
    assert pattern is not None
    assert pattern["rule"]["all"][1] == {
        "inside": {"stopBy": "end", "all": [{"kind": "block"}, {"not": {"has": {"pattern": "x"}}}]}
    }


@pytest.mark.parametrize("change", [{"match": None}, {"why": ""}, {"valid": []}, {"message": ""}])
def test_a_rule_without_its_parts_is_refused(change: dict[str, Any]) -> None:
    whole = {"name": "x", "languages": ["python"], "severity": "hint", "summary": "s", "why": "w."}
    whole |= {"message": "m", "match": {"rule": {"kind": "call"}}, "valid": ["x"], "invalid": ["y"]}
    assert rule_of(whole).name == "x"
    with pytest.raises(ValueError, match="rule x"):
        rule_of({**whole, **change})


@pytest.mark.parametrize(
    ("rule", "source", "mended"),
    [
        (
            "assert-on-tuple",
            "assert (\n    a\n    and b,\n    'text'\n    'more',\n)\n",
            "assert (a\n    and b), ('text'\n    'more')\n",
        ),
        (
            "except-or",
            "try:\n    f()\nexcept A or m.B or C as e:\n    g()\n",
            "try:\n    f()\nexcept (A, m.B, C) as e:\n    g()\n",
        ),
    ],
)
def test_what_mends_python_leaves_python(rule: str, source: str, mended: str) -> None:
    found = [match for _, match in matches([all_rules()[rule]], source, "python")]
    fixes = [match.fix for match in found if match.fix is not None]
    assert applied(source, fixes) == mended
    compile(mended, "a.py", "exec")


def test_a_fix_that_python_would_not_compile_is_not_offered() -> None:
    document = {
        "name": "x",
        "languages": ["python"],
        "severity": "hint",
        "summary": "s",
        "why": "w.",
    }
    document |= {"message": "m", "match": {"rule": {"pattern": "f($A)"}}, "fix": "g $A"}
    rule = rule_of({**document, "valid": ["x"], "invalid": ["f(1)"]})
    ((_, match),) = matches([rule], "f(1)\n", "python")
    assert match.fix is None
    assert match.message == "m"


@pytest.mark.parametrize(
    ("use", "fixes"),
    [
        ("any(ok(x) == 1 for x in xs)", []),
        ("[ok(x) == 1 for x in xs]", ["await ok(x)"]),
        ("xs and ok(xs) == 1", ["await ok(xs)"]),
    ],
)
def test_await_is_not_put_into_a_generator(use: str, fixes: list[str]) -> None:
    source = f"async def ok(x): ...\nasync def f(xs):\n    return {use}\n"
    rule = all_rules()["unawaited-coroutine"]
    found = [match for _, match in matches([rule], source, "python")]
    assert len(found) == 1
    assert [match.fix.new_text for match in found if match.fix is not None] == fixes

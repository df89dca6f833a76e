import pytest

from qcoder.lsp_server.python_tree import PythonFile
from qcoder.lsp_server.review_rule import Rule
from qcoder.lsp_server.review_rules import RULES


def hits(rule: Rule, source: str) -> list[str]:
    file = PythonFile.parse(source)
    assert file is not None
    return [hit.message for hit in rule.check(file)]


VALID = [(rule, source) for rule in RULES.values() for source in rule.valid]
INVALID = [(rule, source) for rule in RULES.values() for source in rule.invalid]


def label(value: object) -> str:
    return value.name if isinstance(value, Rule) else str(value)[:40]


@pytest.mark.parametrize(("rule", "source"), VALID, ids=label)
def test_correct_code_is_left_alone(rule: Rule, source: str) -> None:
    assert hits(rule, source) == []


@pytest.mark.parametrize(("rule", "source"), INVALID, ids=label)
def test_wrong_code_is_found(rule: Rule, source: str) -> None:
    assert hits(rule, source)


@pytest.mark.parametrize("source", ["", "(((((", "def", "with open(", "\0", "async def f(:\n  x("])
def test_no_rule_raises_on_broken_code(source: str) -> None:
    for rule in RULES.values():
        hits(rule, source)


@pytest.mark.parametrize("rule", RULES.values(), ids=label)
def test_every_rule_explains_itself(rule: Rule) -> None:
    assert rule.why.endswith(".")
    assert rule.valid
    assert rule.invalid

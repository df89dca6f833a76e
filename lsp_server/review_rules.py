"""The table of all structural rules, read from the YAML files of `rules/`, a file at a time.

A file holds one document a rule; the first documents of a file may share patterns by YAML anchors.
Adding a rule is adding a document with examples: the tests run them, `docs/rules.md` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from qcoder.lsp_server.review_rule import Rule

FILES: Mapping[str, tuple[str, ...]] = {
    "python": ("python", "python_patterns", "python_debt"),
    "javascript": ("javascript",),
    "javascriptreact": ("javascript",),
    "typescript": ("javascript",),
    "typescriptreact": ("javascript",),
    "go": ("go",),
    "java": ("java",),
    "c": ("c",),
    "cpp": ("c",),
    "rust": ("rust",),
}
"""Language -> files of `rules/` with rules for it."""

RELATION = frozenset({"stopBy", "field"})
"""Keys that say how a relation is looked for, and are no conditions."""

FIELDS = {"pass": "run", "match": "pattern"}
"""Keys of a rule file that are called otherwise in `Rule`."""


def rules_for(language: str) -> tuple[Rule, ...]:
    """Rules of a language, in the order of their files; none for a language without."""
    return tuple(
        rule
        for file in FILES.get(language, ())
        for rule in rules_in(file)
        if language in rule.languages
    )


def all_rules() -> dict[str, Rule]:
    """Every rule by name, in the order in which they are documented."""
    names = dict.fromkeys(file for files in FILES.values() for file in files)
    return {rule.name: rule for file in names for rule in rules_in(file)}


@cache
def rules_in(file: str) -> tuple[Rule, ...]:
    """The rules of one file; raises `ValueError` or `TypeError` for a file that is wrong."""
    text = resources.files("qcoder.lsp_server.rules").joinpath(f"{file}.yml").read_text("utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(rule_of(document) for document in yaml.load_all(text, Loader=loader) if document)


def in_order(rule: Any) -> Any:
    """An ast-grep rule whose conditions are tried in the order in which they are written.

    By itself the library chooses the order of a rule's keys, and what a variable stands for depends
    on it; only lists keep theirs.
    """
    if not isinstance(rule, Mapping):
        return rule
    fixed = {k: in_order(v) if k == "stopBy" else v for k, v in rule.items() if k in RELATION}
    conditions = [{key: nested(key, value)} for key, value in rule.items() if key not in RELATION]
    if len(conditions) == 1:
        return {**fixed, **conditions[0]}
    return {**fixed, "all": conditions}


def nested(key: str, value: Any) -> Any:
    """The value of one condition with what is inside it in order."""
    if key in ("all", "any"):
        return [in_order(item) for item in value]
    return in_order(value) if key in ("inside", "has", "precedes", "follows", "not") else value


def rule_of(document: Mapping[str, Any]) -> Rule:
    """A rule from its document."""
    fields: dict[str, Any] = {}
    for key, value in document.items():
        fields[FIELDS.get(key, key)] = tuple(value) if isinstance(value, list) else value
    for key in ("summary", "why", "message"):
        fields[key] = " ".join(str(fields.get(key, "")).split())
    if fields.get("pattern") is not None:
        pattern = fields["pattern"]
        constraints = {k: in_order(v) for k, v in pattern.get("constraints", {}).items()}
        fields["pattern"] = {"rule": in_order(pattern["rule"]), "constraints": constraints}
    return Rule(**fields)

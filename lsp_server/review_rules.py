"""The table of all structural rules. Adding one is a `Rule` with examples in a `RULES` tuple."""

from __future__ import annotations

from qcoder.lsp_server import review_concurrency, review_leaks, review_slips
from qcoder.lsp_server.review_rule import Rule

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (*review_leaks.RULES, *review_concurrency.RULES, *review_slips.RULES)
}
"""Rules by name, in the order in which they are documented."""

from pathlib import Path

from qcoder.lsp_server.review_pages import rules_page
from qcoder.lsp_server.review_rules import all_rules

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rules.md"


def test_the_page_of_the_rules_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == rules_page()


def test_every_rule_has_its_section() -> None:
    page = rules_page()
    assert [name for name in all_rules() if page.count(f"\n### {name}\n") != 1] == []

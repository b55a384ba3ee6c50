from __future__ import annotations

from pathlib import Path

import pytest

from schemas.rule_ids import RowRule, SetRule
from schemas.rules.set_rules import SET_RULES
from schemas.tables.rules import limit_in_words, rule_table

PAGE = Path(__file__).parents[4] / "docs" / "data-rules.md"


def test_page_of_rules_is_what_the_definitions_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == rule_table(), "run make docs"


@pytest.mark.parametrize("rule", [*RowRule, *SetRule])
def test_every_rule_has_one_line(rule: str) -> None:
    lines = [line for line in rule_table().splitlines() if line.startswith(f"| `{rule}` |")]
    assert len(lines) == 1
    assert lines[0].replace(r"\|", "").count("|") in (5, 6)


def test_limits_say_which_side_is_good() -> None:
    assert limit_in_words(SET_RULES[SetRule.MIN_ROWS]) == "at least 10 (rows)"
    assert limit_in_words(SET_RULES[SetRule.TOO_LONG]) == "at most 0 (share of tokenised rows)"
    assert "quality.length_quantiles" in limit_in_words(SET_RULES[SetRule.LENGTH_QUANTILES])

from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from schemas.rule_ids import RowRule, RuleSetting, Severity
from schemas.rules.row_rules import ROW_RULES, row_severities

WARNING = {
    RowRule.MIXED_FORMAT,
    RowRule.SYSTEM_CONFLICT,
    RowRule.FIELD_NOT_USED,
    RowRule.UNRENDERED_PLACEHOLDER,
    RowRule.MISSING_VALUE_TEXT,
    RowRule.TOKEN_PIECES,
    RowRule.ESCAPED_LINE_BREAKS,
    RowRule.HTML_ENTITIES,
    RowRule.TEXT_RESIDUE,
    RowRule.ANSWER_BOUNDARY,
    RowRule.LOOPING_ANSWER,
    RowRule.UNBALANCED_THOUGHT,
    RowRule.SECRET_OR_PII,
}
STRUCTURAL = {
    RowRule.UNPARSEABLE_LINE,
    RowRule.NOT_AN_OBJECT,
    RowRule.UNKNOWN_FORMAT,
    RowRule.PREFERENCE_ROW,
    RowRule.MESSAGES_EMPTY,
    RowRule.MESSAGE_NOT_OBJECT,
}


def test_every_rule_says_what_it_means_and_how_to_fix_a_row() -> None:
    assert list(ROW_RULES) == list(RowRule)
    assert all(definition.meaning and definition.fix for definition in ROW_RULES.values())


def test_every_rule_blocks_but_those_that_warn() -> None:
    severities = row_severities({})
    assert {rule for rule, severity in severities.items() if severity is Severity.WARN} == WARNING
    assert set(severities.values()) == {Severity.WARN, Severity.BLOCK}


def test_settings_change_what_they_name_and_nothing_else() -> None:
    rule = RowRule.CONTENT_EMPTY
    loosened = row_severities({rule: RuleSetting(severity=Severity.WARN)})
    assert loosened == {**row_severities({}), rule: Severity.WARN}
    assert row_severities({rule: RuleSetting(limit=0.1)}) == row_severities({})


def test_rules_without_which_there_is_no_conversation_are_structural() -> None:
    assert {rule for rule, found in ROW_RULES.items() if found.is_structural} == STRUCTURAL


@pytest.mark.parametrize("rule", sorted(STRUCTURAL))
@pytest.mark.parametrize("severity", [Severity.WARN, Severity.OFF])
def test_structural_rule_cannot_be_loosened(rule: RowRule, severity: Severity) -> None:
    with pytest.raises(ConfigError, match="contains no conversation") as caught:
        row_severities({rule: RuleSetting(severity=severity)})
    assert caught.value.where == f"data.rules.{rule}.severity"
    assert row_severities({rule: RuleSetting(severity=Severity.BLOCK)}) == row_severities({})

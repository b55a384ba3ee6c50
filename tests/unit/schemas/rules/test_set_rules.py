from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.rule_ids import DataGateMode, RuleSetting, SetRule, Severity
from schemas.rules.set_rules import (
    DEFAULT_LENGTH_QUANTILES,
    SET_RULES,
    require_limits,
    require_quantile_ranges,
    set_rule_settings,
)


def test_every_rule_is_defined_and_blocks_unless_inference_is_the_same() -> None:
    assert list(SET_RULES) == list(SetRule)
    warning = {rule for rule, found in SET_RULES.items() if found.severity != Severity.BLOCK}
    assert warning == {
        SetRule.CUT_TEXT_FRACTION,
        SetRule.FIELD_NOT_RENDERED,
        SetRule.TURN_NOT_TRAINED,
    }
    assert all(found.meaning and found.fix and found.unit for found in SET_RULES.values())
    assert len({found.column for found in SET_RULES.values()}) == len(SetRule)


def test_defaults_are_those_documented() -> None:
    limits = {rule: found.limit for rule, found in SET_RULES.items() if found.limit}
    assert limits == {
        SetRule.MIN_ROWS: 10,
        SetRule.BAD_ROW_FRACTION: 0.05,
        SetRule.DUPLICATE_FRACTION: 0.05,
        SetRule.NEAR_DUPLICATE_FRACTION: 0.05,
        SetRule.CONTRADICTORY_FRACTION: 0.05,
        SetRule.BOILERPLATE_FRACTION: 0.05,
        SetRule.LANGUAGE_FRACTION: 0.05,
        SetRule.ROLE_MIX: 0.1,
        SetRule.SHRUNK_FRACTION: 0.2,
        SetRule.DRIFT: 0.25,
    }
    assert SET_RULES[SetRule.LENGTH_QUANTILES].limit is None
    assert DEFAULT_LENGTH_QUANTILES == {0.5: (8, 100_000)}


def test_limit_above_one_is_refused_for_shares_only() -> None:
    with pytest.raises(ConfigError) as caught:
        set_rule_settings({SetRule.DUPLICATE_FRACTION: RuleSetting(limit=5)}, DataGateMode.ENFORCE)
    assert caught.value.where == "quality.rules.duplicate_fraction.limit"
    assert caught.value.expected == "0 to 1 (share of kept rows)"
    assert caught.value.got == "5"
    for rule in SetRule:
        named = {rule: RuleSetting(limit=1.01)}
        if rule in (SetRule.MIN_ROWS, SetRule.DRIFT):
            require_limits(named)
        else:
            with pytest.raises(ConfigError):
                require_limits(named)


def test_length_quantiles_takes_ranges_and_no_limit() -> None:
    with pytest.raises(ConfigError, match="has no single limit"):
        require_limits({SetRule.LENGTH_QUANTILES: RuleSetting(limit=0.1)})
    require_limits({SetRule.LENGTH_QUANTILES: RuleSetting(severity=Severity.WARN)})


@pytest.mark.parametrize(
    ("ranges", "got"),
    [({1.5: (8, None)}, "1.5"), ({-0.1: (8, None)}, "-0.1"), ({0.5: (9, 8)}, r"\[9, 8\]")],
)
def test_length_quantiles_that_no_set_could_keep_are_refused(ranges: Any, got: str) -> None:
    with pytest.raises(ConfigError, match=got):
        require_quantile_ranges(ranges)


def test_naming_a_limit_keeps_a_set_rules_own_severity(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = SetRule.TOO_LONG
    mild = dataclasses.replace(SET_RULES[rule], severity=Severity.WARN)
    monkeypatch.setitem(SET_RULES, rule, mild)
    limit = RuleSetting(limit=0.03)
    found = set_rule_settings({rule: limit}, DataGateMode.ENFORCE)[rule]
    assert (found.severity, found.limit) == (Severity.WARN, 0.03)
    strict = RuleSetting(limit=0.03, severity=Severity.BLOCK)
    found = set_rule_settings({rule: strict}, DataGateMode.ENFORCE)[rule]
    assert found.severity is Severity.BLOCK
    assert set_rule_settings({}, DataGateMode.ENFORCE)[rule].limit == 0

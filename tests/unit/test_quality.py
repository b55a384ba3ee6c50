from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

import schemas.quality
from schemas.errors import SftFlowError
from schemas.quality import SET_RULES, build_suite, check_set, set_rule_settings
from schemas.rules import (
    GateMode,
    RuleExample,
    RuleResult,
    RuleSetting,
    SetRule,
    Severity,
    Verdict,
)

# For each rule: how many of 100 rows carry a 1 just beyond the default limit, and just at it.
CASES = {
    SetRule.MIN_ROWS: (9, 10),
    SetRule.BAD_ROW_FRACTION: (6, 5),
    SetRule.DUPLICATE_FRACTION: (6, 5),
    SetRule.CONTRADICTORY_FRACTION: (6, 5),
    SetRule.TRAIN_EVAL_OVERLAP: (1, 0),
    SetRule.NO_SUPERVISED_TOKENS: (1, 0),
    SetRule.STOP_TOKEN_NOT_SUPERVISED: (1, 0),
    SetRule.PROMPT_NOT_PREFIX: (1, 0),
    SetRule.DOUBLE_BOS: (1, 0),
    SetRule.TOO_LONG: (1, 0),
}


def features(rule: SetRule, n_marked: int) -> Any:
    import pandas

    columns = {found.column: [0.0] * 100 for found in SET_RULES.values()}
    columns["is_usable"] = [1.0] * 100
    columns[SET_RULES[rule].column] = [1.0] * n_marked + [0.0] * (100 - n_marked)
    return pandas.DataFrame(columns)


def judge(
    rule: SetRule,
    n_marked: int,
    setting: RuleSetting | None = None,
    mode: GateMode = GateMode.ENFORCE,
) -> dict[str, RuleResult]:
    settings = set_rule_settings({rule: setting} if setting else {}, mode)
    return {result.id: result for result in check_set(features(rule, n_marked), settings, {})}


@pytest.mark.parametrize("rule", list(SetRule))
def test_rule_fails_beyond_its_limit_and_passes_at_it(rule: SetRule) -> None:
    beyond, at = CASES[rule]
    failed = judge(rule, beyond)
    assert {name for name, result in failed.items() if result.verdict is Verdict.FAILED} == {rule}
    assert failed[rule].fix
    assert {result.verdict for result in judge(rule, at).values()} == {Verdict.PASSED}


def test_every_rule_is_defined_and_blocks_by_default() -> None:
    assert set(SET_RULES) == set(SetRule) == set(CASES)
    assert {definition.severity for definition in SET_RULES.values()} == {Severity.BLOCK}
    assert all(found.meaning and found.fix and found.unit for found in SET_RULES.values())


def test_result_carries_the_figure_the_limit_and_places() -> None:
    rule = SetRule.DUPLICATE_FRACTION
    place = RuleExample(file="a.jsonl", line=3, detail="same as a.jsonl:1")
    settings = set_rule_settings({}, GateMode.ENFORCE)
    results = check_set(features(rule, 7), settings, {rule: (place,)})
    [result] = [result for result in results if result.id == rule]
    assert (result.n_rows, result.fraction, result.observed, result.limit) == (7, 0.07, 0.07, 0.05)
    assert result.examples == (place,)
    json.dumps(result.model_dump(mode="json"))


def test_rows_a_rule_does_not_apply_to_are_not_counted() -> None:
    frame = features(SetRule.TRAIN_EVAL_OVERLAP, 0)
    frame["is_overlapping"] = [None] * 90 + [1.0] * 2 + [0.0] * 8
    setting = {SetRule.TRAIN_EVAL_OVERLAP: RuleSetting(limit=0.2)}
    results = check_set(frame, set_rule_settings(setting, GateMode.ENFORCE), {})
    [result] = [result for result in results if result.id == SetRule.TRAIN_EVAL_OVERLAP]
    assert (result.verdict, result.observed) == (Verdict.PASSED, pytest.approx(0.2))


def test_configured_limit_and_severity_count() -> None:
    rule = SetRule.TOO_LONG
    assert judge(rule, 3, RuleSetting(limit=0.03))[rule].verdict is Verdict.PASSED
    assert judge(rule, 4, RuleSetting(limit=0.03))[rule].verdict is Verdict.FAILED
    assert judge(rule, 4, RuleSetting(severity=Severity.WARN))[rule].verdict is Verdict.WARNED
    assert judge(rule, 4, RuleSetting(severity=Severity.OFF))[rule].verdict is Verdict.SKIPPED


def test_naming_a_limit_keeps_a_set_rules_own_severity(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = SetRule.TOO_LONG
    mild = dataclasses.replace(SET_RULES[rule], severity=Severity.WARN)
    monkeypatch.setitem(SET_RULES, rule, mild)
    assert judge(rule, 4, RuleSetting(limit=0.03))[rule].verdict is Verdict.WARNED
    strict = RuleSetting(limit=0.03, severity=Severity.BLOCK)
    assert judge(rule, 4, strict)[rule].verdict is Verdict.FAILED


def test_gate_mode_loosens_every_rule() -> None:
    rule = SetRule.TOO_LONG
    assert judge(rule, 1, mode=GateMode.WARN)[rule].verdict is Verdict.WARNED
    off = judge(rule, 1, mode=GateMode.OFF)
    assert {result.verdict for result in off.values()} == {Verdict.SKIPPED}


def test_rules_without_their_column_or_with_an_empty_one_are_skipped() -> None:
    frame = features(SetRule.TOO_LONG, 0).drop(columns="is_too_long")
    frame["is_duplicate"] = [float("nan")] * 100
    results = check_set(frame, set_rule_settings({}, GateMode.ENFORCE), {})
    skipped = {result.id for result in results if result.verdict is Verdict.SKIPPED}
    assert skipped == {SetRule.TOO_LONG, SetRule.DUPLICATE_FRACTION}


def test_suite_names_each_expectation_by_its_rule() -> None:
    settings = set_rule_settings({}, GateMode.ENFORCE)
    suite = build_suite(settings, [found.column for found in SET_RULES.values()])
    assert [expectation.meta["id"] for expectation in suite.expectations] == list(SetRule)


def test_missing_answer_is_never_taken_for_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas.quality, "_validate", lambda *_: {})
    with pytest.raises(SftFlowError, match="no answer for rule min_rows"):
        judge(SetRule.TOO_LONG, 0)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    judge(SetRule.TOO_LONG, 0)
    assert capfd.readouterr() == ("", "")

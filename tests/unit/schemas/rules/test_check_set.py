from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy
import pytest

import schemas.rules.check_set
from schemas.errors import ConfigError, SftFlowError
from schemas.rule_ids import (
    DataGateMode,
    RuleExample,
    RuleResult,
    RuleSetting,
    SetRule,
    Severity,
    Verdict,
)
from schemas.rules.check_set import SetContext, build_expectation, check_set, check_share
from schemas.rules.profile import DataProfile
from schemas.rules.set_rules import DEFAULT_LENGTH_QUANTILES, SET_RULES, set_rule_settings

# For each rule on marked rows: how many of 100 are just beyond the default limit, and just at it.
COUNTED = {
    SetRule.BAD_ROW_FRACTION: (6, 5),
    SetRule.DUPLICATE_FRACTION: (6, 5),
    SetRule.NEAR_DUPLICATE_FRACTION: (6, 5),
    SetRule.CONTRADICTORY_FRACTION: (6, 5),
    SetRule.BOILERPLATE_FRACTION: (6, 5),
    SetRule.TRAIN_EVAL_OVERLAP: (1, 0),
    SetRule.BENCHMARK_OVERLAP: (1, 0),
    SetRule.LANGUAGE_FRACTION: (6, 5),
    SetRule.NO_SUPERVISED_TOKENS: (1, 0),
    SetRule.CONTENT_NOT_RENDERED: (1, 0),
    SetRule.FIELD_NOT_RENDERED: (1, 0),
    SetRule.TURN_NOT_TRAINED: (1, 0),
    SetRule.TRUNCATED_COMPLETION: (1, 0),
    SetRule.STOP_TOKEN_NOT_SUPERVISED: (1, 0),
    SetRule.PROMPT_NOT_PREFIX: (1, 0),
    SetRule.DOUBLE_BOS: (1, 0),
    SetRule.TOO_LONG: (1, 0),
}


def marked(n_marked: int, n_rows: int = 100) -> Any:
    return numpy.arange(n_rows) < n_marked


def columns(**changed: Any) -> dict[str, Any]:
    """A hundred rows that break no rule, save for the columns named."""
    found: dict[str, Any] = {SET_RULES[rule].column: marked(0) for rule in COUNTED}
    found["is_usable"] = marked(100)
    found["is_cut"] = marked(0)
    found["n_characters"] = numpy.full(100, 400, dtype="uint32")
    found["assistant_share"] = numpy.full(100, 0.5, dtype="float32")
    return {**found, **changed}


PROFILE = DataProfile(n_rows=100, answer_characters=(0, 0, 50, 50))


def judge(
    found: dict[str, Any],
    rules: dict[SetRule, RuleSetting] | None = None,
    mode: DataGateMode = DataGateMode.ENFORCE,
    reference: DataProfile | None = PROFILE,
    context: SetContext | None = None,
) -> dict[str, RuleResult]:
    settings = set_rule_settings(rules or {}, mode)
    context = context or SetContext(profile=PROFILE)
    results = check_set(found, settings, {}, reference, context)
    return {result.id: result for result in results}


def failed(results: dict[str, RuleResult]) -> set[str]:
    assert set(results) == set(SetRule)
    return {name for name, result in results.items() if result.verdict is Verdict.FAILED}


def test_every_rule_that_is_not_counted_has_a_test_of_its_own() -> None:
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    assert all(f"test_{rule}_" in tests for rule in set(SetRule) - set(COUNTED))


@pytest.mark.parametrize("rule", list(COUNTED))
def test_counted_rule_fails_beyond_its_limit_and_passes_at_it(rule: SetRule) -> None:
    beyond, at = COUNTED[rule]
    results = judge(columns(**{SET_RULES[rule].column: marked(beyond)}))
    verdict = Verdict.FAILED if SET_RULES[rule].severity is Severity.BLOCK else Verdict.WARNED
    broken = {name: found.verdict for name, found in results.items() if found.verdict != "passed"}
    assert broken == {rule: verdict}
    assert (results[rule].n_rows, results[rule].fraction) == (beyond, beyond / 100)
    assert results[rule].fix == SET_RULES[rule].fix
    results = judge(columns(**{SET_RULES[rule].column: marked(at)}))
    assert {result.verdict for result in results.values()} == {Verdict.PASSED}


def test_cut_text_fraction_warns_of_a_single_row() -> None:
    results = judge(columns(is_cut=marked(1)))
    assert failed(results) == set()
    assert results[SetRule.CUT_TEXT_FRACTION].verdict is Verdict.WARNED
    assert results[SetRule.CUT_TEXT_FRACTION].n_rows == 1


def test_min_rows_counts_usable_rows() -> None:
    results = judge(columns(is_usable=marked(9)))
    assert failed(results) == {SetRule.MIN_ROWS}
    result = results[SetRule.MIN_ROWS]
    assert (result.observed, result.limit, result.n_rows, result.fraction) == (9, 10, 0, 0)
    assert failed(judge(columns(is_usable=marked(10)))) == set()


def test_role_mix_wants_a_share_of_assistant_messages() -> None:
    # 19 rows of 100 with one answer in two messages: a mean of 0.095; 20 make 0.1.
    half: Any = numpy.full(100, 0.5, dtype="float32")
    results = judge(columns(assistant_share=half * marked(19)))
    assert failed(results) == {SetRule.ROLE_MIX}
    assert results[SetRule.ROLE_MIX].observed == pytest.approx(0.095, abs=1e-6)
    assert (results[SetRule.ROLE_MIX].n_rows, results[SetRule.ROLE_MIX].fraction) == (0, 0)
    assert failed(judge(columns(assistant_share=half * marked(20)))) == set()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_role_mix_passes_at_a_limit_single_precision_cannot_hold(share: float) -> None:
    found = columns(assistant_share=numpy.full(100_000, share, dtype="float32"))
    rules = {SetRule.ROLE_MIX: RuleSetting(limit=share)}
    assert failed(judge(found, rules)) == set()


def test_length_quantiles_fails_below_its_range_and_passes_at_its_edge() -> None:
    short: Any = numpy.full(100, 7, dtype="uint32")
    results = judge(columns(n_characters=short))
    assert failed(results) == {SetRule.LENGTH_QUANTILES}
    result = results[SetRule.LENGTH_QUANTILES]
    assert (result.observed, result.limit, result.n_rows, result.fraction) == (7, 8, 0, 0)
    allowed = "at least 8 and at most 100,000 allowed"
    assert result.detail == f"quantile 0.5 is 7 characters; {allowed}"
    assert failed(judge(columns(n_characters=short + 1))) == set()
    long: Any = numpy.full(100, 100_011, dtype="uint32")
    assert failed(judge(columns(n_characters=long))) == {SetRule.LENGTH_QUANTILES}
    assert failed(judge(columns(n_characters=long - 11))) == set()


def test_length_quantiles_names_the_quantile_furthest_out() -> None:
    # Lengths 1 to 100: the nearest-rank quantiles are 10, 50 or 51, and 90.
    found = columns(n_characters=numpy.arange(1, 101, dtype="uint32"))
    context = SetContext({0.9: (None, 30), 0.1: (None, None), 0.5: (60, None)}, PROFILE)
    result = judge(found, context=context)[SetRule.LENGTH_QUANTILES]
    assert (result.verdict, result.observed, result.limit) == (Verdict.FAILED, 90, 30)
    assert result.detail == "quantile 0.9 is 90 characters; at most 30 allowed"


def test_length_quantiles_without_any_bound_is_skipped() -> None:
    for ranges in ({}, {0.5: (None, None)}):
        result = judge(columns(), context=SetContext(ranges))[SetRule.LENGTH_QUANTILES]
        assert result.verdict is Verdict.SKIPPED


def test_length_quantiles_refuses_a_range_that_is_upside_down() -> None:
    with pytest.raises(ConfigError, match="range that is not allowed"):
        SetContext({0.5: (9, 8)})


def test_length_quantiles_of_empty_rows_have_a_figure() -> None:
    found = columns(n_characters=numpy.zeros(100, dtype="uint32"))
    assert judge(found)[SetRule.LENGTH_QUANTILES].observed == 0
    context = SetContext({0.5: (0, 0)}, PROFILE)
    assert failed(judge(found, context=context)) == set()


def test_shrunk_fraction_compares_with_the_rows_of_the_champion() -> None:
    # Of 100 rows 79 are left, a loss of 0.21; 80 make 0.2.
    for n_rows, expected in ((79, {SetRule.SHRUNK_FRACTION}), (80, set()), (300, set())):
        context = SetContext(profile=PROFILE.model_copy(update={"n_rows": n_rows}))
        results = judge(columns(), context=context)
        assert failed(results) == expected
        result = results[SetRule.SHRUNK_FRACTION]
        assert result.observed == max(0, 100 - n_rows) / 100
        assert result.detail == f"{n_rows} rows; the champion's set had 100"


def test_shrunk_fraction_counts_usable_rows_where_there_is_no_profile() -> None:
    found = columns(is_usable=marked(70))
    results = judge(found, context=SetContext())
    assert results[SetRule.SHRUNK_FRACTION].observed == 0.3
    assert results[SetRule.DRIFT].verdict is Verdict.SKIPPED


def test_drift_fails_where_answers_became_longer_and_passes_where_they_did_not() -> None:
    reference = DataProfile(n_rows=2000, answer_characters=(0, 0, 1000, 1000))
    # 0.5 and 0.5 became 0.25 and 0.75: 0.25 ln 1.5 + 0.25 ln 2 = 0.2747, less 0.001 of noise.
    moved = DataProfile(n_rows=2000, answer_characters=(0, 0, 500, 1500))
    results = judge(columns(), reference=reference, context=SetContext(profile=moved))
    assert failed(results) == {SetRule.DRIFT}
    assert results[SetRule.DRIFT].observed == pytest.approx(0.2737, abs=5e-4)
    assert results[SetRule.DRIFT].detail == "answer_characters differs most"
    # 0.27 and 0.73: 0.23 (ln 1.46 + ln 1 / 0.54) = 0.2288.
    less = DataProfile(n_rows=2000, answer_characters=(0, 0, 540, 1460))
    results = judge(columns(), reference=reference, context=SetContext(profile=less))
    assert failed(results) == set()
    assert results[SetRule.DRIFT].observed == pytest.approx(0.2278, abs=5e-4)


def test_rules_on_the_champion_are_skipped_without_its_profile() -> None:
    results = judge(columns(), reference=None)
    skipped = {name for name, result in results.items() if result.verdict is Verdict.SKIPPED}
    assert skipped == {SetRule.SHRUNK_FRACTION, SetRule.DRIFT}
    assert judge(columns(), reference=DataProfile(n_rows=0))[SetRule.SHRUNK_FRACTION].verdict is (
        Verdict.SKIPPED
    )


def test_result_carries_the_figure_the_limit_and_places() -> None:
    rule = SetRule.DUPLICATE_FRACTION
    place = RuleExample(file="a.jsonl", line=3, detail="same as a.jsonl:1")
    settings = set_rule_settings({}, DataGateMode.ENFORCE)
    results = check_set(columns(is_duplicate=marked(7)), settings, {rule: (place,)})
    [result] = [result for result in results if result.id == rule]
    assert (result.n_rows, result.fraction, result.observed, result.limit) == (7, 0.07, 0.07, 0.05)
    assert result.examples == (place,)
    json.dumps([found.model_dump(mode="json") for found in results])


def test_columns_of_different_lengths_stand_side_by_side() -> None:
    # Two of ten evaluation rows overlap; the other rules look at a hundred.
    found = columns(is_overlapping=marked(2, n_rows=10))
    result = judge(found)[SetRule.TRAIN_EVAL_OVERLAP]
    assert (result.observed, result.fraction, result.n_rows) == (0.2, 0.2, 2)


@pytest.mark.parametrize("kind", ["bool", "int32", "uint32", "float32"])
def test_marks_of_every_narrow_type_count_exactly(kind: str) -> None:
    results = judge(columns(is_duplicate=marked(5).astype(kind)))
    assert failed(results) == set()
    assert results[SetRule.DUPLICATE_FRACTION].observed == 0.05


def test_configured_limit_and_severity_count() -> None:
    def verdict(n_marked: int, setting: RuleSetting) -> Verdict:
        found = columns(is_too_long=marked(n_marked))
        return judge(found, {SetRule.TOO_LONG: setting})[SetRule.TOO_LONG].verdict

    assert verdict(3, RuleSetting(limit=0.03)) is Verdict.PASSED
    assert verdict(4, RuleSetting(limit=0.03)) is Verdict.FAILED
    assert verdict(4, RuleSetting(severity=Severity.WARN)) is Verdict.WARNED
    assert verdict(4, RuleSetting(severity=Severity.OFF)) is Verdict.SKIPPED


def test_gate_mode_loosens_every_rule() -> None:
    found = columns(is_too_long=marked(1))
    assert judge(found, mode=DataGateMode.WARN)[SetRule.TOO_LONG].verdict is Verdict.WARNED
    off = judge(found, mode=DataGateMode.OFF)
    assert {result.verdict for result in off.values()} == {Verdict.SKIPPED}


def test_rules_without_their_column_or_with_an_empty_one_are_skipped() -> None:
    found = columns(is_duplicate=marked(0, n_rows=0), n_characters=numpy.array([], dtype="uint32"))
    del found["is_too_long"]
    place = RuleExample(file="a.jsonl", line=3, detail="long")
    settings = set_rule_settings({}, DataGateMode.ENFORCE)
    results = check_set(found, settings, {SetRule.TOO_LONG: (place,)}, PROFILE)
    skipped = {result.id for result in results if result.verdict is Verdict.SKIPPED}
    without_profile = {SetRule.DRIFT}
    assert skipped == without_profile | {
        SetRule.TOO_LONG,
        SetRule.DUPLICATE_FRACTION,
        SetRule.LENGTH_QUANTILES,
    }
    assert all(not result.examples for result in results)
    assert {result.fraction for result in results if result.id in skipped} == {0.0}


@pytest.mark.parametrize("n_marked", [0, 5, 6])
@pytest.mark.parametrize("severity", [None, Severity.OFF])
def test_share_alone_is_judged_as_among_all_rules(n_marked: int, severity: Severity | None) -> None:
    rule, place = SetRule.BAD_ROW_FRACTION, RuleExample(file="a.jsonl", line=3, detail="bad")
    settings = set_rule_settings({rule: RuleSetting(severity=severity)}, DataGateMode.ENFORCE)
    marks = marked(n_marked)
    results = check_set(columns(is_bad=marks), settings, {rule: (place,)}, PROFILE)
    [expected] = [found for found in results if found.id == rule]
    assert check_share(rule, settings[rule], marks, (place,)) == expected
    empty = check_share(rule, settings[rule], marked(0, n_rows=0), ())
    assert empty.verdict is Verdict.SKIPPED


def test_set_of_one_row_is_measured() -> None:
    one = {name: column[:1] for name, column in columns().items()}
    assert failed(judge(one)) == {SetRule.MIN_ROWS}


@pytest.mark.parametrize("rule", list(SetRule))
def test_expectation_names_its_rule(rule: SetRule) -> None:
    expectation = build_expectation(rule, SET_RULES[rule].limit, DEFAULT_LENGTH_QUANTILES)
    assert expectation.meta["id"] == rule


def test_missing_answer_is_never_taken_for_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas.rules.check_set, "_validate", lambda *_: {})
    with pytest.raises(SftFlowError, match="no result for rule min_rows"):
        judge(columns())


def test_figure_that_is_no_number_is_no_answer() -> None:
    found = columns(assistant_share=numpy.full(100, math.nan, dtype="float32"))
    with pytest.raises(SftFlowError, match="no result for rule role_mix"):
        judge(found)


def test_python_without_docstrings_is_refused_in_plain_words() -> None:
    """great-expectations reads its own."""
    program = "from schemas.rules.check_set import require_docstrings as check; check()"
    for level, code in (("1", 0), ("2", 1)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONOPTIMIZE": level},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
    assert "unset PYTHONOPTIMIZE" in done.stderr


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    judge(columns())
    assert capfd.readouterr() == ("", "")

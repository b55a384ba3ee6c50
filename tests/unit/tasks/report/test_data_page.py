from __future__ import annotations

from typing import Any

import pytest

from schemas.rule_ids import RowRule, RuleExample, RuleResult, SetRule, Severity, Verdict
from tasks.dataset.check_file import CheckReport, CheckVerdict
from tasks.report.data_page import rule_line, skip_reason, verdict_reasons

pytestmark = pytest.mark.unit


def broken(rule: str, **changes: Any) -> RuleResult:
    values: dict[str, Any] = {
        "id": rule, "severity": Severity.BLOCK, "verdict": Verdict.FAILED, "n_rows": 3,
        "fraction": 0.3, "observed": 0.3, "fix": "mend it",
        "examples": (RuleExample(file="a.jsonl", line=7, detail="seen"),),
    }  # fmt: skip
    return RuleResult(**{**values, **changes})


def skipped(rule: SetRule, severity: Severity = Severity.BLOCK) -> RuleResult:
    return RuleResult(
        id=rule, severity=severity, verdict=Verdict.SKIPPED, n_rows=0, fraction=0, limit=0
    )


def toy_report(*rules: RuleResult, **changes: Any) -> CheckReport:
    values: dict[str, Any] = {
        "source": "a.jsonl", "verdict": CheckVerdict.REJECTED, "n_rows": 10, "n_kept_rows": 7,
        "n_quarantined_rows": 3, "formats": {"messages": 10}, "conversions": {}, "rules": rules,
    }  # fmt: skip
    return CheckReport(**{**values, **changes})


def test_reasons_name_what_led_to_the_rejection() -> None:
    report = toy_report(
        broken(RowRule.CONTENT_EMPTY),
        broken(RowRule.UNKNOWN_ROLE, limit=0.25),
        broken(SetRule.BAD_ROW_FRACTION, limit=0.05),
        broken(SetRule.DUPLICATE_FRACTION, verdict=Verdict.WARNED),
    )
    assert verdict_reasons(report) == [
        "unknown_role: 3 of 10 rows break it (30 %, allowed at most 25 % of all rows).",
        "bad_row_fraction: Too many rows broke a row rule and were set aside "
        "(found 30 %, allowed at most 5 % of all rows).",
    ]
    empty = toy_report(n_kept_rows=0, n_quarantined_rows=10)
    assert verdict_reasons(empty) == ["None of the 10 rows can be used."]


def test_reasons_of_an_acceptance_count_warnings() -> None:
    warned = broken(RowRule.SECRET_OR_PII, severity=Severity.WARN, verdict=Verdict.WARNED)
    good = "Nothing that was looked at speaks against training on the rows kept"
    accepted = {"verdict": CheckVerdict.ACCEPTED}
    assert verdict_reasons(toy_report(**accepted)) == [f"{good}."]
    assert verdict_reasons(toy_report(warned, **accepted)) == [f"{good}; 1 rule warned."]


@pytest.mark.parametrize(
    ("result", "figure", "limit", "rows"),
    [
        (broken(RowRule.CONTENT_EMPTY), "30 %", "", "3"),
        (broken(SetRule.MIN_ROWS, observed=8.0, limit=10), "8", "at least 10 rows", ""),
        (broken(SetRule.TOO_LONG, limit=0), "30 %", "at most 0 % of tokenised rows", "3"),
        (broken(SetRule.SHRUNK_FRACTION, limit=0.2), "30 %", "at most 20 % of the champion's rows", ""),
        (broken(SetRule.DRIFT, limit=0.25), "0.3", "at most 0.25 population stability index", ""),
        (broken(SetRule.LENGTH_QUANTILES, observed=4.0, limit=8), "4", "", ""),
    ],
)  # fmt: skip
def test_rule_line_gives_figure_and_limit_in_the_unit_of_the_rule(
    result: RuleResult, figure: str, limit: str, rows: str
) -> None:
    line = rule_line(result)
    assert (line.figure, line.limit, line.rows) == (figure, limit, rows)


def test_skip_reason_tells_off_from_nothing_to_look_at() -> None:
    assert skip_reason(skipped(SetRule.DRIFT, Severity.OFF)) == "switched off"
    assert "--tokens" in skip_reason(skipped(SetRule.TOO_LONG))
    assert "quality.languages" in skip_reason(skipped(SetRule.LANGUAGE_FRACTION))
    assert skip_reason(skipped(SetRule.MIN_ROWS)) == "there was no row to look at"

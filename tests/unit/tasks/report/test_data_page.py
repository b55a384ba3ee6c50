from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import DataSource, RunConfig
from schemas.rule_ids import RowRule, RuleExample, RuleResult, SetRule, Severity, Verdict
from schemas.rules.profile import DataProfile
from tasks.dataset.check_file import CheckOptions, CheckReport, CheckVerdict, Scope, check_file
from tasks.report.data_page import (
    render_data_page,
    rule_line,
    skip_reason,
    verdict_reasons,
    write_data_page,
)
from tests.support.toy import toy_rows, write_jsonl

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=y>\u202e\x00"


def broken(rule: str, **changes: Any) -> RuleResult:
    values: dict[str, Any] = {
        "id": rule, "severity": Severity.BLOCK, "verdict": Verdict.FAILED, "n_rows": 3,
        "fraction": 0.3, "observed": 0.3, "fix": "correct it",
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
        "n_quarantined_rows": 3, "formats": {"messages": 10}, "conversions": {}, "unused_fields": {}, "rules": rules,
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
        "bad_row_fraction: Too many rows broke a row rule and were moved to quarantine.jsonl "
        "(found 30 %, allowed at most 5 % of all rows).",
    ]
    empty = toy_report(n_kept_rows=0, n_quarantined_rows=10)
    assert verdict_reasons(empty) == ["None of the 10 rows can be used."]


def test_reasons_of_an_acceptance_count_warnings() -> None:
    warned = broken(RowRule.SECRET_OR_PII, severity=Severity.WARN, verdict=Verdict.WARNED)
    good = "No rule rejects training on the rows kept"
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
        (broken(SetRule.DRIFT, limit=0.25), "0.300", "at most 0.250 population stability index", ""),
        (broken(SetRule.LENGTH_QUANTILES, observed=4.0, limit=8), "4", "", ""),
    ],
)  # fmt: skip
def test_rule_line_gives_figure_and_limit_in_the_unit_of_the_rule(
    result: RuleResult, figure: str, limit: str, rows: str
) -> None:
    line = rule_line(result)
    assert (line.found, line.limit, line.rows) == (figure, limit, rows)


def test_skip_reason_tells_off_from_nothing_to_look_at() -> None:
    assert skip_reason(skipped(SetRule.DRIFT, Severity.OFF)) == "switched off"
    assert "--tokens" in skip_reason(skipped(SetRule.TOO_LONG))
    assert "quality.languages" in skip_reason(skipped(SetRule.LANGUAGE_FRACTION))
    assert skip_reason(skipped(SetRule.MIN_ROWS)) == "there was no row to check"


class Tags(HTMLParser):
    """Collects tags, and complains of those that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses.update(value or "" for name, value in attrs if name in ("src", "href"))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_report_of_a_real_check_is_written_whole(tmp_path: Path) -> None:
    rows: list[Any] = [*toy_rows(12), {"messages": [{"role": "user", "content": "a"}]}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report = check_file(DataSource(source=str(path)), RunConfig())
    page = write_data_page(report, tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    written = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert CheckReport.model_validate(written) == report
    assert (tmp_path / "out" / "profile.json").is_file()
    text = page.read_text("utf-8")
    assert "Data <span" in text
    assert "rejected" in text
    assert "a.jsonl</bdi>:13" in text
    assert "no assistant turn" in text
    assert "Fix:</strong> add the answer or drop these rows." in text
    assert "Characters of the prompt" in text
    assert "quality.benchmarks has no file" in text
    tags_of(text)


def test_page_without_a_set_says_so(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(2))
    options = CheckOptions(Scope.ROWS)
    report = check_file(DataSource(source=str(path)), RunConfig(), options)
    write_data_page(report, tmp_path / "out")
    assert "Only the row rules were checked." in (tmp_path / "out/report.html").read_text("utf-8")
    assert not (tmp_path / "out" / "profile.json").exists()


def test_page_is_safe_whatever_the_data_holds() -> None:
    example = RuleExample(file=HOSTILE, line=1, detail=HOSTILE * 1000)
    report = toy_report(
        broken(RowRule.UNKNOWN_ROLE, examples=(example,) * 5),
        broken(SetRule.DRIFT, examples=(example,) * 5, detail=HOSTILE),
        source=HOSTILE,
        formats={HOSTILE: 1},
        conversions={HOSTILE: 1},
        profile=DataProfile(n_rows=1, roles={HOSTILE: 1}, languages={HOSTILE: 1}),
        tokens={HOSTILE: HOSTILE, "rendered_rows": [[[HOSTILE, True], ["a\n", False]]]},
    )
    page = render_data_page(report)
    assert {"script", "img", "link"}.isdisjoint(tags_of(page).names)
    assert {address[0] for address in tags_of(page).addresses} == {"#"}
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "url(" not in page
    assert len(page.encode()) < 200_000
    assert '<span class="trained">&lt;script&gt;' in page
    assert "<span>a↵\n</span>" in page


def test_page_with_every_rule_and_long_rows_stays_small() -> None:
    examples = tuple(RuleExample(file="f" * 999, line=n, detail="\x00" * 9999) for n in range(5))
    rules = [broken(rule, examples=examples) for rule in (*RowRule, *SetRule)]
    rows = [[["\x00" * 100_000, True]], [["<", False]] * 99_999, [["&" * 60, True]] * 9_999]
    page = render_data_page(toy_report(*rules, tokens={"rendered_rows": rows}))
    assert len(page.encode()) < 2_000_000
    assert page.count("the rest of the row is not shown") == 3

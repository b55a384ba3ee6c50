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
from tasks.report.data_page import render_gate_page, write_gate_report
from tests.toy import toy_rows, write_jsonl

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=y>\u202e\x00"


def broken(rule: str, **changes: Any) -> RuleResult:
    values: dict[str, Any] = {
        "id": rule, "severity": Severity.BLOCK, "verdict": Verdict.FAILED, "n_rows": 3,
        "fraction": 0.3, "observed": 0.3, "fix": "mend it",
        "examples": (RuleExample(file="a.jsonl", line=7, detail="seen"),),
    }  # fmt: skip
    return RuleResult(**{**values, **changes})


def toy_report(*rules: RuleResult, **changes: Any) -> CheckReport:
    values: dict[str, Any] = {
        "source": "a.jsonl", "verdict": CheckVerdict.REJECTED, "n_rows": 10, "n_kept_rows": 7,
        "n_quarantined_rows": 3, "formats": {"messages": 10}, "conversions": {}, "rules": rules,
    }  # fmt: skip
    return CheckReport(**{**values, **changes})


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
    page = write_gate_report(report, tmp_path / "out")
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
    assert "quality.benchmarks names no file" in text
    tags_of(text)


def test_page_without_a_set_says_so(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(2))
    options = CheckOptions(Scope.ROWS)
    report = check_file(DataSource(source=str(path)), RunConfig(), options)
    write_gate_report(report, tmp_path / "out")
    assert "Only the row rules were looked at." in (tmp_path / "out/report.html").read_text("utf-8")
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
    page = render_gate_page(report)
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
    page = render_gate_page(toy_report(*rules, tokens={"rendered_rows": rows}))
    assert len(page.encode()) < 2_000_000
    assert page.count("the rest of the row is not shown") == 3

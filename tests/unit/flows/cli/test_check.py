from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.cli.check import show_check
from schemas.rule_ids import RuleExample, RuleResult, Severity, Verdict


def test_show_check_prints_rules_places_and_fixes(capsys: pytest.CaptureFixture[str]) -> None:
    rule = RuleResult(
        id="content_empty",
        severity=Severity.BLOCK,
        verdict=Verdict.FAILED,
        n_rows=2,
        fraction=0.5,
        examples=(RuleExample(file="a.jsonl", line=3, detail="turn 1"),),
        fix="drop it",
    )
    report = SimpleNamespace(
        verdict="rejected",
        n_rows=4,
        n_kept_rows=2,
        n_quarantined_rows=2,
        formats={"messages": 4},
        conversions={"text_parts_joined": 1},
        unused_fields={f"column_{place}": 1000 - place for place in range(22)},
        rules=(rule,),
    )
    show_check(report, Path("out/report.html"), Path("kept.jsonl"))
    text = capsys.readouterr().out
    assert "Data REJECTED: 4 rows, formats: 4 messages" in text
    assert "Kept 2, quarantined 2." in text
    assert "text parts joined: 1" in text
    assert "Rows with fields that are not used: column_0 1,000, column_1 999, " in text
    assert "column_19 981 and 2 more\n" in text
    assert "a.jsonl:3 turn 1" in text
    assert "Report: out/report.html" in text
    assert "Kept rows: kept.jsonl" in text

from __future__ import annotations

from schemas.rows.row import SourceRow
from schemas.rule_ids import RowRule, Violation
from schemas.rules.check_rows import CheckedRow
from tasks.rows.quarantine import MAX_DETAIL, quarantined, reason, safe_detail

KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2


def test_secret_in_a_quoted_detail_is_hidden() -> None:
    assert safe_detail(Violation(RowRule.UNKNOWN_FORMAT, f"columns: {KEY}")) == (
        "(hidden: GitHub token)"
    )
    assert safe_detail(Violation(RowRule.UNKNOWN_ROLE, "critic in message 1")) == (
        "critic in message 1"
    )


def test_detail_is_cut() -> None:
    found = safe_detail(Violation(RowRule.UNKNOWN_ROLE, "x" * 1000))
    assert found == "x" * MAX_DETAIL


def test_quarantined_row_says_where_and_why() -> None:
    row = CheckedRow(
        SourceRow("a.jsonl", 7, {"x": 1}), None, None, (Violation(RowRule.UNKNOWN_FORMAT, KEY),)
    )
    assert quarantined(row) == {
        "file": "a.jsonl",
        "line": 7,
        "rules": ["unknown_format"],
        "reason": "unknown_format: (hidden: GitHub token)",
        "row": {"x": 1},
    }


def test_reason_and_line_of_a_row_name_every_rule() -> None:
    violations = (
        Violation(RowRule.CONTENT_EMPTY, "message 1"),
        Violation(RowRule.NO_ASSISTANT_TURN, "no assistant turn"),
    )
    row = CheckedRow(SourceRow("b.csv", 3, {"a": "å"}), None, None, violations)
    assert reason(row) == "content_empty: message 1; no_assistant_turn: no assistant turn"
    assert quarantined(row) == {
        "file": "b.csv",
        "line": 3,
        "rules": ["content_empty", "no_assistant_turn"],
        "reason": reason(row),
        "row": {"a": "å"},
    }

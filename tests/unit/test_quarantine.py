from __future__ import annotations

from schemas.conversation import CheckedRow
from schemas.rows import SourceRow
from schemas.rules import RowRule, Violation
from tasks._quarantine import MAX_DETAIL, quarantined, safe_detail

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

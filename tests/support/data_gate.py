"""Rows and a call for the tests of the data gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.config.run import DataSource, RunConfig
from schemas.rule_ids import RuleResult
from tasks.dataset.check_file import CheckReport, check_file
from tests.support.toy import ordinary_rows, write_jsonl

BAD = {"prompt": "How tall is the wall?", "completion": " "}
ROWS = ordinary_rows(40)


def check(folder: Path, rows: list[Any], config: RunConfig | None = None) -> CheckReport:
    """Write rows and put them through the gate.

    Args:
        folder: Gets the file.
        rows: One object each.
        config: The demo's by default.

    Returns:
        The report.
    """
    path = write_jsonl(folder / "a.jsonl", rows)
    return check_file(DataSource(source=str(path)), config or RunConfig())


def by_id(report: CheckReport) -> dict[str, RuleResult]:
    """Find the results of a report by rule.

    Args:
        report: What `check` gave.

    Returns:
        One result a rule.
    """
    return {result.id: result for result in report.rules}

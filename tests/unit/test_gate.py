from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DataSourceError
from schemas.rules import RowRule, RuleSetting, SetRule, Verdict
from schemas.run_config import DataConfig, DataSource, QualityConfig, RunConfig
from tasks._gate import CheckReport, CheckVerdict, check_file
from tests.toy import toy_rows, write_jsonl

BAD = {"messages": [{"role": "user", "content": "a"}]}


def check(folder: Path, rows: list[Any], config: RunConfig | None = None) -> CheckReport:
    path = write_jsonl(folder / "a.jsonl", rows)
    return check_file(DataSource(source=str(path)), config or RunConfig())


def test_good_file_is_accepted(tmp_path: Path) -> None:
    report = check(tmp_path, toy_rows(12))
    assert report.verdict is CheckVerdict.ACCEPTED
    assert (report.n_rows, report.n_kept_rows, report.n_quarantined_rows) == (12, 12, 0)
    assert report.formats == {"prompt_completion": 12}
    verdicts = {result.id: result.verdict for result in report.rules}
    assert verdicts[SetRule.MIN_ROWS] is Verdict.PASSED
    assert verdicts[SetRule.TOO_LONG] is Verdict.SKIPPED
    json.loads(report.model_dump_json())


def test_file_with_too_many_bad_rows_is_rejected_with_places(tmp_path: Path) -> None:
    report = check(tmp_path, [*toy_rows(18), BAD, BAD])
    assert report.verdict is CheckVerdict.REJECTED
    by_id = {result.id: result for result in report.rules}
    assert by_id[RowRule.NO_ASSISTANT_TURN].n_rows == 2
    failed = by_id[SetRule.BAD_ROW_FRACTION]
    assert (failed.verdict, failed.observed) == (Verdict.FAILED, 0.1)
    assert [example.line for example in failed.examples] == [19, 20]


def test_file_without_a_usable_row_is_rejected(tmp_path: Path) -> None:
    report = check(tmp_path, [BAD])
    assert (report.verdict, report.n_kept_rows) == (CheckVerdict.REJECTED, 0)


def test_duplicates_and_row_limits_reject(tmp_path: Path) -> None:
    assert check(tmp_path, toy_rows(1) * 12).verdict is CheckVerdict.REJECTED
    rules = {RowRule.NO_ASSISTANT_TURN: RuleSetting(limit=0.01)}
    config = RunConfig(data=DataConfig(rules=rules))
    assert check(tmp_path, [*toy_rows(30), BAD]).verdict is CheckVerdict.ACCEPTED
    assert check(tmp_path, [*toy_rows(30), BAD], config).verdict is CheckVerdict.REJECTED


def test_limits_of_the_configuration_count(tmp_path: Path) -> None:
    assert check(tmp_path, toy_rows(4)).verdict is CheckVerdict.REJECTED
    quality = QualityConfig(rules={SetRule.MIN_ROWS: RuleSetting(limit=4)})
    config = RunConfig(quality=quality)
    assert check(tmp_path, toy_rows(4), config).verdict is CheckVerdict.ACCEPTED


def test_name_alone_is_read_with_the_configured_columns(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": row["prompt"], "answer": row["completion"]} for row in toy_rows(12)
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    source = DataSource(columns={"prompt": "question", "completion": "answer"})
    config = RunConfig(data=DataConfig(source=source))
    assert check_file(str(path), config).verdict is CheckVerdict.ACCEPTED


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(DataSourceError):
        check_file(str(tmp_path / "absent.jsonl"), RunConfig())


def test_check_needs_neither_torch_nor_prefect(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(12))
    code = (
        "import sys; from schemas.run_config import RunConfig; from tasks._gate import check_file; "
        f"check_file({str(path)!r}, RunConfig()); "
        "print([n for n in ('torch', 'prefect', 'transformers', 'mlflow') if n in sys.modules])"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

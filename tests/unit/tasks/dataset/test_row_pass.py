from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import DataSource, QualityConfig
from schemas.errors import DataSourceError
from schemas.rule_ids import DataGateMode, RuleSetting, SetRule, Severity
from schemas.rules.row_rules import row_severities
from schemas.rules.set_rules import set_rule_settings
from tasks.dataset.row_pass import SetPass, plan_features, read_benchmarks, start_pass, watch_source
from tasks.rows.check import CheckRequest
from tasks.rows.features import FeatureRequest
from tasks.rows.tally import RowTally
from tests.support.toy import ordinary_rows, write_jsonl

REQUEST = CheckRequest(row_severities({}))
PASSAGE = "the quick mason carried seven heavy copper pipes over the muddy field towards the tower"


def plan(mode: DataGateMode = DataGateMode.ENFORCE, **fields: Any) -> FeatureRequest:
    quality = QualityConfig(mode=mode, **fields)
    return plan_features(quality, set_rule_settings(quality.rules, quality.mode))


def test_near_duplicates_are_looked_for_unless_their_rule_is_off() -> None:
    assert plan() == FeatureRequest(similarity=0.8)
    assert plan(near_duplicate_similarity=0.9).similarity == 0.9
    off = {SetRule.NEAR_DUPLICATE_FRACTION: RuleSetting(severity=Severity.OFF)}
    assert plan(rules=off).similarity is None
    assert plan(DataGateMode.WARN).similarity == 0.8
    assert plan(DataGateMode.OFF).similarity is None


def test_rows_are_sampled_where_languages_are_named() -> None:
    assert plan(languages=("en",)).has_sample
    off = {SetRule.LANGUAGE_FRACTION: RuleSetting(severity=Severity.OFF)}
    assert not plan(languages=("en",), rules=off).has_sample


def test_benchmarks_are_read_where_their_rule_is_on(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "bench.jsonl", [{"question": PASSAGE}])
    assert plan(benchmarks=(str(path),)).benchmark is not None
    off = {SetRule.BENCHMARK_OVERLAP: RuleSetting(severity=Severity.OFF)}
    assert plan(benchmarks=("absent.jsonl",), rules=off).benchmark is None


def test_missing_benchmark_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataSourceError) as caught:
        read_benchmarks([str(tmp_path / "absent.jsonl")])
    assert caught.value.where


def test_pass_counts_rows_and_fills_the_table(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ordinary_rows(5), {"prompt": "a"}])  # type: ignore[list-item]
    tally = RowTally({})
    check = start_pass(REQUEST, FeatureRequest(similarity=0.8), tmp_path / "work")
    with closing(check):
        outcomes = list(watch_source(DataSource(source=str(path)), check, tally))
        check.finish()
    assert (tally.n_rows, tally.n_kept_rows) == (6, 5)
    assert [outcome.features for outcome in outcomes] == [None]
    assert check.table is not None
    assert check.table.n_rows == 5
    for name in ("cluster", "copied"):
        assert check.table.column(name).tolist() == [0, 1, 2, 3, 4]
    assert list((tmp_path / "work" / "near").iterdir()) == []


def test_pass_that_ends_early_leaves_no_working_file_of_near_duplicates(tmp_path: Path) -> None:
    check = start_pass(REQUEST, FeatureRequest(similarity=0.8), tmp_path)
    source = DataSource(source=str(tmp_path / "absent.jsonl"))
    with closing(check), pytest.raises(DataSourceError):
        list(watch_source(source, check, RowTally({})))
    assert list((tmp_path / "near").iterdir()) == []


def test_pass_without_features_needs_no_table(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ordinary_rows(3))
    check = SetPass(REQUEST)
    with closing(check):
        list(watch_source(DataSource(source=str(path)), check, RowTally({})))
        check.finish()
    assert check.table is None


def test_column_that_no_row_has_is_an_input_error_after_the_last_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ordinary_rows(3))
    source = DataSource(source=str(path), columns={"prompt": "question"})
    outcomes = watch_source(source, SetPass(REQUEST), RowTally({}))
    assert next(outcomes).n_rows == 3
    with pytest.raises(DataSourceError, match="has a column question"):
        next(outcomes)

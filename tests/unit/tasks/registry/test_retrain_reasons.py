from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy
import pytest

from schemas.config.run import RunConfig
from schemas.records.references import DatasetReference, RetrainDecision, RetrainReason
from tasks.registry.lineage import settings_sha256
from tasks.registry.retrain_reasons import EvaluatedVersion, wants_drift, weigh_reasons
from tasks.sources.row_digests import ROW_DIGESTS

FOLDER = "stages/load_dataset/k"


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetReference:
    """Rows 0 to 9."""
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    (tmp_path / FOLDER).mkdir(parents=True)
    numpy.save(tmp_path / FOLDER / ROW_DIGESTS, rows(0, 10))
    return DatasetReference(
        stage="load_dataset", folder=FOLDER, sha256="a" * 64, source="x", n_rows=10
    )


def rows(first: int, after: int) -> numpy.ndarray:
    return numpy.arange(first, after, dtype=numpy.uint64)


def configured(**retrain: Any) -> RunConfig:
    return RunConfig.model_validate({"retrain": retrain})


def judged_on(digests: numpy.ndarray | None, *, age_days: float = 0) -> EvaluatedVersion:
    return EvaluatedVersion(
        version=3,
        run_id="r",
        settings_sha256=settings_sha256(RunConfig()),
        evaluated_at=datetime.now(UTC) - timedelta(days=age_days),
        digests=digests,
    )


def test_first_training_needs_no_other_reason(dataset: DatasetReference) -> None:
    decision = weigh_reasons(RunConfig(), dataset, None)
    assert decision == RetrainDecision(
        reason=RetrainReason.FIRST,
        detail="first training of construction-faq-smollm2, on 10 rows",
        n_rows=10,
    )
    assert decision.is_needed


def test_same_rows_are_no_reason_however_old_the_version(dataset: DatasetReference) -> None:
    config = configured(max_age_days=1)
    decision = weigh_reasons(config, dataset, judged_on(rows(0, 10), age_days=99))
    assert not decision.is_needed
    assert decision.detail == "the rows are those of version 3"
    assert (decision.version, decision.n_new_rows, decision.n_gone_rows) == (3, 0, 0)


@pytest.mark.parametrize(
    ("before", "reason", "words"),
    [
        (rows(0, 8), RetrainReason.NEW_ROWS, "2 new rows since version 3"),
        (rows(0, 9), RetrainReason.NOTHING, "1 new rows since version 3; fewer than"),
        (rows(0, 12), RetrainReason.NEW_ROWS, "0 new rows and 2 gone since version 3"),
        (rows(1, 11), RetrainReason.NOTHING, "1 new rows and 1 gone since version 3; fewer than"),
        (None, RetrainReason.NEW_ROWS, "the rows that version 3 was trained from are unknown"),
    ],
)
def test_enough_new_or_gone_rows_are_a_reason(
    dataset: DatasetReference, before: numpy.ndarray | None, reason: RetrainReason, words: str
) -> None:
    decision = weigh_reasons(configured(min_new_rows=2), dataset, judged_on(before))
    assert decision.reason is reason
    assert decision.detail.startswith(words)


@pytest.mark.parametrize(
    ("age_days", "reason"), [(6.9, RetrainReason.NOTHING), (7.1, RetrainReason.AGE)]
)
def test_age_makes_few_new_rows_a_reason(
    dataset: DatasetReference, age_days: float, reason: RetrainReason
) -> None:
    config = configured(min_new_rows=5, max_age_days=7)
    decision = weigh_reasons(config, dataset, judged_on(rows(0, 9), age_days=age_days))
    assert decision.reason is reason
    assert decision.age_days == pytest.approx(age_days, abs=0.01)


def test_other_settings_are_a_reason(dataset: DatasetReference) -> None:
    config = RunConfig.model_validate({"training": {"max_steps": 7}})
    decision = weigh_reasons(config, dataset, judged_on(rows(0, 10)))
    assert decision.reason is RetrainReason.SETTINGS


@pytest.mark.parametrize(
    "settings",
    [
        {"retrain": {"min_new_rows": 9}},
        {"registry": {"keep_rejected": 1}},
        {"data": {"source": {"source": "rows-of-november.jsonl"}}},
    ],
)
def test_settings_that_shape_no_model_are_no_reason(
    dataset: DatasetReference, settings: dict[str, Any]
) -> None:
    config = RunConfig.model_validate(settings)
    assert not weigh_reasons(config, dataset, judged_on(rows(0, 10))).is_needed


def test_settings_tell_columns_and_weights_apart() -> None:
    first = {"a": {"source": "a.jsonl"}, "b": {"source": "b.jsonl"}}
    heavier = {"a": {"source": "a.jsonl", "weight": 2}, "b": {"source": "b.jsonl"}}
    digests = {
        settings_sha256(RunConfig.model_validate({"data": {"sources": sources}}))
        for sources in (first, heavier)
    }
    assert len(digests) == 2


def test_drift_is_looked_at_only_where_few_rows_changed(dataset: DatasetReference) -> None:
    config = configured(min_new_rows=5, min_drift=0.1)
    few = weigh_reasons(config, dataset, judged_on(rows(0, 9)))
    assert wants_drift(config, few)
    none = weigh_reasons(config, dataset, judged_on(rows(0, 10)))
    assert not wants_drift(config, none)
    many = weigh_reasons(config, dataset, judged_on(rows(0, 4)))
    assert not wants_drift(config, many)
    assert not wants_drift(configured(min_new_rows=5), few)

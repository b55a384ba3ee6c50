"""A scheduled retrain on the toy model: nothing to do, new rows, drift, and one name at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.retrain_model import decide_retrain, retrain_model
from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from schemas.records.references import ReportReference, RetrainDecision, RetrainReason
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.load_dataset import load_dataset
from tasks.registry.rejections import read_rejections
from tasks.registry.retrain_reasons import find_evaluated
from tests.integration.conftest import N_ROWS, ToyRun
from tests.support.toy import toy_rows, write_jsonl

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def settings(finished_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A name of this file, and a data gate that lets drifted rows through."""
    settings = finished_run.config.model_dump(mode="json")
    settings["data"]["source"]["source"] = str(tmp_path_factory.mktemp("rows") / "rows.jsonl")
    settings["quality"]["mode"] = "warn"
    settings["registry"]["name"] = "toy-scheduled"
    settings["training"]["max_steps"] = 8
    return settings


def with_rows(settings: dict[str, Any], rows: list[dict[str, Any]], **retrain: float) -> RunConfig:
    """Put rows into the file that the settings name."""
    write_jsonl(Path(settings["data"]["source"]["source"]), rows)
    return RunConfig.model_validate(settings | {"retrain": retrain})


@flow(name="weigh")
def weigh(config: RunConfig) -> RetrainDecision:
    return decide_retrain(config, load_dataset(config.data.origin))


def test_retrain_on_the_same_rows_looks_at_the_data_and_ends(toy_run: ToyRun) -> None:
    decision = retrain_model(toy_run.config)
    assert isinstance(decision, RetrainDecision)
    assert decision.reason is RetrainReason.NOTHING
    assert decision.n_rows == N_ROWS
    entries = [entry for entry in read_entries(last_flow_run_id() or "") if entry.event == "HIT"]
    assert [entry.stage for entry in entries] == ["load_dataset"]


def test_retrain_trains_where_there_is_a_reason(toy_run: ToyRun, settings: dict[str, Any]) -> None:
    config = with_rows(settings, toy_rows(N_ROWS + 3))
    reference = retrain_model(config)
    assert isinstance(reference, ReportReference)
    report = json.loads(locate(reference, "report.json").read_text(encoding="utf-8"))
    assert report["retrain"]["reason"] == "first"
    judged = find_evaluated(config.registry)
    assert judged is not None
    assert judged.digests is not None
    assert len(judged.digests) == N_ROWS + 3

    decision = retrain_model(config)
    assert isinstance(decision, RetrainDecision)
    assert decision.detail == "the rows are those of version 1"

    decision = weigh(with_rows(settings, toy_rows(N_ROWS + 5)[1:]))
    assert (decision.reason, decision.n_new_rows, decision.n_gone_rows) == ("new_rows", 2, 1)

    rows = toy_rows(N_ROWS + 3)
    longer = [
        {**row, "prompt": f"{row['prompt']} and please be brief, as I am in a hurry"}
        for row in rows[:40]
    ]
    for limit, reason in ((100, RetrainReason.NOTHING), (0.001, RetrainReason.DRIFT)):
        config = with_rows(settings, rows + longer, min_new_rows=1000, min_drift=limit)
        decision = weigh(config)
        assert decision.reason is reason, decision.detail
        assert decision.drift is not None
        assert 0.001 < decision.drift < 100


def test_refused_rows_are_refused_once(toy_run: ToyRun, settings: dict[str, Any]) -> None:
    settings = settings | {"quality": settings["quality"] | {"mode": "enforce"}}
    settings["registry"] = settings["registry"] | {"name": "toy-refused-rows"}
    broken = [{"prompt": "Where is the lid of the box?", "completion": ""}] * 30
    config = with_rows(settings, toy_rows(N_ROWS) + broken)
    with pytest.raises(DataRejected, match="bad_row_fraction"):
        retrain_model(config)
    decision = retrain_model(config)
    assert isinstance(decision, RetrainDecision)
    assert decision.reason is RetrainReason.NOTHING
    assert decision.detail.startswith("these rows were rejected at 20")
    assert [found.n_rows for found in read_rejections("toy-refused-rows")] == [N_ROWS + 30]

    mended = with_rows(settings, toy_rows(N_ROWS))
    assert weigh(mended).reason is RetrainReason.FIRST

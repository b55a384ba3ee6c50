"""Challengers of one champion through the whole flow: they are counted, and see no trained rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect import flow

from flows._forecast import find_refusals
from flows.check_data import GatedRows, gate_rows
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.records.references import ReportReference
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.load_dataset import load_dataset
from tests.integration.conftest import ToyRun

pytestmark = pytest.mark.integration


def retrain(toy_run: ToyRun, section: str, seed: int) -> dict[str, Any]:
    """Run the flow with another seed of the split or the training, and return its report."""
    settings = toy_run.config.model_dump(mode="json")
    settings[section]["seed"] = seed
    found = train_sft(RunConfig.model_validate(settings))
    assert isinstance(found, ReportReference)
    report: dict[str, Any] = json.loads(locate(found, "report.json").read_text(encoding="utf-8"))
    return report


def test_challengers_are_counted_and_keep_their_number(toy_run: ToyRun) -> None:
    first = retrain(toy_run, "training", 5)
    assert first["registry"]["compared_with_version"] == 1
    assert first["notes"] == ["challenger 1 on these rows, confidence 97.5 %"]
    if first["registry"]["is_promoted"]:
        pytest.fail("choose a seed that makes no better model, so that the champion stays")
    second = retrain(toy_run, "training", 6)
    assert second["challenge"] == {**first["challenge"], "number": 2}
    assert second["confidence"] == pytest.approx(1 - 0.05 / 6)
    retrain(toy_run, "training", 5)
    entries = {entry.stage: entry.event for entry in read_entries(last_flow_run_id() or "")}
    assert entries["decide"] == "HIT"


def test_rows_that_the_champion_was_trained_on_are_left_out(
    toy_run: ToyRun, caplog: pytest.LogCaptureFixture
) -> None:
    report = retrain(toy_run, "split", 1)
    texts = [record.getMessage() for record in caplog.records]
    warning = next(text for text in texts if text.startswith("the gates will refuse this run"))
    assert "champion version 1" in warning
    told, trained = (
        next(n for n, text in enumerate(texts) if text.startswith(start))
        for start in (warning, "MISS train_model")
    )
    assert told < trained
    gate = next(gate for gate in report["gates"] if gate["id"] == "loss_below_champion")
    n_held_out = report["data"]["n_eval_rows"]
    assert n_held_out / 2 < gate["n_left_out_rows"] <= n_held_out
    assert gate["verdict"] == "failed"
    assert "a model compared was trained on them" in report["reason"]
    assert report["notes"][1] == (
        f"the champion was trained on {gate['n_left_out_rows']} of the held-out rows, which are "
        "not compared"
    )


@flow(name="gate-rows")
def gate(config: RunConfig) -> GatedRows:
    return gate_rows(config, load_dataset(config.data.origin))


def test_another_template_than_the_champion_s_is_told_before_training(toy_run: ToyRun) -> None:
    rows = gate(toy_run.config)
    assert find_refusals(toy_run.config, rows) == []
    other = rows.template.model_copy(update={"template_sha256": "other"})
    (sentence,) = find_refusals(toy_run.config, rows._replace(template=other))
    assert "another chat template" in sentence
    assert "loss_below_champion" in sentence
    absent = toy_run.config.registry.model_copy(update={"name": "toy-without-versions"})
    config = toy_run.config.model_copy(update={"registry": absent})
    assert find_refusals(config, rows._replace(template=other)) == []

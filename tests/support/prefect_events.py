"""Flows that say what the real ones say, without their stages.

Run as `python -m tests.support.prefect_events`: two reports of the same promotion, a refused model, refused
data, a skipped retrain and a failed run.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from schemas.config.run import RunConfig
from schemas.errors import DataRejected, TrainingError
from schemas.records.decision import Decision
from schemas.records.references import ReportReference, RetrainDecision, RetrainReason
from schemas.records.stages import Stage
from tasks.engine.home import work_directory
from tasks.engine.journal import StageEntry, append_entry
from tasks.engine.run_bar import show_stage
from tasks.registry.store import connect
from tasks.registry.tags import DECISION_SHA256_TAG
from tasks.report.announcements import (
    announce_rejection,
    announce_report,
    announce_skip,
    rejected_state,
)
from tests.support.reports import toy_report

REASON = 'better on "loss" <b>\nby 0.5 & more'
CONFIG = RunConfig.model_validate({"registry": {"name": "toy"}})
REJECTED = DataRejected(
    "3 of 9 rows in toy.jsonl broke rule prompt_empty (limit 0).",
    where="rejected/check_schema",
    fix="drop these rows, then run again.",
)
SKIPPED = RetrainDecision(
    reason=RetrainReason.NOTHING, detail="the same rows as version 1", version=1, n_rows=9
)


def write_report(folder: Path, **changes: Any) -> ReportReference:
    """Write what `publish_report` would have written.

    Args:
        folder: Of the stage's output.
        changes: To the toy report.

    Returns:
        The stage's record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = toy_report(**changes)
    report["registry"] |= {"name": CONFIG.registry.name, "tracking_uri": "http://mlflow:5000/"}
    report["registry"]["is_promoted"] = report["decision"] == "promote"
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "summary.md").write_text(f"## toy: {report['reason']}", encoding="utf-8")
    (folder / "loss_curve.svg").write_text("<svg/>", encoding="utf-8")
    return ReportReference(
        stage="publish_report",
        folder=str(folder.relative_to(work_directory())),
        sha256="0" * 64,
        decision=Decision(report["decision"]),
        reason=report["reason"],
    )


@flow(name="train-sft", flow_run_name="{config.registry.name}")
def train(config: RunConfig, decision: str, event: str) -> None:
    """Walk through the stages without doing anything, and announce a report."""
    for stage in Stage:
        with show_stage(stage):
            append_entry(flow_run.id, StageEntry(stage=stage, event=event, detail=""))
    folder = work_directory() / "stages" / "publish_report" / decision
    announce_report(config, write_report(folder, decision=decision, reason=REASON))


@flow(name="check-data", flow_run_name="{config.registry.name}")
def refuse(config: RunConfig) -> State[Any]:
    """Refuse the rows."""
    announce_rejection(config, REJECTED)
    return rejected_state(REJECTED)


@flow(name="retrain", flow_run_name="{config.registry.name}")
def skip(config: RunConfig) -> RetrainDecision:
    """Find no reason to train."""
    with show_stage(Stage.LOAD_DATASET):
        announce_skip(config, SKIPPED)
    return SKIPPED


@flow(name="train-sft", flow_run_name="of-no-name-yet")
def fail(config: RunConfig) -> None:
    """Fail in a stage."""
    with show_stage(Stage.TRAIN_MODEL):
        raise TrainingError("the loss became NaN", fix="lower training.learning_rate")


def register_toy() -> None:
    """Create the version that the reports are about, with its decision."""
    client = connect()
    client.create_registered_model("toy")
    client.create_model_version(
        "toy", work_directory().as_uri(), tags={DECISION_SHA256_TAG: "0" * 64}
    )


if __name__ == "__main__":
    register_toy()
    train(CONFIG, "promote", "MISS")
    train(CONFIG, "promote", "HIT")
    train(CONFIG, "refuse", "MISS")
    skip(CONFIG)
    with suppress(DataRejected):
        refuse(CONFIG)
    with suppress(TrainingError):
        fail(CONFIG)

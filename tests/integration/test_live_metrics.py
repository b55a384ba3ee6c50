"""The training's own run in a real MLflow store, and its progress on a real Prefect server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from prefect import flow, task
from prefect.artifacts import Artifact

from schemas.config.run import RunConfig
from schemas.errors import LossNotFinite
from schemas.records.stages import Stage
from tasks.engine.run_bar import forget_progress, show_stage
from tasks.registry.store import connect
from tasks.registry.tags import ERROR_TAG
from tasks.training.live_metrics import LiveMetrics, read_training_run
from tasks.training.monitor import TrainingMonitor
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec
from tests.support.trainings import make_spec, step, watch

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.integration

BAR_SECONDS = 30.0


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name one store for all tests here: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def store(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    return connect()


def run_id_of(spec: TrainingSpec) -> str:
    run = read_training_run(spec.checkpoints)
    assert run is not None
    return run.run_id


def test_finished_training_has_its_figures_settings_and_tags(
    store: MlflowClient, tmp_path: Path
) -> None:
    warnings: list[str] = []
    spec = make_spec(tmp_path)
    watch(spec, step(1, 3.0), step(2, 2.0), warn=warnings.append)
    run = store.get_run(run_id_of(spec))
    losses = store.get_metric_history(run.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in losses] == [(1, 3.0), (2, 2.0)]
    assert run.data.params["training.method"] == "lora"
    assert run.data.params["training.lora.r"] == "16"
    assert run.data.params["seed"] == "7"
    assert run.data.tags["sft.stage"] == "train_model"
    assert len(run.data.tags["sft.training_fingerprint"]) == 64
    assert run.info.status == "FINISHED"
    assert run.info.end_time is not None
    assert store.get_experiment_by_name("toy").experiment_id == run.info.experiment_id
    assert warnings == []


def test_resumed_training_goes_on_in_the_same_run(store: MlflowClient, tmp_path: Path) -> None:
    warnings: list[str] = []
    spec = make_spec(tmp_path)
    metrics = LiveMetrics(spec, "toy", warnings.append).__enter__()
    metrics(step(1))
    metrics(step(2))
    error = LossNotFinite("it is NaN")
    metrics.__exit__(type(error), error, None)
    first = run_id_of(spec)
    failed = store.get_run(first)
    assert (failed.info.status, failed.data.tags[ERROR_TAG]) == (
        "FAILED",
        "LossNotFinite: it is NaN",
    )
    watch(spec, step(2), step(3), warn=warnings.append)  # the checkpoint was at step 1
    assert run_id_of(spec) == first
    run = store.get_run(first)
    assert run.info.status == "FINISHED"
    assert ERROR_TAG not in run.data.tags
    losses = store.get_metric_history(first, "train/loss")
    assert [one.step for one in losses] == [1, 2, 3]
    assert warnings == []


def test_deleted_run_is_replaced(store: MlflowClient, tmp_path: Path) -> None:
    warnings: list[str] = []
    spec = make_spec(tmp_path)
    watch(spec, step(1), warn=warnings.append)
    deleted = run_id_of(spec)
    store.delete_run(deleted)
    watch(spec, step(2), warn=warnings.append)
    assert run_id_of(spec) != deleted
    assert warnings == []


def monitored_run(spec: TrainingSpec, config: RunConfig) -> list[Artifact]:
    """Send a short training's events through the monitor in a stage of a flow; return its bar."""
    bars: list[Artifact] = []

    def latest() -> Artifact:
        return cast(Artifact, Artifact.get("toy-progress"))  # with the flow's own connection

    @task(name="train")
    def train() -> None:
        with TrainingMonitor(spec) as monitor:
            monitor(TrainingEvent(kind=EventKind.STARTED, n_steps=9))
            monitor(step(1))
            monitor(step(3))
            deadline = time.monotonic() + BAR_SECONDS
            while "loss" not in (latest().description or "") and time.monotonic() < deadline:
                time.sleep(0.05)
            bars.append(latest())

    @flow(name="train-sft")
    def monitored(config: RunConfig) -> None:
        with show_stage(Stage.TRAIN_MODEL):
            train()
        forget_progress()

    monitored(config)
    return bars


def test_monitor_in_a_flow_shows_the_training_everywhere(
    prefect_server: None, store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.engine.run_bar.PUSH_SECONDS", 0.05)
    spec = make_spec(tmp_path)
    config = RunConfig.model_validate({"registry": {"name": "toy", "experiment": "monitored"}})
    [bar] = monitored_run(spec, config)
    assert bar.type == "progress"
    assert bar.data == pytest.approx(100 * (6 + 3 / 9) / 13)
    description = bar.description or ""
    assert description.startswith("train_model, 7 of 13; training: 3 of 9 steps, loss 1, ")
    run = store.get_run(run_id_of(spec))
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == store.get_experiment_by_name("monitored").experiment_id
    assert [one.step for one in store.get_metric_history(run.info.run_id, "train/loss")] == [1, 3]

"""A sweep on the toy model: real trainings, a real study, real MLflow runs."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli.sweep import run_sweep
from flows.sweep_training import sweep_training
from schemas.config.file import load_config
from schemas.config.run import RunConfig
from schemas.config.sweep import Dimension, OneOf, SweepConfig
from schemas.errors import TrainingError
from tasks.registry.store import connect
from tasks.sweep.results import Outcome, SweepReport
from tests.integration.conftest import toy_config
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

GOOD, IDLE = 0.01, 1e-7
"""Learning rates of a trial that learns and of one that stands still and is pruned."""
SEED = 4
"""Draws GOOD, then IDLE, then GOOD."""
STATES = {Outcome.COMPLETE: "FINISHED", Outcome.PRUNED: "KILLED", Outcome.FAIL: "FAILED"}


def sweep_of(*rates: float, trials: int) -> SweepConfig:
    space: dict[str, Dimension] = {"learning_rate": OneOf(choices=rates)}
    return SweepConfig(search=space, trials=trials, startup_trials=1)


@dataclass
class FinishedSweep:
    """A sweep in two calls, and what is needed to repeat it."""

    home: Path
    config: RunConfig
    begun: SweepReport
    report: SweepReport


@pytest.fixture(scope="module")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("files")
    return make_toy_model(root / "model"), write_jsonl(root / "rows.jsonl", toy_rows(80))


def config_of(files: tuple[Path, Path], **training: Any) -> RunConfig:
    return toy_config(
        *files,
        seed=SEED,
        split={"eval_fraction": 0.15, "validation_fraction": 0.15},
        training={
            "max_steps": 16,
            "per_device_train_batch_size": 4,
            "packing_length_tokens": 128,
            "save_steps": 4,
            **training,
        },
    )


@pytest.fixture(scope="module")
def whole(
    prefect_server: None, toy_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> FinishedSweep:
    """Sweep over two rates: first two trials, then one more."""
    home = tmp_path_factory.mktemp("sweep") / "home"
    config = config_of(toy_files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        begun = sweep_training(config, sweep_of(GOOD, IDLE, trials=2))
        report = sweep_training(config, sweep_of(GOOD, IDLE, trials=3))
    return FinishedSweep(home, config, begun, report)


@pytest.fixture
def in_sweep(whole: FinishedSweep, monkeypatch: pytest.MonkeyPatch) -> FinishedSweep:
    monkeypatch.setenv("SFT_HOME", str(whole.home))
    return whole


def measured_steps(run_id: str) -> list[int]:
    """List the steps after which a loss was logged, without the one before the first step."""
    history = connect().get_metric_history(run_id, "validation_loss")
    return sorted(point.step for point in history if point.step)


def test_trials_are_counted_and_not_repeated_by_another_call(whole: FinishedSweep) -> None:
    assert len(whole.begun.trials) == 2
    assert len(whole.report.trials) == 3
    assert whole.report.trials[:2] == whole.begun.trials
    assert whole.report.folder == whole.begun.folder
    assert whole.report.mlflow_run_id == whole.begun.mlflow_run_id


def test_poor_trial_is_stopped_early(whole: FinishedSweep) -> None:
    pruned = [trial for trial in whole.report.trials if trial.outcome is Outcome.PRUNED]
    assert pruned
    assert {trial.settings["learning_rate"] for trial in pruned} == {IDLE}


def test_best_is_the_smallest_and_its_configuration_loads(whole: FinishedSweep) -> None:
    best = whole.report.best
    assert best is not None
    losses = [trial.validation_loss for trial in whole.report.trials]
    assert best.validation_loss == min(loss for loss in losses if loss is not None)
    assert best.settings == {"learning_rate": GOOD}
    assert whole.report.best_config is not None
    expected = whole.config.training.model_copy(update={"learning_rate": GOOD})
    found = load_config(whole.report.best_config)
    assert found == whole.config.model_copy(update={"training": expected})


def test_no_weights_of_a_trial_are_kept(whole: FinishedSweep) -> None:
    kept = sorted(path.name for path in (whole.report.folder / "trials").iterdir())
    assert kept == ["0.log", "1.log", "2.log"]


def test_each_trial_is_a_run_below_that_of_the_sweep(in_sweep: FinishedSweep) -> None:
    client = connect()
    report = in_sweep.report
    experiment = client.get_experiment_by_name("sft-flow")
    children = client.search_runs(
        [experiment.experiment_id], f"tags.mlflow.parentRunId = '{report.mlflow_run_id}'"
    )
    assert {run.info.run_id for run in children} == {t.mlflow_run_id for t in report.trials}
    parent = client.get_run(report.mlflow_run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["search.learning_rate"] == "[0.01, 1.0e-07]"
    assert report.best is not None
    assert parent.data.metrics["validation_loss"] == report.best.validation_loss
    for trial in report.trials:
        run = client.get_run(trial.mlflow_run_id)
        assert run.info.status == STATES[trial.outcome]
        rate = trial.settings["learning_rate"]
        assert run.data.params == {"training.learning_rate": str(rate)}
        steps = measured_steps(trial.mlflow_run_id)
        n_points = 8 if trial.outcome is Outcome.COMPLETE else len(steps)
        assert steps == [2 * number for number in range(1, n_points + 1)]


def test_command_prints_one_json_document_from_a_finished_sweep(
    in_sweep: FinishedSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    settings = in_sweep.config.model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(settings))
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"search: {{learning_rate: [{GOOD}, {IDLE:.1e}]}}\nstartup_trials: 1\n")
    run_sweep(path, (), sweep_path=sweep, searches=(), is_json=True, trials=3, timeout_seconds=None)
    document = json.loads(capsys.readouterr().out)
    assert document == in_sweep.report.model_dump(mode="json")


def test_guard_ends_the_trial_and_not_the_sweep(
    prefect_server: None, toy_files: tuple[Path, Path], tmp_path: Path
) -> None:
    config = config_of(toy_files, guards={"min_learning_fraction": 0.99})
    report = sweep_training(config, sweep_of(GOOD, IDLE, trials=1))
    assert [trial.outcome for trial in report.trials] == [Outcome.FAIL]
    assert report.trials[0].error.startswith("NothingLearned: ")
    assert report.best is None
    assert report.best_config is None
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"search: {{learning_rate: [{GOOD}, {IDLE:.1e}]}}\nstartup_trials: 1\ntrials: 1\n"
    )
    with pytest.raises(TrainingError, match="no trial was trained to its end"):
        run_sweep(path, (), sweep_path=sweep, searches=(), is_json=False)


def interrupt_at_checkpoint(home: Path) -> threading.Thread:
    """Press Ctrl-C once the first trial has a checkpoint."""

    def watch() -> None:
        while not list(home.glob("sweeps/*/trials/0/checkpoints/checkpoint-*")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_interrupted_trial_goes_on_at_its_checkpoint(
    whole: FinishedSweep, work_folder: Path
) -> None:
    config = whole.config
    signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup it is ignored
    interrupt_at_checkpoint(work_folder)
    with pytest.raises(KeyboardInterrupt):
        sweep_training(config, sweep_of(GOOD, IDLE, trials=1))
    report = sweep_training(config, sweep_of(GOOD, IDLE, trials=1))
    (trial,) = report.trials
    first = whole.report.trials[0]
    assert trial.settings == first.settings
    assert trial.validation_loss == pytest.approx(first.validation_loss, abs=1e-6)
    client = connect()
    experiment = client.get_experiment_by_name("sft-flow")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 2
    assert measured_steps(trial.mlflow_run_id) == [2 * number for number in range(1, 9)]

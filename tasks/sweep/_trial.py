"""One trial of a sweep: a training with sampled settings, measured and stopped early when poor."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.logging import get_run_logger
from pydantic import ValidationError

from schemas.config.run import RunConfig
from schemas.config.sweep import Range, Scalar, SweepConfig, with_settings
from schemas.config.training import TrainingConfig
from schemas.errors import (
    CheckpointBroken,
    ConfigError,
    TrainingContractBroken,
    TrainingError,
    TrainingInterrupted,
    TrainingKilled,
)
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.cache import locate
from tasks.models.shape import read_model_shape
from tasks.sweep._listener import N_POINTS, TrialListener
from tasks.sweep._mlflow_runs import SweepRuns
from tasks.training.launch import run_training
from tasks.training.plan.machine import Machine
from tasks.training.plan.setup import prepare_training, read_workload
from tasks.training.plan.speed import estimate_steps
from tasks.training.process.spec import TrainingSpec

if TYPE_CHECKING:
    from optuna import Trial

SECONDS = "seconds"
ERROR = "error"
RUN_ID = "mlflow_run_id"


class Outcome(StrEnum):
    """How a trial ended."""

    FINISHED = "finished"
    PRUNED = "pruned"
    """Stopped early, because it was worse than the median of the others."""
    FAILED = "failed"
    """A guard stopped the training: the loss became NaN, memory ran out and the like."""


@dataclass(frozen=True)
class Search:
    """What every trial of a sweep has in common."""

    config: RunConfig
    sweep: SweepConfig
    template: TemplateReference
    quality: QualityReference
    machine: Machine
    """Where all trials run."""
    folder: Path
    """Of the sweep."""
    fingerprint: dict[str, str]
    """What shapes the results of the sweep, by name."""

    def trial_folder(self, number: int) -> Path:
        """Name the folder of a trial's checkpoints and weights.

        Args:
            number: Of the trial.

        Returns:
            A folder within that of the sweep.
        """
        return self.folder / "trials" / str(number)


def sample(trial: Trial, sweep: SweepConfig) -> dict[str, Scalar]:
    """Draw the settings of a trial; one that was interrupted keeps those it had.

    Args:
        trial: Of the study.
        sweep: The search space.

    Returns:
        Key within the training section to value.
    """
    settings: dict[str, Scalar] = {}
    for key, dimension in sweep.search.items():
        if not isinstance(dimension, Range):
            settings[key] = trial.suggest_categorical(key, dimension.choices)
        elif dimension.is_whole:
            low, high = int(dimension.low), int(dimension.high)
            settings[key] = trial.suggest_int(key, low, high, log=dimension.is_log)
        else:
            low_bound, high_bound = float(dimension.low), float(dimension.high)
            settings[key] = trial.suggest_float(key, low_bound, high_bound, log=dimension.is_log)
    return settings


def measured_training(training: TrainingConfig, quality: QualityReference) -> TrainingConfig:
    """Make a training measure its validation loss, without changing what it learns.

    Args:
        training: With the sampled settings.
        quality: Says how many rows and tokens there are.

    Returns:
        The same with `eval_steps`: the configured ones, or an eighth of the steps.
    """
    if training.eval_steps:
        return training
    n_steps, _ = estimate_steps(training, quality.n_train_rows, quality.n_train_tokens)
    return training.model_copy(update={"eval_steps": max(1, n_steps // N_POINTS)})


def trial_spec(search: Search, number: int, training: TrainingConfig) -> TrainingSpec:
    """Say what the training process of a trial reads and writes.

    Args:
        search: What all trials share.
        number: Of the trial.
        training: With the sampled settings.

    Returns:
        The spec; its folders belong to this trial alone.

    Raises:
        ConfigError: The settings do not go together on this machine.
        MemoryExhausted: A training with these settings does not fit into memory.
    """
    folder = search.trial_folder(number)
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)  # of an attempt that was cut off while saving
    output.mkdir(parents=True)
    settings = measured_training(training, search.quality)
    model = locate(search.template, "model")
    train_tokens = locate(search.quality, "train_tokens.parquet")
    setup = prepare_training(
        settings, search.machine, read_model_shape(model), read_workload(train_tokens)
    )
    return TrainingSpec(
        model=model,
        train_tokens=train_tokens,
        validation_tokens=locate(search.quality, "validation_tokens.parquet"),
        inference_prompts=locate(search.quality, "train_prompts.jsonl"),
        output=output,
        checkpoints=folder / "checkpoints",
        fingerprint=search.fingerprint | {"training": settings.model_dump_json()},
        training=settings,
        choices=setup.choices,
        batching=setup.batching,
        notes=setup.notes,
        seed=search.config.seed,
    )


def run_trial(search: Search, trial: Trial, runs: SweepRuns, parent_id: str) -> Outcome:
    """Train with sampled settings, keep the figures and remove the weights.

    Args:
        search: What all trials share.
        trial: A new one, or one that was interrupted: it goes on from its last checkpoint.
        runs: The MLflow store.
        parent_id: The run of the sweep.

    Returns:
        How it ended; the study knows it too.
    """
    settings = sample(trial, search.sweep)
    params = {f"training.{key}": value for key, value in settings.items()}
    run_id = runs.open_trial(trial.user_attrs.get(RUN_ID), parent_id, trial.number, params)
    trial.set_user_attr(RUN_ID, run_id)
    listener = TrialListener(trial, runs, run_id)
    get_run_logger().info("trial %d: %s", trial.number, settings)
    started = time.monotonic()
    try:
        outcome, loss = _train(search, trial, settings, listener)
    except BaseException as error:
        is_fault = isinstance(error, Exception) and not isinstance(error, TrainingInterrupted)
        runs.close(run_id, "FAILED" if is_fault else "KILLED", str(error) if is_fault else "")
        raise
    finally:
        listener.close()
        seconds = trial.user_attrs.get(SECONDS, 0.0) + time.monotonic() - started
        trial.set_user_attr(SECONDS, round(seconds, 3))
    _conclude(trial, runs, outcome, loss)
    _keep_log(search, trial.number)
    return outcome


def _train(
    search: Search, trial: Trial, settings: dict[str, Scalar], listener: TrialListener
) -> tuple[Outcome, float | None]:
    """Run the training process; a guard's error is a result, any other fault is not."""
    import optuna

    try:
        training = with_settings(search.config, settings).training
        spec = trial_spec(search, trial.number, training)
        run_training(spec, listener)
        listener.catch_up(spec.output / "history.json")
        loss = listener.final_loss(is_best_kept=training.early_stopping is not None)
    except optuna.TrialPruned:
        return Outcome.PRUNED, None
    except (TrainingKilled, CheckpointBroken, TrainingContractBroken):
        raise
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        trial.set_user_attr(ERROR, f"these settings do not go together: {fault['msg']}")
        return Outcome.FAILED, None
    except (ConfigError, TrainingError) as error:
        if type(error) is TrainingError:
            raise  # the process failed for no reason a guard knows
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error.what}")
        return Outcome.FAILED, None
    return Outcome.FINISHED, loss


def _conclude(trial: Trial, runs: SweepRuns, outcome: Outcome, loss: float | None) -> None:
    """Tell MLflow, then the study: a trial it does not know to be over is taken up again."""
    from optuna.trial import TrialState

    states = {
        Outcome.FINISHED: (TrialState.COMPLETE, "FINISHED"),
        Outcome.PRUNED: (TrialState.PRUNED, "KILLED"),
        Outcome.FAILED: (TrialState.FAIL, "FAILED"),
    }
    state, status = states[outcome]
    error = trial.user_attrs.get(ERROR, "")
    runs.close(trial.user_attrs[RUN_ID], status, error)
    trial.study.tell(trial, loss, state)
    shown = f"validation loss {loss:.4f}" if loss is not None else error
    get_run_logger().info("trial %d %s %s", trial.number, outcome.value, shown)


def _keep_log(search: Search, number: int) -> None:
    """Remove a trial's weights and checkpoints; its log may say why it failed."""
    folder = search.trial_folder(number)
    log = folder / "checkpoints" / "training.log"
    if log.is_file():
        log.replace(folder.with_suffix(".log"))
    shutil.rmtree(folder, ignore_errors=True)

"""One trial of a sweep: a training with sampled settings, measured and pruned when it is poor."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger
from pydantic import ValidationError

from schemas.config.run import RunConfig, seed_of
from schemas.config.sweep import SweepConfig, with_settings
from schemas.config.training import TrainingConfig
from schemas.errors import (
    CheckpointBroken,
    ConfigError,
    TrainingContractBroken,
    TrainingError,
    TrainingInterrupted,
    TrainingKilled,
    restored_interruption,
)
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.wording import number
from tasks.registry.open_runs import OpenRun
from tasks.registry.store import connect, experiment_id, store_errors
from tasks.registry.tags import ERROR_TAG, MAX_TAG_CHARACTERS, SWEEP_TAG, TRIAL_TAG
from tasks.sweep.results import ERROR, LOSSES, RUN_ID, SECONDS, Outcome
from tasks.training.launch import TrainingFolders, plan_training, run_training
from tasks.training.plan.speed import estimate_steps
from tasks.training.process.spec import EventKind, TrainingEvent

if TYPE_CHECKING:
    from optuna import Study, Trial

N_POINTS = 8
"""Points of a training at which trials are compared: its eighths, however many steps it has."""


@dataclass(frozen=True)
class Search:
    """What every trial of a sweep has in common."""

    config: RunConfig
    sweep: SweepConfig
    template: TemplateReference
    quality: QualityReference
    folder: Path
    """Of the sweep."""
    fingerprint: dict[str, str]
    """What shapes the results of the sweep, by name."""


class SweepRuns:
    """The MLflow runs of a sweep and, below it, of its trials."""

    def __init__(self, experiment: str, digest: str) -> None:
        """Connect to the store, and find or create the experiment."""
        self.client, self.digest = connect(), digest
        with store_errors():
            self.experiment_id = experiment_id(self.client, experiment)

    @contextmanager
    def run(
        self, owner: Study | Trial, name: str, params: Mapping[str, Any], **tags: str
    ) -> Iterator[str]:
        """Start the run of a study or trial, or continue it; end it by how the block ends."""
        from optuna import TrialPruned

        with store_errors():
            run_id = self._open(owner, name, params, tags | {SWEEP_TAG: self.digest})
        held = OpenRun(run_id)
        status, fault = "KILLED", ""
        try:
            yield run_id
            status = "FINISHED"
        except (TrainingInterrupted, TrialPruned):
            raise
        except Exception as error:
            status, fault = "FAILED", str(error)
            raise
        finally:
            try:
                with store_errors():
                    if fault:
                        self.client.set_tag(run_id, ERROR_TAG, fault[:MAX_TAG_CHARACTERS])
                    self.client.set_terminated(run_id, status)
                held.close()
            finally:
                held.leave()

    def _open(
        self, owner: Study | Trial, name: str, params: Mapping[str, Any], tags: dict[str, str]
    ) -> str:
        # A search, since the run may be deleted, or in another store than before.
        known = f"attributes.run_id = '{owner.user_attrs.get(RUN_ID)}'"
        for run in self.client.search_runs([self.experiment_id], known):
            if tags.items() <= run.data.tags.items():
                self.client.update_run(run.info.run_id, status="RUNNING")
                if ERROR_TAG in run.data.tags:
                    self.client.delete_tag(run.info.run_id, ERROR_TAG)
                return str(run.info.run_id)
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
        for key, value in params.items():
            self.client.log_param(run.info.run_id, key, value)
        owner.set_user_attr(RUN_ID, run.info.run_id)
        return str(run.info.run_id)

    def log_loss(self, run_id: str, loss: float, step: int = 0) -> None:
        """Log a validation loss, in nats per supervised token."""
        with store_errors():
            now = int(time.time() * 1000)
            self.client.log_metric(run_id, "validation_loss", loss, now, step)


class TrialListener:
    """Follows the training process of a trial: keeps its losses and prunes it when it is poor."""

    def __init__(self, trial: Trial, runs: SweepRuns, run_id: str) -> None:
        """Continue with the losses of an interrupted attempt."""
        self.trial, self.runs, self.run_id = trial, runs, run_id
        known: dict[str, float] = trial.user_attrs.get(LOSSES, {})
        self.losses = {int(step): loss for step, loss in known.items()}
        self.n_steps = 0

    def __call__(self, event: TrainingEvent) -> None:
        """Report the first loss at each point to the pruner, but not at the end of the training."""
        import optuna

        if event.kind is EventKind.STARTED:
            self.n_steps = event.n_steps
        elif event.kind is EventKind.MEASURED and event.loss is not None:
            steps = (*self.losses, event.step)
            *earlier, point = [round(N_POINTS * step / max(self.n_steps, 1)) for step in steps]
            self.keep(event.step, event.loss)
            if 0 < point < N_POINTS and point not in earlier:
                self.trial.report(event.loss, point)
                if self.trial.should_prune():
                    raise optuna.TrialPruned

    def keep(self, step: int, loss: float) -> None:
        """Keep a loss; those between a checkpoint and an interruption come twice."""
        if step not in self.losses:
            self.losses[step] = loss
            self.trial.set_user_attr(LOSSES, self.losses)
            self.runs.log_loss(self.run_id, loss, step)
            shown = (self.trial.number, number(loss), step, self.n_steps)
            get_run_logger().info("trial %d: validation loss %s at step %d of %d", *shown)


def measured_training(training: TrainingConfig, quality: QualityReference) -> TrainingConfig:
    """Measure the validation loss eight times, unless `eval_steps` is configured."""
    if training.eval_steps:
        return training
    n_steps, _ = estimate_steps(training, quality.n_train_rows, quality.n_train_tokens)
    return training.model_copy(update={"eval_steps": max(1, n_steps // N_POINTS)})


def run_trial(search: Search, trial: Trial, runs: SweepRuns, parent_id: str) -> None:
    """Train with sampled settings, keep the metrics and the log, and remove the weights."""
    import optuna

    name, loss, outcome = f"trial {trial.number}", None, Outcome.FAIL
    folder = search.folder / "trials" / str(trial.number)
    before = trial.user_attrs.get(SECONDS, 0.0) - time.monotonic()
    get_run_logger().info("%s: %s", name, trial.params)
    params = {f"training.{key}": value for key, value in trial.params.items()}
    tags = {"mlflow.parentRunId": parent_id, TRIAL_TAG: str(trial.number)}
    try:
        with runs.run(trial, name, params, **tags) as run_id, restored_interruption():
            loss = _train(search, trial, TrialListener(trial, runs, run_id), folder)
        outcome = Outcome.COMPLETE
    except optuna.TrialPruned:
        outcome = Outcome.PRUNED
    except (TrainingKilled, CheckpointBroken, TrainingContractBroken):
        raise
    except (ConfigError, TrainingError) as error:
        if type(error) is TrainingError:
            raise  # no guard stopped the training process
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error.what}")
    finally:
        trial.set_user_attr(SECONDS, before + time.monotonic())
    # After MLflow: a trial that is not over in the study is continued by the next call.
    trial.study.tell(trial, loss, optuna.trial.TrialState[outcome.name])
    shown = trial.user_attrs.get(ERROR, "") if loss is None else f"validation loss {number(loss)}"
    get_run_logger().info("%s %s %s", name, outcome.value, shown)
    log = folder / "checkpoints" / "training.log"
    if log.is_file():
        log.replace(folder.with_suffix(".log"))
    shutil.rmtree(folder, ignore_errors=True)


def _train(search: Search, trial: Trial, listener: TrialListener, folder: Path) -> float:
    """Run the training process; return the validation loss of the model that it leaves."""
    try:
        training = with_settings(search.config, trial.params).training
    except ValidationError as error:
        what = f"these settings do not go together: {error.errors()[0]['msg']}"
        raise ConfigError(what, fix="narrow the search space") from error
    training = measured_training(training, search.quality)
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)  # of an attempt that was cut off while saving
    output.mkdir(parents=True)
    fingerprint = search.fingerprint | {"training": training.model_dump_json()}
    folders = TrainingFolders(output, folder / "checkpoints", fingerprint)
    spec = plan_training(
        folders,
        search.template,
        search.quality,
        training,
        seed_of(search.config, search.config.training),
    )
    run_training(spec, listener)
    # Steps between an interruption and its checkpoint sent no event.
    for entry in json.loads((spec.output / "history.json").read_text(encoding="utf-8")):
        if "eval_loss" in entry:
            listener.keep(int(entry["step"]), float(entry["eval_loss"]))
    trained = {step: loss for step, loss in listener.losses.items() if step > 0}
    if not trained:
        raise TrainingError(
            "the training measured no validation loss",
            where="training.eval_steps",
            expected="fewer steps than the training has",
            fix="leave training.eval_steps out: a sweep then measures eight times",
        )
    return min(trained.values()) if training.early_stopping else trained[max(trained)]

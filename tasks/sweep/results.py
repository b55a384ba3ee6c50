"""The result of a sweep: its trials, the best of them, and a configuration to run it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.config.sweep import Scalar, with_settings
from tasks.engine.files import write_atomic

if TYPE_CHECKING:
    from optuna import Study

BEST = "best.yaml"
# Attributes of a trial in the study. LOSSES is step to validation loss, in the order measured.
ERROR, LOSSES, RUN_ID, SECONDS = "error", "validation_losses", "mlflow_run_id", "seconds"


class Outcome(StrEnum):
    """How a trial ended, under the name of its state in Optuna."""

    COMPLETE = "finished"
    PRUNED = "pruned"
    """Stopped early, because it was worse than the median of the others."""
    FAIL = "failed"
    """A guard stopped the training: the loss became NaN, memory ran out and the like."""


class TrialResult(Record):
    """A trial that is over."""

    number: int
    outcome: Outcome
    settings: dict[str, Scalar]
    """Key within the training section to value."""
    validation_loss: float | None
    """Nats per token, of the trained model; the last measured where the training was stopped."""
    seconds: float
    """Of all attempts."""
    error: str = ""
    mlflow_run_id: str = ""


class SweepReport(Record):
    """The JSON document of `sft-flow sweep`."""

    folder: Path
    trials: tuple[TrialResult, ...]
    best: TrialResult | None
    """The finished trial with the smallest validation loss; None when none was finished."""
    best_config: Path | None
    is_timed_out: bool
    mlflow_run_id: str


def list_trials(study: Study) -> tuple[TrialResult, ...]:
    """List the trials that are over, in the order they were drawn."""
    results = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            known = trial.user_attrs
            outcome = Outcome[trial.state.name]
            last = [None, *known.get(LOSSES, {}).values()][-1]
            result = TrialResult(
                number=trial.number,
                outcome=outcome,
                settings=trial.params,
                validation_loss=trial.value if outcome is Outcome.COMPLETE else last,
                seconds=round(known.get(SECONDS, 0.0), 3),
                error=known.get(ERROR, ""),
                mlflow_run_id=known.get(RUN_ID, ""),
            )
            results.append(result)
    return tuple(results)


def find_best(trials: tuple[TrialResult, ...]) -> TrialResult | None:
    """Find the finished trial with the smallest validation loss, the first of equals."""
    finished = [trial for trial in trials if trial.outcome is Outcome.COMPLETE]
    return min(finished, key=lambda trial: trial.validation_loss or 0.0, default=None)


def write_best(config: RunConfig, best: TrialResult, path: Path) -> dict[str, Any]:
    """Write the configuration with the best settings, for its owner alone: it may have passwords.

    Returns what was written.
    """
    tuned = with_settings(config, best.settings)
    settings = tuned.model_dump(mode="json", exclude_unset=True)
    head = f"# sft-flow sweep: trial {best.number}, validation loss {best.validation_loss:.6f}\n"
    path.touch(mode=0o600)
    write_atomic(path, head + yaml.safe_dump(settings, sort_keys=False))
    path.chmod(0o600)
    return settings

"""What a sweep has found: its trials, the best of them, and a configuration to run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.config.sweep import Scalar, with_settings
from tasks.engine.files import write_atomic
from tasks.sweep._listener import LOSSES
from tasks.sweep._trial import ERROR, RUN_ID, SECONDS, Outcome

if TYPE_CHECKING:
    from optuna import Study

BEST = "best.yaml"


class TrialResult(Record):
    """One line of the table of trials."""

    number: int
    outcome: Outcome
    settings: dict[str, Scalar]
    """Key within the training section to value."""
    validation_loss: float | None
    """Nats per token, of the model the training left; of a pruned one, the last measured."""
    seconds: float
    error: str = ""
    mlflow_run_id: str = ""


class SweepReport(Record):
    """What `sft-flow sweep` says."""

    folder: Path
    """Of the study and of `best.yaml`."""
    trials: tuple[TrialResult, ...]
    best: TrialResult | None
    """The finished trial with the smallest validation loss; None when none was finished."""
    best_config: Path | None
    is_timed_out: bool
    """True when time was up before all trials were made."""
    mlflow_run_id: str


def list_trials(study: Study) -> tuple[TrialResult, ...]:
    """Read the trials that are over.

    Args:
        study: The sweep's.

    Returns:
        One entry each, in the order they were drawn.
    """
    from optuna.trial import TrialState

    outcomes = {
        TrialState.COMPLETE: Outcome.FINISHED,
        TrialState.PRUNED: Outcome.PRUNED,
        TrialState.FAIL: Outcome.FAILED,
    }
    results = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state not in outcomes:
            continue
        measured = {int(step): loss for step, loss in trial.user_attrs.get(LOSSES, {}).items()}
        last = measured[max(measured)] if measured else None
        is_whole = trial.state is TrialState.COMPLETE
        result = TrialResult(
            number=trial.number,
            outcome=outcomes[trial.state],
            settings=trial.params,
            validation_loss=trial.value if is_whole else last,
            seconds=trial.user_attrs.get(SECONDS, 0.0),
            error=trial.user_attrs.get(ERROR, ""),
            mlflow_run_id=trial.user_attrs.get(RUN_ID, ""),
        )
        results.append(result)
    return tuple(results)


def find_best(trials: tuple[TrialResult, ...]) -> TrialResult | None:
    """Choose the settings to train with.

    Args:
        trials: Those that are over.

    Returns:
        The finished one with the smallest validation loss, the first of equals; None if none is.
    """
    finished = [trial for trial in trials if trial.outcome is Outcome.FINISHED]
    return min(finished, key=lambda trial: trial.validation_loss or 0.0, default=None)


def write_best(config: RunConfig, best: TrialResult, path: Path) -> dict[str, Any]:
    """Write the user's configuration with the best settings, to run it.

    Args:
        config: What the user configured.
        best: The best trial.
        path: The file; readable by its owner alone, since addresses in it may hold passwords.

    Returns:
        What was written.
    """
    tuned = with_settings(config, best.settings)
    settings = tuned.model_dump(mode="json", exclude_unset=True)
    head = f"# sft-flow sweep: trial {best.number}, validation loss {best.validation_loss:.6f}\n"
    path.touch(mode=0o600)
    write_atomic(path, head + yaml.safe_dump(settings, sort_keys=False))
    path.chmod(0o600)
    return settings

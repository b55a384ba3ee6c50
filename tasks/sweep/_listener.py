"""Hears the training process of a trial: keeps its losses and stops it when it is poor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import TrainingError
from tasks.engine.progress import progress_bar
from tasks.sweep._mlflow_runs import SweepRuns
from tasks.training.process.spec import EventKind, TrainingEvent

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

N_POINTS = 8
"""Points of a training at which trials are compared: its eighths, however many steps it has."""
WARM_UP_POINTS = 2
"""First point at which a trial may be stopped; before it the learning rate still rises."""
LOSSES = "validation_losses"
"""Attribute of a trial in the study: step to validation loss."""


class TrialListener:
    """Hears the training process of a trial: keeps its losses and stops it when it is poor."""

    def __init__(self, trial: Trial, runs: SweepRuns, run_id: str) -> None:
        """Take up what an interrupted attempt has measured already.

        Args:
            trial: Of the study.
            runs: Where losses are logged.
            run_id: The trial's run.
        """
        self.trial = trial
        self.runs = runs
        self.run_id = run_id
        known: dict[str, float] = trial.user_attrs.get(LOSSES, {})
        self.losses = {int(step): loss for step, loss in known.items()}
        self.points: set[int] = set(self._stored().intermediate_values)
        self.n_steps = 0
        self.bar: Any = None

    def _stored(self) -> FrozenTrial:
        return self.trial.study.get_trials(deepcopy=False)[self.trial.number]

    def __call__(self, event: TrainingEvent) -> None:
        """Take one event.

        Args:
            event: What the process said.
        """
        if event.kind is EventKind.STARTED:
            self.close()  # a process that was started again with less memory
            self.n_steps = event.n_steps
            label = f"trial {self.trial.number}"
            self.bar = progress_bar(total=event.n_steps, label=label, unit="step")
            self.bar.update(event.step)
        elif event.kind is EventKind.STEP and self.bar is not None:
            self.bar.update(event.step - self.bar.n)
        elif event.kind is EventKind.MEASURED and event.loss is not None:
            self._measured(event.step, event.loss)

    def _measured(self, step: int, loss: float) -> None:
        """Keep a validation loss; those between checkpoint and interruption come twice."""
        import optuna

        self._keep(step, loss)
        point = round(N_POINTS * step / max(self.n_steps, 1))
        if point in self.points or not 0 < point < N_POINTS:
            return  # what is trained to its end need not be stopped
        self.points.add(point)
        self.trial.report(loss, point)
        if self.trial.should_prune():
            raise optuna.TrialPruned

    def _keep(self, step: int, loss: float) -> None:
        if step not in self.losses:
            self.losses[step] = loss
            self.trial.set_user_attr(LOSSES, {str(at): value for at, value in self.losses.items()})
            self.runs.measure(self.run_id, loss, step)

    def catch_up(self, history: Path) -> None:
        """Keep what nobody heard: the process goes on to its checkpoint after an interruption.

        Args:
            history: `history.json` of the finished training.
        """
        for entry in json.loads(history.read_text(encoding="utf-8")):
            if "eval_loss" in entry:
                self._keep(int(entry["step"]), float(entry["eval_loss"]))

    def close(self) -> None:
        """Take the progress bar away."""
        if self.bar is not None:
            self.bar.close()

    def final_loss(self, *, is_best_kept: bool) -> float:
        """Give the validation loss of the model that the training has left.

        Args:
            is_best_kept: True where early stopping makes the best checkpoint the model.

        Returns:
            Nats per token: the smallest measured, or the last.

        Raises:
            TrainingError: Nothing was measured.
        """
        trained = {step: loss for step, loss in self.losses.items() if step > 0}
        if not trained:
            raise TrainingError(
                "the training measured no validation loss",
                where="training.eval_steps",
                expected="fewer steps than the training has",
                fix="leave training.eval_steps out: a sweep then measures eight times",
            )
        return min(trained.values()) if is_best_kept else trained[max(trained)]

"""The MLflow runs of a sweep: one for the whole, and below it one for each trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.engine.redaction import public_settings
from tasks.registry.store import connect, experiment_id, store_errors
from tasks.registry.tags import ERROR_TAG, SWEEP_TAG, TRIAL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
VALIDATION_LOSS = "validation_loss"
MAX_TAG_CHARACTERS = 5000
"""Longest value of a tag in MLflow 3.17 (500 until 2.x)."""


class SweepRuns:
    """Writes to the store; runs that an earlier call of the sweep made are gone on with."""

    def __init__(self, experiment: str, digest: str) -> None:
        """Open the store.

        Args:
            experiment: Name of the MLflow experiment.
            digest: Names the sweep.
        """
        self.client: MlflowClient = connect()
        self.digest = digest
        with store_errors():
            self.experiment_id = experiment_id(self.client, experiment)

    def open_sweep(self, run_id: str | None, name: str, params: Mapping[str, Any]) -> str:
        """Open the run of the whole sweep.

        Args:
            run_id: The run of an earlier call.
            name: What it is called.
            params: What the sweep varies, and how.

        Returns:
            The run's id.
        """
        return self._open(run_id, name, params, {SWEEP_TAG: self.digest})

    def open_trial(
        self, run_id: str | None, parent_id: str, number: int, params: Mapping[str, Any]
    ) -> str:
        """Open the run of one trial.

        Args:
            run_id: Its run, when the trial was interrupted.
            parent_id: The run of the sweep.
            number: Of the trial, from 0.
            params: The sampled settings.

        Returns:
            The run's id.
        """
        tags = {PARENT_TAG: parent_id, SWEEP_TAG: self.digest, TRIAL_TAG: str(number)}
        return self._open(run_id, f"trial {number}", params, tags)

    def _open(
        self, run_id: str | None, name: str, params: Mapping[str, Any], tags: dict[str, str]
    ) -> str:
        from mlflow.entities import Param

        with store_errors():
            former = self._find(run_id, tags) if run_id else None
            if former:
                self.client.update_run(former.info.run_id, status="RUNNING")
                if ERROR_TAG in former.data.tags:
                    self.client.delete_tag(former.info.run_id, ERROR_TAG)
                return str(former.info.run_id)
            run = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
            texts = public_settings({key: str(value) for key, value in params.items()})
            written = [Param(key, value) for key, value in texts.items()]
            self.client.log_batch(run.info.run_id, params=written)
            return str(run.info.run_id)

    def _find(self, run_id: str, tags: Mapping[str, str]) -> Run | None:
        """Find a run; it may have been deleted, or MLflow may be another one than it was."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        has_tags = all(run.data.tags.get(name) == value for name, value in tags.items())
        return run if run.info.lifecycle_stage == "active" and has_tags else None

    def measure(self, run_id: str, loss: float, step: int = 0) -> None:
        """Log a validation loss.

        Args:
            run_id: The run of a trial or of the sweep.
            loss: Nats per supervised token.
            step: Optimiser steps made.
        """
        with store_errors():
            self.client.log_metric(run_id, VALIDATION_LOSS, loss, int(time.time() * 1000), step)

    def keep_text(self, run_id: str, text: str, name: str) -> None:
        """Keep a file with a run.

        Args:
            run_id: The run.
            text: The file's content.
            name: The file's name.
        """
        with store_errors():
            self.client.log_text(run_id, text, name)

    def close(self, run_id: str, status: str, error: str = "") -> None:
        """End a run.

        Args:
            run_id: The run.
            status: FINISHED, KILLED or FAILED, as MLflow calls it.
            error: What went wrong, in one sentence.
        """
        with store_errors():
            if error:
                self.client.set_tag(run_id, ERROR_TAG, error[:MAX_TAG_CHARACTERS])
            self.client.set_terminated(run_id, status)

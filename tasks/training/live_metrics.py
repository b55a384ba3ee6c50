"""The training's own MLflow run: loss and speed while it goes on, and how it ended."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from schemas.base import Record
from schemas.errors import TrainingInterrupted, interruption_of
from tasks.engine.files import write_atomic
from tasks.engine.home import store_name
from tasks.engine.pusher import Pusher
from tasks.registry.open_runs import OpenRun
from tasks.registry.store import connect, experiment_id, flatten
from tasks.registry.tags import ERROR_TAG, STAGE_TAG, TRAINING_FINGERPRINT_TAG
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_FILE = "mlflow_run.json"
PUSH_SECONDS = 5.0
MAX_BATCH_METRICS = 1000
"""MLflow's limit of one request."""
MAX_ERROR_CHARACTERS = 500


class TrainingRun(Record):
    """Which MLflow run a training writes to; kept with its checkpoints."""

    run_id: str
    tracking_uri: str
    """Without secrets: shows whether the run is in the store in use."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    step: int
    timestamp_milliseconds: int


def read_training_run(folder: Path) -> TrainingRun | None:
    """Read the run of a training from its checkpoints or its output.

    None when there is none in the store in use.
    """
    try:
        text = (folder / RUN_FILE).read_text(encoding="utf-8")
        run = TrainingRun.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    return run if run.tracking_uri == store_name() else None


def log_points(client: MlflowClient, run_id: str, points: list[Point]) -> None:
    """Log values of any metrics and steps in as few requests as MLflow allows."""
    from mlflow.entities import Metric

    for start in range(0, len(points), MAX_BATCH_METRICS):
        batch = points[start : start + MAX_BATCH_METRICS]
        client.log_batch(
            run_id,
            [Metric(one.name, one.value, one.timestamp_milliseconds, one.step) for one in batch],
        )


def event_points(event: TrainingEvent) -> list[Point]:
    """Return what an event measured, under the names that the registered version's run uses."""
    if event.kind is EventKind.MEASURED:
        values = {"eval_loss": event.loss}
    elif event.kind is EventKind.STEP:
        names = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
        values = {name: getattr(event, name) for name in names}
    else:
        return []
    now = round(time.time() * 1000)
    return [
        Point(f"train/{name}", value, event.step, now)
        for name, value in values.items()
        if value is not None
    ]


def unknown_points(
    points: list[Point], known_steps: dict[str, int]
) -> tuple[list[Point], dict[str, int]]:
    """Leave out steps that are repeated after a resume; their values are the same.

    Args:
        points: In the order they were measured.
        known_steps: By metric, the last step that was logged.

    Returns:
        The points to log, and the last steps after them.
    """
    new: list[Point] = []
    known_steps = dict(known_steps)
    for point in points:
        if point.step > known_steps.get(point.name, -1):
            known_steps[point.name] = point.step
            new.append(point)
    return new, known_steps


class LiveMetrics:
    """A run that is created when the training starts and goes on when it is resumed.

    A thread of its own writes to the store. When the store cannot be reached there is one warning,
    training goes on, and what was measured meanwhile is sent when the store answers again.
    """

    def __init__(self, spec: TrainingSpec, experiment: str, warn: Callable[[str], object]) -> None:
        """Prepare; the first request to the store is sent when the block is entered.

        Args:
            spec: The training; its checkpoints keep the run's id.
            experiment: Name of the MLflow experiment.
            warn: Gets one sentence when the store cannot be reached.
        """
        self._spec = spec
        self._experiment = experiment
        self._lock = threading.Lock()
        self._points: list[Point] = []
        self._known_steps: dict[str, int] = {}
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._open: OpenRun | None = None
        self._end: tuple[str, str] | None = None
        self._pusher = Pusher(
            self._push, name="live metrics in MLflow", every_seconds=PUSH_SECONDS, warn=warn
        )

    def __enter__(self) -> LiveMetrics:
        """Start the run, or go on with it."""
        self._spec.checkpoints.mkdir(parents=True, exist_ok=True)
        self._pusher.start()
        return self

    def __call__(self, event: TrainingEvent) -> None:
        """Keep what an event measured until the next batch."""
        with self._lock:
            self._points.extend(event_points(event))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Send the rest, and the status that the training ended with."""
        self._end = ending(error)
        self._pusher.close()
        if self._open:
            self._open.leave()

    def _push(self) -> None:
        """Send what is new; whatever fails is sent again the next time."""
        if self._client is None:
            client = connect()
            self._run_id = self._open_run(client)
            self._client = client
        end = self._end  # before the points: none comes after it is set
        with self._lock:
            points = list(self._points)
        new, known_steps = unknown_points(points, self._known_steps)
        log_points(self._client, self._run_id, new)
        self._known_steps = known_steps
        with self._lock:
            del self._points[: len(points)]
        if end is not None:
            status, sentence = end
            if sentence:
                self._client.set_tag(self._run_id, ERROR_TAG, sentence)
            self._client.set_terminated(self._run_id, status)
            if self._open:
                self._open.close()
                self._open = None

    def _open_run(self, client: MlflowClient) -> str:
        known = read_training_run(self._spec.checkpoints)
        run = _find_run(client, known.run_id) if known else None
        if run is not None:
            self._hold(run.info.run_id)
            self._known_steps = _last_steps(client, run)
            if ERROR_TAG in run.data.tags:
                client.delete_tag(run.info.run_id, ERROR_TAG)
            client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        run_id = self._create_run(client)
        record = TrainingRun(run_id=run_id, tracking_uri=store_name())
        write_atomic(self._spec.checkpoints / RUN_FILE, record.model_dump_json(indent=1))
        return run_id

    def _hold(self, run_id: str) -> None:
        if self._open is None:  # else of a push that failed half-way
            self._open = OpenRun(run_id)

    def _create_run(self, client: MlflowClient) -> str:
        from mlflow.entities import Param

        parts = json.dumps(self._spec.fingerprint, sort_keys=True)
        digest = hashlib.sha256(parts.encode()).hexdigest()
        run = client.create_run(
            experiment_id(client, self._experiment),
            run_name=f"train-{digest[:8]}",
            tags={STAGE_TAG: "train_model", TRAINING_FINGERPRINT_TAG: digest},
        )
        self._hold(run.info.run_id)
        settings = flatten(self._spec.training.model_dump(mode="json"), "training.")
        params = [Param(name, value) for name, value in settings.items()]
        client.log_batch(run.info.run_id, params=[*params, Param("seed", str(self._spec.seed))])
        return str(run.info.run_id)


def ending(error: BaseException | None) -> tuple[str, str]:
    """Return MLflow's status for how a training ended, and the first line of its error."""
    if error is None:
        return "FINISHED", ""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:MAX_ERROR_CHARACTERS]
    is_stopped = isinstance(error, TrainingInterrupted) or not isinstance(error, Exception)
    return "KILLED" if is_stopped or interruption_of(error) else "FAILED", line


def _find_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return a run that can be written to; None when it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _last_steps(client: MlflowClient, run: Run) -> dict[str, int]:
    """Return the last logged step of each metric: steps after a checkpoint are repeated."""
    return {
        name: max(metric.step for metric in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }

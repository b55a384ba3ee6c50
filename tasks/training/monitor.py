"""Shows a training while it runs: as progress, as lines of the log, and in MLflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from pydantic import ValidationError

from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from tasks.engine.progress import Progress
from tasks.engine.wording import number
from tasks.training.live_metrics import LiveMetrics
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

CONFIG_PARAMETER = "config"
"""Flow parameter with the complete configuration."""


def running_registry() -> RegistryConfig | None:
    """Find out where the model of the flow run is to be registered.

    It is no argument of the training stage, since no weight depends on it.

    Returns:
        Name and experiment; None outside a flow run with a configuration.
    """
    context = FlowRunContext.get()
    config = ((context.parameters if context else None) or {}).get(CONFIG_PARAMETER)
    if isinstance(config, Mapping):
        try:
            config = RunConfig.model_validate(config)
        except ValidationError:
            return None
    return config.registry if isinstance(config, RunConfig) else None


class TrainingMonitor:
    """Shows each event of a training; no view of it can stop the training."""

    def __init__(self, spec: TrainingSpec, clock: Callable[[], float] = time.monotonic) -> None:
        """Find the log, and the MLflow experiment if there is one."""
        self._clock = clock
        is_run = bool(FlowRunContext.get() or TaskRunContext.get())
        self._logger = get_run_logger() if is_run else logging.getLogger(__name__)
        registry = running_registry()
        self._metrics = (
            LiveMetrics(spec, registry.experiment, self._logger.warning) if registry else None
        )
        self._progress: Progress | None = None
        self._loss: float | None = None
        self._tokens_per_second: float | None = None

    def __enter__(self) -> TrainingMonitor:
        """Start to show the training."""
        if self._metrics:
            self._metrics.__enter__()
        return self

    def __call__(self, event: TrainingEvent) -> None:
        """Show an event of the training process."""
        if self._metrics:
            self._metrics(event)
        if event.kind is EventKind.STARTED:
            self._line(f"{event.n_steps} steps, starting at step {event.step}")
            self._start(event)
        elif event.kind is EventKind.STEP:
            self._step(event)
        elif event.kind is EventKind.MEASURED and event.loss is not None:
            self._line(f"validation loss {number(event.loss)} at step {event.step}")
        elif event.kind is EventKind.SAVED:
            self._line(f"checkpoint at step {event.step}")
        elif event.kind is EventKind.NOTE:
            self._line(event.detail)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every view, and keep in MLflow how the training ended."""
        self._close()
        if self._metrics:
            self._metrics.__exit__(kind, error, trace)

    def _line(self, text: str) -> None:
        self._logger.info("training: %s", text)

    def _close(self) -> None:
        if self._progress:
            self._progress.close()

    def _start(self, event: TrainingEvent) -> None:
        """Count from the step a process starts at; a resumed one warms up again."""
        self._close()
        self._progress = Progress(
            "training",
            "step",
            event.n_steps,
            event.step,
            write=self._logger.info,
            next_line_seconds=0.0,
            clock=self._clock,
        )

    def _step(self, event: TrainingEvent) -> None:
        if self._progress is None:
            return
        self._loss = self._loss if event.loss is None else event.loss
        self._tokens_per_second = event.tokens_per_second or self._tokens_per_second
        parts = [] if self._loss is None else [f"loss {number(self._loss)}"]
        if self._tokens_per_second is not None:
            parts.append(f"{self._tokens_per_second:,.0f} tokens/s")
        self._progress.detail = ", ".join(parts)
        self._progress.total = event.n_steps or self._progress.total
        self._progress.update(event.step - self._progress.n)

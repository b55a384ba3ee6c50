"""Shows a training while it goes on: in the terminal, in MLflow and on Prefect's page of the run."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from pydantic import ValidationError

from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from tasks.engine.progress import progress_bar
from tasks.engine.run_bar import slug
from tasks.engine.wording import span
from tasks.training._pusher import Pusher
from tasks.training.live_metrics import LiveMetrics
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

LINE_SECONDS = 30.0
"""Least time between two lines where nobody watches a terminal."""
ARTIFACT_SECONDS = 5.0
ARTIFACT_SUFFIX = "-training"
"""Follows the registered name in the key of the bar."""
CONFIG_PARAMETER = "config"
"""Flow parameter with the whole configuration."""


class Pace:
    """Where the training stands, and how long the rest takes at the pace so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at nothing.

        Args:
            clock: Seconds since any moment.
        """
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._latest_seconds = 0.0
        self.step = 0
        self.n_steps = 0
        self.loss: float | None = None
        self.tokens_per_second: float | None = None

    def __call__(self, event: TrainingEvent) -> None:
        """Follow the training.

        Args:
            event: Of the training process.
        """
        if event.kind is EventKind.STARTED:
            self._first = None  # a resumed process warms up again
            self.step, self.n_steps = event.step, event.n_steps
        elif event.kind is EventKind.STEP:
            self._latest_seconds = self._clock()
            self._first = self._first or (self._latest_seconds, event.step)
            self.step, self.n_steps = event.step, event.n_steps or self.n_steps
            self.loss = self.loss if event.loss is None else event.loss
            self.tokens_per_second = event.tokens_per_second or self.tokens_per_second

    @property
    def percent(self) -> float:
        """Share of the steps that are made, 0 to 100."""
        return min(100.0, 100 * self.step / self.n_steps) if self.n_steps else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time for the steps still to make; None before the second step."""
        if self._first is None or self.step <= self._first[1]:
            return None
        seconds, step = self._first
        return (self._latest_seconds - seconds) / (self.step - step) * (self.n_steps - self.step)

    def __str__(self) -> str:
        """Say all of it in one line."""
        parts = [f"step {self.step} of {self.n_steps}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if self.seconds_left is not None and self.step < self.n_steps:
            parts.append(f"{span(self.seconds_left)} left")
        return ", ".join(parts)


class TerminalProgress:
    """A bar where somebody watches, otherwise a line every so often."""

    def __init__(
        self,
        pace: Pace,
        say: Callable[[str], object],
        *,
        is_watched: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            pace: Where the training stands; follows the events before this does.
            say: Gets each line.
            is_watched: Standard error is a terminal.
            clock: Seconds since any moment.
        """
        self._pace = pace
        self._say = say
        self._is_watched = is_watched
        self._clock = clock
        self._bar: Any = None
        self._next_line_seconds = float("-inf")

    def __call__(self, event: TrainingEvent) -> None:
        """Show what an event says.

        Args:
            event: Of the training process.
        """
        if event.kind is EventKind.STARTED:
            self._line(f"{event.n_steps} steps, starting at step {event.step}")
            self._start_bar()
        elif event.kind is EventKind.STEP:
            self._move()
        elif event.kind is EventKind.MEASURED and event.loss is not None:
            self._line(f"validation loss {event.loss:.4f} at step {event.step}")
        elif event.kind is EventKind.SAVED:
            self._line(f"checkpoint at step {event.step}")
        elif event.kind is EventKind.NOTE:
            self._line(event.detail)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self, text: str) -> None:
        """Write a line above the bar."""
        with self._bar.external_write_mode(sys.stderr) if self._bar else contextlib.nullcontext():
            self._say(f"training: {text}")

    def _start_bar(self) -> None:
        self.close()
        if self._is_watched:
            self._bar = progress_bar(
                total=self._pace.n_steps, label="train", unit="step", initial=self._pace.step
            )

    def _move(self) -> None:
        pace = self._pace
        if self._bar is not None:
            figures = {} if pace.loss is None else {"loss": f"{pace.loss:.3f}"}
            if pace.tokens_per_second is not None:
                figures["tok/s"] = f"{pace.tokens_per_second:,.0f}"
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(pace.step - self._bar.n)
        elif self._clock() >= self._next_line_seconds:
            self._next_line_seconds = self._clock() + LINE_SECONDS
            self._say(f"training: {pace}")


class ProgressArtifact:
    """A progress bar on Prefect's page of the run, moved by a thread of its own."""

    def __init__(self, pace: Pace, key: str | None, warn: Callable[[str], object]) -> None:
        """Prepare; Prefect's server is first spoken to when the block is entered.

        Args:
            pace: Where the training stands.
            key: Under which the bars of former runs are found again.
            warn: Gets one sentence when the server does not answer.
        """
        self._pace, self._key = pace, key
        self._artifact_id: UUID | None = None
        self._shown: tuple[float, str] | None = None
        self._pusher = Pusher(
            self._push,
            name="progress on Prefect's page",
            every_seconds=ARTIFACT_SECONDS,
            warn=warn,
        )

    def __enter__(self) -> ProgressArtifact:
        """Show the bar."""
        self._pusher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Move the bar a last time."""
        self._pusher.close()

    def _push(self) -> None:
        now = (round(self._pace.percent, 1), str(self._pace))
        if now == self._shown:
            return
        percent, description = now
        if self._artifact_id is None:
            made = create_progress_artifact(percent, key=self._key, description=description)
            self._artifact_id = cast(UUID, made)  # a coroutine only in asynchronous code
        else:
            update_progress_artifact(self._artifact_id, percent, description=description)
        self._shown = now


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
    """Passes each event of the training to all that show it; none of them can stop it."""

    def __init__(self, spec: TrainingSpec) -> None:
        """Find out who can be shown anything.

        Args:
            spec: The training.
        """
        is_run = bool(FlowRunContext.get() or TaskRunContext.get())
        logger = get_run_logger() if is_run else logging.getLogger(__name__)
        pace = Pace()
        self._terminal = TerminalProgress(pace, logger.info, is_watched=sys.stderr.isatty())
        self._listeners: list[Callable[[TrainingEvent], None]] = [pace, self._terminal]
        self._blocks: list[AbstractContextManager[Any]] = []
        registry = running_registry()
        if registry is not None:
            metrics = LiveMetrics(spec, registry.experiment, logger.warning)
            self._listeners.append(metrics)
            self._blocks.append(metrics)
        if is_run:
            key = f"{slug(registry.name)}{ARTIFACT_SUFFIX}" if registry else None
            self._blocks.append(ProgressArtifact(pace, key, logger.warning))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> TrainingMonitor:
        """Begin to show the training."""
        for block in self._blocks:
            self._stack.enter_context(block)
        self._stack.callback(self._terminal.close)
        return self

    def __call__(self, event: TrainingEvent) -> None:
        """Show an event.

        Args:
            event: Of the training process.
        """
        for listen in self._listeners:
            listen(event)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say how the training ended, everywhere."""
        self._stack.__exit__(kind, error, trace)

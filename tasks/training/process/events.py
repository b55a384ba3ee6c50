"""Communication of the training process: events to its parent, and requests to stop."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tasks.engine.processes import find_process
from tasks.training.process.spec import STOP_FILE, EventKind, TrainingEvent

PARENT_VARIABLE = "SFT_FLOW_PARENT"
"""Identity of the process that waits for the result."""
EVENT_STREAM = 1
"""File descriptor of the events; `open_events` moves it, since libraries print to standard output."""


def open_events() -> None:
    """Keep standard output for events: what libraries print goes to the log from now on."""
    global EVENT_STREAM  # one stream per process, as standard output is
    EVENT_STREAM = os.dup(1)
    os.dup2(2, 1)


def send(event: TrainingEvent) -> None:
    """Write one event to the parent; only the first process writes, and any that fails."""
    if os.environ.get("RANK", "0") == "0" or event.kind is EventKind.FAILED:
        with suppress(BrokenPipeError):  # the parent is gone; StopFlag detects it and saves
            os.write(EVENT_STREAM, (event.model_dump_json() + "\n").encode())


class StopFlag:
    """Whether training should save and stop; checked after every step."""

    def __init__(self, checkpoints: Path) -> None:
        """Remember who started this process, and handle SIGTERM."""
        self.launcher = os.getppid()
        self.parent = os.environ.get(PARENT_VARIABLE, "")
        self.request = checkpoints / STOP_FILE
        self.is_told = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        self.is_told = True

    @property
    def is_set(self) -> bool:
        """Return whether a signal or the parent requested a stop, or the parent is gone."""
        return self.is_told or self.request.exists() or self._is_orphan

    @property
    def _is_orphan(self) -> bool:
        if os.getppid() != self.launcher:
            return True
        return bool(self.parent) and find_process(self.parent) is None

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine.wording import span
from tasks.training.monitor import Pace, TerminalProgress, TrainingMonitor, running_registry
from tasks.training.process.spec import EventKind, TrainingEvent
from tests.support.trainings import make_spec


def started(step: int = 0, n_steps: int = 10) -> TrainingEvent:
    return TrainingEvent(kind=EventKind.STARTED, step=step, n_steps=n_steps)


def made(step: int, loss: float = 1.5, tokens_per_second: float | None = None) -> TrainingEvent:
    return TrainingEvent(
        kind=EventKind.STEP, step=step, loss=loss, tokens_per_second=tokens_per_second
    )


def clock_of(*seconds: float) -> Callable[[], float]:
    return iter(seconds).__next__


def test_pace_leaves_out_the_first_step() -> None:
    pace = Pace(clock_of(100.0, 104.0))
    for event in (started(4), made(5), made(7, tokens_per_second=1234.0)):
        pace(event)
    assert pace.seconds_left == 6.0  # two steps took 4 s, three are left
    assert pace.percent == 70.0
    assert str(pace) == "step 7 of 10, loss 1.500, 1,234 tokens/s, 6 s left"


def test_pace_knows_nothing_before_the_second_step() -> None:
    pace = Pace(clock_of(100.0))
    assert (pace.percent, pace.seconds_left) == (0.0, None)
    pace(started(4))
    pace(made(5))
    assert pace.seconds_left is None
    assert str(pace) == "step 5 of 10, loss 1.500"


def test_pace_starts_again_with_a_resumed_process() -> None:
    pace = Pace(clock_of(0.0, 1.0, 900.0))
    for event in (started(), made(1), made(2), started(2), made(3)):
        pace(event)
    assert (pace.step, pace.seconds_left) == (3, None)


def test_span_is_coarser_the_longer_it_is() -> None:
    assert [span(seconds) for seconds in (5, 89, 90, 5399, 5400)] == [
        "5 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
    ]


def show(is_watched: bool, clock: Callable[[], float], *events: TrainingEvent) -> list[str]:
    lines: list[str] = []
    pace = Pace(lambda: 0.0)
    progress = TerminalProgress(pace, lines.append, is_watched=is_watched, clock=clock)
    for event in events:
        pace(event)
        progress(event)
    progress.close()
    return lines


def test_unwatched_terminal_gets_a_line_every_so_often_and_every_event_but_steps() -> None:
    times = iter([0.0, 0.0, 29.0, 30.0, 30.0]).__next__
    assert show(
        False,
        times,
        started(),
        made(1),
        made(2),
        made(3),
        TrainingEvent(kind=EventKind.SAVED, step=3),
        TrainingEvent(kind=EventKind.MEASURED, step=3, loss=2.0),
        TrainingEvent(kind=EventKind.NOTE, detail="the batch was halved"),
        TrainingEvent(kind=EventKind.FAILED, detail="raised by the runner"),
    ) == [
        "training: 10 steps, starting at step 0",
        "training: step 1 of 10, loss 1.500",
        "training: step 3 of 10, loss 1.500, 0 s left",
        "training: checkpoint at step 3",
        "training: validation loss 2.0000 at step 3",
        "training: the batch was halved",
    ]


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


def test_watched_terminal_gets_a_bar_that_begins_where_training_was_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    events = [started(4), made(5), TrainingEvent(kind=EventKind.SAVED, step=5)]
    lines = show(True, lambda: 0.0, *events)
    assert "train:  40%" in terminal.getvalue()
    assert "4/10" in terminal.getvalue()
    assert "loss=1.500" in terminal.getvalue()  # shown anew below the line
    assert lines == [
        "training: 10 steps, starting at step 4",
        "training: checkpoint at step 5",
    ]


def test_running_registry_is_none_outside_a_flow() -> None:
    assert running_registry() is None


def test_monitor_outside_a_run_shows_the_terminal_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec(tmp_path)
    with caplog.at_level("INFO"), TrainingMonitor(spec) as monitor:
        monitor(started())
        monitor(made(1))
    assert "training: step 1 of 10, loss 1.500" in caplog.messages
    assert not spec.checkpoints.exists()

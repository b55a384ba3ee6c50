from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.progress import open_progress, shown_on_screen
from tasks.engine.wording import span
from tasks.training.monitor import TrainingMonitor, running_registry
from tasks.training.process.spec import EventKind, TrainingEvent
from tests.support.trainings import make_spec


def started(step: int = 0, n_steps: int = 10) -> TrainingEvent:
    return TrainingEvent(kind=EventKind.STARTED, step=step, n_steps=n_steps)


def made(step: int, loss: float = 1.5, tokens_per_second: float | None = None) -> TrainingEvent:
    return TrainingEvent(
        kind=EventKind.STEP, step=step, loss=loss, tokens_per_second=tokens_per_second
    )


def test_span_is_coarser_the_longer_it_is() -> None:
    assert [span(seconds) for seconds in (5, 89, 90, 5399, 5400)] == [
        "5 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
    ]


def test_lines_show_a_step_every_so_often_and_every_other_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 29.0, 30.0]).__next__
    with caplog.at_level("INFO"), TrainingMonitor(make_spec(tmp_path), clock) as monitor:
        for event in (
            started(),
            made(1),
            made(2),
            made(3),
            TrainingEvent(kind=EventKind.SAVED, step=3),
            TrainingEvent(kind=EventKind.MEASURED, step=3, loss=2.0),
            TrainingEvent(kind=EventKind.NOTE, detail="the batch was halved"),
            TrainingEvent(kind=EventKind.FAILED, detail="raised by the runner"),
        ):
            monitor(event)
    assert caplog.messages == [
        "training: 10 steps, starting at step 0",
        "training: 1 of 10 steps, loss 1.500",
        "training: 3 of 10 steps, loss 1.500, 2 min left",
        "training: checkpoint at step 3",
        "training: validation loss 2 at step 3",
        "training: the batch was halved",
    ]


def test_screen_shows_progress_that_begins_where_training_was_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with shown_on_screen(), TrainingMonitor(make_spec(tmp_path)) as monitor:
        with caplog.at_level("INFO"):
            monitor(started(4))
            work = open_progress()
            assert work is not None
            assert (work.fraction, str(work)) == (0.4, "4 of 10 steps")
            monitor(made(5, tokens_per_second=1234.0))
            monitor(TrainingEvent(kind=EventKind.SAVED, step=5))
        assert str(work) == "5 of 10 steps, loss 1.500, 1,234 tokens/s"
    assert open_progress() is None
    assert caplog.messages == [
        "training: 10 steps, starting at step 4",
        "training: checkpoint at step 5",
    ]


def test_pace_starts_again_with_a_resumed_process(tmp_path: Path) -> None:
    with TrainingMonitor(make_spec(tmp_path)) as monitor:
        for event in (started(), made(1), made(2), started(2), made(3)):
            monitor(event)
        work = open_progress()
        assert work is not None
        assert (work.n, work.seconds_left) == (3, None)


def test_running_registry_is_none_outside_a_flow() -> None:
    assert running_registry() is None


def test_monitor_outside_a_run_shows_the_terminal_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec(tmp_path)
    with caplog.at_level("INFO"), TrainingMonitor(spec) as monitor:
        monitor(started())
        monitor(made(1))
    assert "training: 1 of 10 steps, loss 1.500" in caplog.messages
    assert not spec.checkpoints.exists()

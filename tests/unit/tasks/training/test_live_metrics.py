from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import LossNotFinite, TrainingInterrupted
from tasks.training.live_metrics import (
    RUN_FILE,
    Point,
    ending,
    event_points,
    read_training_run,
    unknown_points,
)
from tasks.training.process.spec import EventKind, TrainingEvent
from tests.support.trainings import make_spec, step, watch


def test_event_points_are_named_as_in_the_versions_run() -> None:
    event = TrainingEvent(
        kind=EventKind.STEP, step=3, loss=1.5, learning_rate=0.1, tokens_per_second=90.0
    )
    assert [point[:3] for point in event_points(event)] == [
        ("train/loss", 1.5, 3),
        ("train/learning_rate", 0.1, 3),
        ("train/tokens_per_second", 90.0, 3),
    ]
    measured = TrainingEvent(kind=EventKind.MEASURED, step=4, loss=2.0)
    assert [point[:3] for point in event_points(measured)] == [("train/eval_loss", 2.0, 4)]
    assert event_points(TrainingEvent(kind=EventKind.SAVED, step=4)) == []


def test_unknown_points_leave_out_steps_made_twice() -> None:
    points = [Point("a", 1.0, 2, 0), Point("a", 1.0, 3, 0), Point("b", 1.0, 1, 0)]
    again = [Point("a", 1.0, 3, 0), Point("a", 1.0, 4, 0)]
    new, known = unknown_points([*points, *again], {"a": 2})
    assert [(one.name, one.step) for one in new] == [("a", 3), ("b", 1), ("a", 4)]
    assert known == {"a": 4, "b": 1}


def test_ending_tells_a_stop_from_a_fault() -> None:
    assert ending(None) == ("FINISHED", "")
    assert ending(LossNotFinite("it is NaN", fix="f")) == ("FAILED", "LossNotFinite: it is NaN")
    stopped = TrainingInterrupted("told to stop")
    assert ending(stopped) == ("KILLED", "TrainingInterrupted: told to stop")
    cut = OSError("commit failed")
    cut.__cause__ = KeyboardInterrupt()
    assert ending(cut) == ("KILLED", "commit failed")
    assert ending(KeyboardInterrupt()) == ("KILLED", "KeyboardInterrupt")


def test_run_of_another_store_or_an_unreadable_record_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_uri = "sqlite:////here.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    assert read_training_run(tmp_path) is None
    (tmp_path / RUN_FILE).write_text("{", encoding="utf-8")
    assert read_training_run(tmp_path) is None
    text = '{"run_id": "r", "tracking_uri": "sqlite:////elsewhere.db"}'
    (tmp_path / RUN_FILE).write_text(text, encoding="utf-8")
    assert read_training_run(tmp_path) is None
    text = f'{{"run_id": "r", "tracking_uri": "{store_uri}"}}'
    (tmp_path / RUN_FILE).write_text(text, encoding="utf-8")
    assert read_training_run(tmp_path) is not None


@pytest.mark.loopback
def test_unreachable_store_gives_one_warning_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # discard: nobody listens
    warnings: list[str] = []
    spec = make_spec(tmp_path)
    watch(spec, step(1), warn=warnings.append)
    assert len(warnings) == 1
    assert warnings[0].startswith("no live metrics in MLflow for now, training goes on: ")
    assert "cannot be reached" in warnings[0]
    assert not (spec.checkpoints / RUN_FILE).exists()

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tasks.storage.unfinished import (
    abandoned_trainings,
    last_written,
    list_trainings,
    lock_at_once,
    remove_leftovers,
    remove_training,
)
from tasks.training.process.checkpoints import hold_lock

OLD = 1_000_000.0
LIMIT = 2_000_000.0


@pytest.fixture
def training(work_folder: Path) -> Path:
    """A training that was killed long ago."""
    folder = work_folder / "checkpoints" / "abc"
    (folder / "checkpoint-20").mkdir(parents=True)
    with hold_lock(folder):
        (folder / "training.log").touch()
    for path in (folder / "checkpoint-20", folder / "training.log", folder):
        os.utime(path, (OLD, OLD))
    return folder


def test_a_training_is_abandoned_when_nothing_in_it_was_written_since(training: Path) -> None:
    assert abandoned_trainings(LIMIT) == [training]
    assert abandoned_trainings(float("-inf")) == []
    os.utime(training / "checkpoint-20")
    assert abandoned_trainings(LIMIT) == []


def test_a_training_that_a_process_has_is_not_abandoned(training: Path) -> None:
    with hold_lock(training):
        assert abandoned_trainings(LIMIT) == []
        assert not remove_training(training, LIMIT)
    assert abandoned_trainings(LIMIT) == [training]
    assert remove_training(training, LIMIT)
    assert list_trainings() == []


def test_a_training_that_was_continued_meanwhile_stays(training: Path) -> None:
    assert abandoned_trainings(LIMIT) == [training]
    (training / "training.log").touch()
    os.utime(training, (OLD, OLD))
    assert not remove_training(training, LIMIT)
    assert (training / "checkpoint-20").is_dir()


def test_looking_for_a_lock_makes_nothing_new(training: Path) -> None:
    with lock_at_once(training / ".lock") as is_locked:
        assert is_locked
    assert last_written(training) == OLD
    (training / ".lock").unlink()
    os.utime(training, (OLD, OLD))
    assert abandoned_trainings(LIMIT) == [training]
    assert last_written(training) == OLD


def test_a_removal_that_was_killed_is_completed(work_folder: Path) -> None:
    left = [work_folder / place / ".tmp-abc-1" for place in ("checkpoints", "rejected/decide")]
    for folder in left:
        (folder / "checkpoint-20").mkdir(parents=True)
    assert list_trainings() == []
    assert list(remove_leftovers(time.time(), is_dry_run=False)) == []
    for folder in left:
        os.utime(folder / "checkpoint-20", (OLD, OLD))
        os.utime(folder, (OLD, OLD))
    assert [path for path, _ in remove_leftovers(time.time(), is_dry_run=False)] == left
    assert not any(folder.exists() for folder in left)

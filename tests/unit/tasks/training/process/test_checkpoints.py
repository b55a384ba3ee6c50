"""Checkpoints are whole or absent, belong to one training, and do not pile up."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import TrainingError
from tasks.training.process.checkpoints import (
    MANIFEST,
    WRITING,
    find_fault,
    hold_lock,
    last_whole_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    seal_checkpoint,
)

PRINT = {"config seed": "3", "input quality": "ab"}


def seal(root: Path, step: int, fingerprint: dict[str, str] = PRINT) -> Path:
    written = root / WRITING / f"checkpoint-{step}"
    (written / "rng").mkdir(parents=True)
    (written / "model.safetensors").write_bytes(bytes(range(step)))
    (written / "rng" / "state.pth").write_bytes(b"r")
    return seal_checkpoint(root, step, fingerprint)


def names(root: Path) -> list[str]:
    return [path.name for path in list_checkpoints(root)]


def test_newest_whole_checkpoint_is_resumed(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        seal(tmp_path, step)
    assert last_whole_checkpoint(tmp_path, PRINT, pytest.fail) == tmp_path / "checkpoint-100"
    assert names(tmp_path) == ["checkpoint-5", "checkpoint-10", "checkpoint-100"]


def test_lock_that_is_held_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        pass
    with (
        hold_lock(tmp_path),
        pytest.raises(TrainingError, match="another process is still training"),
        hold_lock(tmp_path, wait_seconds=0.05),
    ):
        pytest.fail("held twice")


def test_nothing_saved_starts_anew(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path / "none", PRINT, pytest.fail) is None


def test_half_written_checkpoint_is_removed(tmp_path: Path) -> None:
    seal(tmp_path, 5)
    half = tmp_path / WRITING / "checkpoint-10"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert last_whole_checkpoint(tmp_path, PRINT, pytest.fail) == tmp_path / "checkpoint-5"
    assert not half.exists()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "damaged: model.safe"),
        (lambda folder: (folder / "rng" / "state.pth").unlink(), "damaged: rng/state.pth"),
        (lambda folder: (folder / "more").write_text("x"), "damaged: more"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest is missing or unreadable"),
    ],
)
def test_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, harm: object, words: str
) -> None:
    seal(tmp_path, 5)
    harm(seal(tmp_path, 10))  # type: ignore[operator]
    told: list[str] = []
    assert last_whole_checkpoint(tmp_path, PRINT, told.append) == tmp_path / "checkpoint-5"
    assert len(told) == 1
    assert told[0].startswith("checkpoint-10 is not resumed: ")
    assert words in told[0]
    assert names(tmp_path) == ["checkpoint-5"]


def test_checkpoint_of_another_training_is_never_resumed(tmp_path: Path) -> None:
    seal(tmp_path, 5, PRINT | {"input quality": "cd", "library trl": "1"})
    told: list[str] = []
    assert last_whole_checkpoint(tmp_path, PRINT, told.append) is None
    assert told == [
        "checkpoint-5 is not resumed: it belongs to another training: "
        "input quality, library trl differ"
    ]


def test_sealing_a_step_again_keeps_the_first(tmp_path: Path) -> None:
    first = seal(tmp_path, 5)
    seal(tmp_path, 5)
    assert find_fault(first, PRINT) == ""
    assert not list((tmp_path / WRITING).iterdir())


@pytest.mark.parametrize(
    ("n_last", "best", "kept"),
    [(2, None, [15, 20]), (1, 5, [5, 20]), (1, 20, [20]), (9, None, [5, 10, 15, 20])],
)
def test_old_checkpoints_go_the_last_and_the_best_stay(
    tmp_path: Path, n_last: int, best: int | None, kept: list[int]
) -> None:
    for step in (5, 10, 15, 20):
        seal(tmp_path, step)
    prune_checkpoints(tmp_path, n_last, best)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in kept]

"""How the training process is started, and what its end means."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import (
    LossSpike,
    MemoryExhausted,
    SftFlowError,
    TrainingError,
    TrainingInterrupted,
    TrainingKilled,
    is_retryable,
)
from tasks.training import launch
from tasks.training._failures import log_path, training_error
from tasks.training.launch import command, read_event, run_training
from tasks.training.plan.batching import Batching
from tasks.training.plan.choices import choose
from tasks.training.plan.machine import Machine
from tasks.training.process.spec import (
    EXIT_INTERRUPTED,
    EXIT_OUT_OF_MEMORY,
    EventKind,
    TrainingEvent,
    TrainingSpec,
)


def make_spec(root: Path, per_device: int = 4) -> TrainingSpec:
    spec = TrainingSpec(
        model=root,
        train_tokens=root,
        output=root,
        checkpoints=root / "checkpoints",
        fingerprint={},
        training=TrainingConfig(),
        choices=choose(TrainingConfig(), Machine(device="cpu", free_memory_bytes=1), False, None),
        batching=Batching(per_device=per_device, accumulation=1),
        seed=1,
    )
    spec.checkpoints.mkdir()
    log_path(spec).write_text("Traceback\nValueError: no\n")
    return spec


LAUNCHER_TABLE = """torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 18263)
"""


@pytest.mark.parametrize(
    ("code", "kind", "words", "retried"),
    [
        (EXIT_INTERRUPTED, TrainingInterrupted, "saved a checkpoint", False),
        (-9, TrainingKilled, "killed by signal 9", True),
        (137, TrainingKilled, "killed by signal 9", True),
        (1, TrainingError, "exit code 1: ValueError: no", False),
    ],
)
def test_training_error_says_what_happened(
    tmp_path: Path, code: int, kind: type[SftFlowError], words: str, retried: bool
) -> None:
    error = training_error(code, None, make_spec(tmp_path))
    assert type(error) is kind
    assert words in error.what
    assert is_retryable(error) is retried


def test_training_error_is_the_guards_own(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    (spec.checkpoints / "checkpoint-20").mkdir()
    said = TrainingEvent(
        kind=EventKind.FAILED,
        error="LossSpike",
        detail="the loss rose",
        where="step 23",
        fix="lower it",
    )
    error = training_error(65, said, spec)
    assert type(error) is LossSpike
    assert error.what == "training stopped: the loss rose"
    assert error.where == f"step 23; log: {log_path(spec)}"
    assert error.fix == "lower it; checkpoint-20 next to the log keeps what was trained"
    assert not is_retryable(error)


def test_memory_that_never_suffices_ends_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Batching] = []

    def run_out(spec: TrainingSpec, listen: object) -> tuple[int, None]:
        tried.append(spec.batching)
        return EXIT_OUT_OF_MEMORY, None

    monkeypatch.setattr(launch, "_run_once", run_out)
    events: list[TrainingEvent] = []
    with pytest.raises(MemoryExhausted, match="even with one sequence at a time") as caught:
        run_training(make_spec(tmp_path), events.append)
    assert [(batch.per_device, batch.accumulation) for batch in tried] == [(4, 1), (2, 2), (1, 4)]
    assert [event.kind for event in events] == [EventKind.NOTE, EventKind.NOTE]
    assert "gradient_checkpointing" in caught.value.fix


def test_smaller_batch_of_an_earlier_attempt_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path)
    former = spec.model_copy(
        update={"batching": Batching(per_device=1, accumulation=4), "notes": ("short",)}
    )
    (spec.checkpoints / "spec.json").write_text(former.model_dump_json())
    tried: list[TrainingSpec] = []

    def fail(spec: TrainingSpec, listen: object) -> tuple[int, None]:
        tried.append(spec)
        return 1, None

    monkeypatch.setattr(launch, "_run_once", fail)
    with pytest.raises(TrainingError):
        run_training(spec, lambda event: pytest.fail(event.detail))
    assert (tried[0].batching.per_device, tried[0].notes) == (1, ("short",))


def test_killed_process_of_several_is_retried(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    log_path(spec).write_text(LAUNCHER_TABLE)
    error = training_error(1, None, spec)
    assert type(error) is TrainingKilled
    assert "killed by signal 9" in error.what


@pytest.mark.parametrize("kind", [MemoryExhausted, TrainingInterrupted])
def test_what_a_process_of_several_says_counts_more_than_the_launchers_code(
    tmp_path: Path, kind: type[SftFlowError]
) -> None:
    said = TrainingEvent(kind=EventKind.FAILED, error=kind.__name__, detail="x")
    assert type(training_error(1, said, make_spec(tmp_path))) is kind


def test_command_of_one_process_is_python_itself(tmp_path: Path) -> None:
    assert command(tmp_path / "s.json", TrainingConfig())[1:] == [
        "-m",
        "tasks.training.process.run",
        str(tmp_path / "s.json"),
    ]


def test_command_of_several_processes_goes_through_accelerate(tmp_path: Path) -> None:
    words = command(tmp_path / "s.json", TrainingConfig(processes=2))
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    assert "--num_processes=2" in words
    assert words[-3:] == ["--module", "tasks.training.process.run", str(tmp_path / "s.json")]


def test_command_takes_the_users_accelerate_file(tmp_path: Path) -> None:
    words = command(tmp_path / "s.json", TrainingConfig(accelerate_config="a.yaml"))
    assert words[3:5] == ["--config_file", "a.yaml"]


def test_read_event_passes_over_what_libraries_print() -> None:
    assert read_event("Loading: 100%\n") is None
    event = TrainingEvent(kind=EventKind.SAVED, step=3)
    assert read_event(event.model_dump_json() + "\n") == event

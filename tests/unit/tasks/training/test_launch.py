"""How the training process is started, and what its end means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.config.training import Device, TrainingConfig
from schemas.errors import (
    LossSpike,
    MemoryExhausted,
    SftFlowError,
    TrainingError,
    TrainingInterrupted,
    TrainingKilled,
    is_retryable,
)
from tasks.storage.unfinished import last_written
from tasks.training import launch
from tasks.training._failures import log_path, training_error
from tasks.training.launch import command, process_environment, read_event, run_training
from tasks.training.plan.batching import Batching
from tasks.training.plan.choices import choose
from tasks.training.plan.machine import Machine, examine_machine
from tasks.training.process.spec import (
    EXIT_INTERRUPTED,
    EXIT_OUT_OF_MEMORY,
    EventKind,
    TrainingEvent,
    TrainingSpec,
)
from tests.support.gpus import pretend_gpus


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
    spec.checkpoints.mkdir(parents=True)
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


def test_a_training_that_is_continued_is_not_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path)
    os.utime(log_path(spec), (1.0, 1.0))
    written = []

    def end(spec: TrainingSpec, listen: object) -> tuple[int, None]:
        written.append(last_written(spec.checkpoints))
        written.append(log_path(spec).stat().st_mtime)
        return EXIT_INTERRUPTED, None

    monkeypatch.setattr(launch, "_run_once", end)
    with pytest.raises(TrainingInterrupted):
        run_training(spec, lambda _: None)
    assert min(written) > 1.0


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
    sizes = [(batch.per_device, batch.accumulation) for batch in tried]
    assert sizes == [(4, 1), (2, 2), (1, 4), (1, 4)]
    assert [event.kind for event in events] == [EventKind.NOTE] * 3
    assert "packing_length_tokens" in caught.value.fix
    assert "gradient_checkpointing" not in caught.value.fix  # it was tried


@pytest.mark.parametrize(("wish", "n_tried", "is_advised"), [(False, 1, True), (True, 1, False)])
def test_recomputation_is_not_tried_where_the_user_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: bool, n_tried: int, is_advised: bool
) -> None:
    training = TrainingConfig(gradient_checkpointing=wish)
    machine = Machine(device="cpu", free_memory_bytes=1)
    spec = make_spec(tmp_path, per_device=1).model_copy(
        update={"training": training, "choices": choose(training, machine, False, None)}
    )
    tried: list[TrainingSpec] = []

    def run_out(spec: TrainingSpec, listen: object) -> tuple[int, None]:
        tried.append(spec)
        return EXIT_OUT_OF_MEMORY, None

    monkeypatch.setattr(launch, "_run_once", run_out)
    with pytest.raises(MemoryExhausted) as caught:
        run_training(spec, lambda event: None)
    assert len(tried) == n_tried
    assert ("gradient_checkpointing=auto" in caught.value.fix) is is_advised


def test_memory_for_one_sequence_is_found_by_recomputation_and_kept_for_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path, per_device=1)
    tried: list[TrainingSpec] = []

    def run(spec: TrainingSpec, listen: object) -> tuple[int, None]:
        tried.append(spec)
        (spec.checkpoints / "spec.json").write_text(spec.model_dump_json())
        return (1 if spec.choices.gradient_checkpointing else EXIT_OUT_OF_MEMORY), None

    monkeypatch.setattr(launch, "_run_once", run)
    for _ in range(2):  # the second run begins as the first one ended
        with pytest.raises(TrainingError, match="exit code 1"):
            run_training(spec, lambda event: None)
    assert [each.choices.gradient_checkpointing for each in tried] == [False, True, True]
    assert tried[0].batching == tried[2].batching
    [note] = tried[2].notes
    assert "computed twice" in note
    assert tried[2].choices.reasons["gradient_checkpointing"] == note


@pytest.mark.parametrize("users_own", [None, "4,5,6,7"])
def test_a_training_sees_no_more_gpus_than_it_has_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users_own: str | None
) -> None:
    pretend_gpus(monkeypatch, [10, 10, 30, 20])
    if users_own:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", users_own)
    for n_processes, expected in ((1, "2"), (2, "2,3")):
        machine = examine_machine(Device.CUDA, n_processes)
        training = TrainingConfig(processes=n_processes)
        choices = choose(training, machine, False, None)
        spec = make_spec(tmp_path / str(n_processes)).model_copy(update={"choices": choices})
        shown = process_environment(spec)["CUDA_VISIBLE_DEVICES"]
        if users_own:
            expected = ",".join(users_own.split(",")[int(index)] for index in expected.split(","))
        assert shown == expected


def test_a_training_on_a_processor_leaves_the_list_of_gpus_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert process_environment(make_spec(tmp_path))["CUDA_VISIBLE_DEVICES"] == "4,5"


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

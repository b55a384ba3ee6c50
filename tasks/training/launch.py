"""Run the training process: alone or through `accelerate launch`, again with less memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from schemas.config.training import TrainingConfig
from schemas.errors import MemoryExhausted, TrainingKilled
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.cache import locate
from tasks.engine.files import write_atomic
from tasks.engine.home import python_path
from tasks.engine.processes import identify
from tasks.models.shape import read_model_shape
from tasks.training._failures import log_path, memory_error, training_error
from tasks.training.plan.accelerate_file import with_accelerate_file
from tasks.training.plan.batching import halve
from tasks.training.plan.machine import examine_machine
from tasks.training.plan.setup import prepare_training, read_workload
from tasks.training.process import run
from tasks.training.process.checkpoints import hold_lock, last_whole_checkpoint
from tasks.training.process.events import PARENT_VARIABLE
from tasks.training.process.spec import (
    STOP_FILE,
    EventKind,
    TrainingEvent,
    TrainingFacts,
    TrainingSpec,
)

ALLOCATOR = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_threshold=8589934592",
        "glibc.malloc.trim_threshold=8589934592",
    )
)
"""10 to 35 % more tokens per second on CPU; glibc reads it before the process starts."""
STOP_SECONDS = 120
"""Time for the process to save a checkpoint when it is asked to stop."""
KILL_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
"""Where Linux counts the processes it killed because memory ran out."""

Listener = Callable[[TrainingEvent], None]


@dataclass(frozen=True)
class TrainingFolders:
    """Where a training writes, and what its checkpoints belong to."""

    output: Path
    checkpoints: Path
    fingerprint: dict[str, str]
    """Everything that affects the weights, by name."""


def plan_training(
    folders: TrainingFolders,
    template: TemplateReference,
    quality: QualityReference,
    training: TrainingConfig,
    seed: int,
) -> TrainingSpec:
    """Decide how the prepared model is trained on the checked rows on this machine."""
    model = locate(template, "model")
    train_tokens = locate(quality, "train_tokens.parquet")
    training = with_accelerate_file(training)
    setup = prepare_training(
        training,
        examine_machine(training.device, training.processes),
        read_model_shape(model),
        read_workload(train_tokens),
    )
    return TrainingSpec(
        model=model,
        train_tokens=train_tokens,
        validation_tokens=(
            locate(quality, "validation_tokens.parquet") if quality.n_validation_rows else None
        ),
        inference_prompts=locate(quality, "train_prompts.jsonl"),
        output=folders.output,
        checkpoints=folders.checkpoints,
        fingerprint=folders.fingerprint,
        training=training,
        choices=setup.choices,
        batching=setup.batching,
        notes=setup.notes,
        seed=seed,
    )


def run_training(spec: TrainingSpec, listen: Listener) -> TrainingFacts:
    """Train in a process of its own; resume, and use less memory when it runs out.

    The batch is halved; if one sequence at a time does not fit, activations are computed twice.

    Args:
        spec: What to train; its checkpoint folder keeps the spec and the process's log.
        listen: Gets every event; when it raises, the process is asked to save and stop.

    Returns:
        The results of the finished training.

    Raises:
        SftFlowError: What a guard in the process found, in the guard's class.
        MemoryExhausted: Not even one sequence at a time fits, with recomputation if configured.
        TrainingInterrupted: The process was asked to stop and saved a checkpoint.
    """
    spec.checkpoints.mkdir(parents=True, exist_ok=True)
    spec = _as_last_tried(spec)
    while True:
        n_killed = count_memory_kills()
        code, failure = _run_once(_resumed(spec, listen), listen)
        if not code:
            text = (spec.output / "training.json").read_text("utf-8")
            return TrainingFacts.model_validate_json(text)
        error = training_error(code, failure, spec)
        was_killed = isinstance(error, TrainingKilled) and count_memory_kills() > n_killed
        if not (was_killed or isinstance(error, MemoryExhausted)):
            raise error
        spec = _with_less_memory(spec)
        listen(TrainingEvent(kind=EventKind.NOTE, detail=spec.notes[-1]))


def _with_less_memory(spec: TrainingSpec) -> TrainingSpec:
    """Halve the batch, or else recompute activations; the last note describes the change."""
    smaller = halve(spec.batching)
    if smaller:
        note = (
            f"memory ran out: {smaller.per_device} instead of {spec.batching.per_device} sequences "
            f"at a time, {smaller.accumulation} instead of {spec.batching.accumulation} "
            "accumulated; the effective batch stays"
        )
        return spec.model_copy(update={"batching": smaller, "notes": (*spec.notes, note)})
    if spec.choices.gradient_checkpointing or spec.training.gradient_checkpointing != "auto":
        raise memory_error(spec)
    note = "memory ran out with one sequence at a time: activations are computed twice"
    choices = spec.choices.recomputing(note)
    return spec.model_copy(update={"choices": choices, "notes": (*spec.notes, note)})


def _as_last_tried(spec: TrainingSpec) -> TrainingSpec:
    """Use as little memory as an earlier attempt of the same training, if there was one."""
    try:
        text = (spec.checkpoints / "spec.json").read_text(encoding="utf-8")
        previous = TrainingSpec.model_validate_json(text)
    except (OSError, ValidationError):
        return spec
    if previous.notes and previous.batching.effective == spec.batching.effective:
        kept = {"batching": previous.batching, "notes": previous.notes}
        recomputed = previous.choices.reasons["gradient_checkpointing"]
        if previous.choices.gradient_checkpointing and recomputed in previous.notes:
            kept["choices"] = spec.choices.recomputing(recomputed)
        return spec.model_copy(update=kept)
    return spec


def _resumed(spec: TrainingSpec, listen: Listener) -> TrainingSpec:
    """Wait for an orphaned process of the same training, and find its last checkpoint."""
    with hold_lock(spec.checkpoints):
        (spec.checkpoints / STOP_FILE).unlink(missing_ok=True)
        log_path(spec).touch()  # checkpoints that no process continues are removed by age
        resume_from = last_whole_checkpoint(
            spec.checkpoints,
            spec.fingerprint,
            lambda sentence: listen(TrainingEvent(kind=EventKind.NOTE, detail=sentence)),
        )
    return spec.model_copy(update={"resume_from": resume_from})


def _run_once(spec: TrainingSpec, listen: Listener) -> tuple[int, TrainingEvent | None]:
    """Run the process until it ends; return its exit code and the failure it reported."""
    spec_path = spec.checkpoints / "spec.json"
    write_atomic(spec_path, spec.model_dump_json(indent=1))
    failure = None
    with log_path(spec).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command(spec_path, spec.training),
            stdout=subprocess.PIPE,
            stderr=log,
            env=process_environment(spec),
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent, which asks for a checkpoint first
        )
        try:
            for line in process.stdout or ():
                event = read_event(line)
                if event is None:
                    log.write(line)
                    continue
                if event.kind is EventKind.FAILED:
                    failure = event
                listen(event)
            code = process.wait()
        finally:
            stop_process(process, spec.checkpoints / STOP_FILE)
    return code, failure


def command(spec_path: Path, training: TrainingConfig) -> list[str]:
    """Return the command line: Python for one process, `accelerate launch` for several."""
    module = [run.__name__, str(spec_path)]
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    if training.accelerate_config:
        return [*launch, "--config_file", training.accelerate_config, "--module", *module]
    if training.processes == 1:
        return [sys.executable, "-m", *module]
    # multi_gpu is what accelerate calls several processes; without a GPU they meet through gloo.
    return [
        *launch,
        "--multi_gpu",
        f"--num_processes={training.processes}",
        "--num_machines=1",
        "--main_process_port=0",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--module",
        *module,
    ]


def process_environment(spec: TrainingSpec) -> dict[str, str]:
    """Return a copy of the environment, with the allocator's settings if the user set none."""
    environment = dict(os.environ)
    environment.setdefault("GLIBC_TUNABLES", ALLOCATOR)
    for name, value in spec.choices.environment.items():
        environment.setdefault(name, value)
    # TRL refuses a process that sees several GPUs, so the user's own list is shortened.
    environment |= spec.choices.visible_gpus
    environment[PARENT_VARIABLE] = identify(os.getpid())
    environment["PYTHONPATH"] = python_path(environment)
    environment["PYTHONSAFEPATH"] = "1"  # a folder `datasets` next to the user's data is no package
    return environment


def read_event(line: str) -> TrainingEvent | None:
    """Read an event from a line of output; None for what a library or the launcher printed."""
    try:
        return TrainingEvent.model_validate_json(line)
    except ValidationError:
        return None


def stop_process(process: subprocess.Popen[str], request: Path) -> None:
    """End the process if it still runs: by a request file, so that it can save, then by a signal."""
    if process.poll() is None:
        request.touch()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout:
        process.stdout.close()


def count_memory_kills() -> int:
    """Return how many processes Linux has killed because memory ran out; 0 where it is unknown."""
    count = 0
    for path in KILL_COUNTERS:
        if path.is_file():
            pairs = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
            count += sum(int(pair[1]) for pair in pairs if pair[:1] == ["oom_kill"])
    return count

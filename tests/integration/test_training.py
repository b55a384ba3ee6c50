"""The training process: killed and resumed, told to stop, short of memory, and in two processes.

What is saved at a stop, and what is left at the end, are `tasks.training.process._callbacks` and
`tasks.training.process._results`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow
import pyarrow.parquet as parquet
import pytest

from schemas.errors import TrainingInterrupted, TrainingKilled, WorkDirectoryError, is_retryable
from tasks.training.launch import run_training
from tasks.training.process.checkpoints import MANIFEST, checkpoint_step, list_checkpoints
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec
from tests.support.disks import small_disk
from tests.support.toy import toy_spec

pytestmark = pytest.mark.integration

ROOM_BYTES = 100 << 20
FLOW = """
import sys
from pathlib import Path
from tasks.training.launch import run_training
from tasks.training.process.spec import TrainingSpec

spec = TrainingSpec.model_validate_json(Path(sys.argv[1]).read_text())
run_training(spec, lambda event: print(event.model_dump_json(), flush=True))
"""
"""A flow's process, as far as the training is concerned."""


def curve(spec: TrainingSpec) -> list[tuple[int, float]]:
    history = json.loads((spec.output / "history.json").read_text())
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def same_curve(spec: TrainingSpec, other: TrainingSpec) -> bool:
    return curve(spec) == [(step, pytest.approx(loss, abs=1e-6)) for step, loss in curve(other)]


def training_children() -> list[psutil.Process]:
    own = psutil.Process().children(recursive=True)
    return [child for child in own if "tasks.training.process.run" in child.cmdline()]


class Killer:
    """Listens, and kills a training process at a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step = step
        self.number = number
        self.last_step = 0

    def __call__(self, event: TrainingEvent) -> None:
        self.last_step = max(self.last_step, event.step)
        if event.kind is EventKind.STEP and event.step == self.step:
            for child in training_children():
                child.send_signal(self.number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainingSpec:
    """A training that nobody interrupted."""
    spec = toy_spec(tmp_path_factory.mktemp("whole"), "whole")
    run_training(spec, lambda event: None)
    return spec


@pytest.mark.real_processes
def test_killed_training_resumes_with_the_same_losses(tmp_path: Path, whole: TrainingSpec) -> None:
    cut = toy_spec(tmp_path, "cut")
    killer = Killer(12, signal.SIGKILL)
    with pytest.raises(TrainingKilled, match="killed by signal 9") as caught:
        run_training(cut, killer)
    assert caught.value.is_retryable
    facts = run_training(cut, lambda event: None)
    assert facts.resumed_from_step == 10
    assert same_curve(cut, whole)
    assert (cut.output / "model" / "model.safetensors").is_file()
    assert (cut.output / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.real_processes
def test_terminated_training_saves_the_very_step(tmp_path: Path, whole: TrainingSpec) -> None:
    cut = toy_spec(tmp_path, "cut")
    killer = Killer(12, signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="saved a checkpoint"):
        run_training(cut, killer)
    facts = run_training(cut, lambda event: None)
    assert facts.resumed_from_step == killer.last_step
    assert same_curve(cut, whole)


def test_training_killed_after_the_last_step_makes_no_further_one(
    tmp_path: Path, whole: TrainingSpec
) -> None:
    cut = toy_spec(tmp_path, "cut")
    run_training(cut, lambda event: None)
    model = (cut.output / "model" / "model.safetensors").read_bytes()
    facts = run_training(cut, lambda event: None)
    assert facts.resumed_from_step == facts.n_steps == 60
    assert same_curve(cut, whole)
    assert (cut.output / "model" / "model.safetensors").read_bytes() == model


@pytest.mark.real_processes
def test_checkpoint_of_another_training_is_not_resumed(tmp_path: Path, whole: TrainingSpec) -> None:
    cut = toy_spec(tmp_path, "cut")
    with pytest.raises(TrainingKilled):
        run_training(cut, Killer(12, signal.SIGKILL))
    for folder in list_checkpoints(cut.checkpoints):
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["fingerprint"]["name"] = "another"
        (folder / MANIFEST).write_text(json.dumps(manifest))
    events: list[TrainingEvent] = []
    assert run_training(cut, events.append).resumed_from_step == 0
    notes = [event.detail for event in events if event.kind is EventKind.NOTE]
    assert notes[0] == ("checkpoint-10 is not resumed: it belongs to another training: name differ")
    assert same_curve(cut, whole)


def test_old_checkpoints_are_pruned(whole: TrainingSpec) -> None:
    assert [path.name for path in list_checkpoints(whole.checkpoints)] == [
        "checkpoint-55",
        "checkpoint-60",
    ]


def test_a_full_disk_ends_the_training_with_its_name(tmp_path: Path) -> None:
    """The first checkpoint does not fit."""
    spec = toy_spec(tmp_path, "full", save_steps=1, max_steps=3)
    with small_disk(spec.checkpoints, 300_000), pytest.raises(WorkDirectoryError) as caught:
        run_training(spec, lambda event: None)
    assert "the disk is full" in caught.value.what
    assert "SFT_HOME" in caught.value.got
    assert not is_retryable(caught.value)


@pytest.mark.real_processes
def test_batch_is_halved_when_memory_runs_out(tmp_path: Path) -> None:
    settings = {"per_device_train_batch_size": 128, "packing_length_tokens": 256, "max_steps": 3}
    spec = toy_spec(tmp_path, "short", save_steps=1, **settings)
    rows = parquet.read_table(spec.train_tokens)
    parquet.write_table(pyarrow.concat_tables([rows] * 32), spec.train_tokens)
    events: list[TrainingEvent] = []

    def limit_memory(event: TrainingEvent) -> None:
        events.append(event)
        for child in training_children():
            if event.kind is EventKind.STARTED:
                room = child.memory_info().vms + ROOM_BYTES
                child.rlimit(psutil.RLIMIT_AS, (room, psutil.RLIM_INFINITY))
            elif event.kind is EventKind.STEP:  # it fits; threads that start later need room too
                child.rlimit(psutil.RLIMIT_AS, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))

    facts = run_training(spec, limit_memory)
    assert facts.batching.per_device < 128
    assert facts.batching.effective == 128
    assert len(facts.notes) >= 1
    assert "memory ran out" in facts.notes[0]
    assert facts.notes == tuple(e.detail for e in events if e.kind is EventKind.NOTE)


def start_flow(spec: TrainingSpec) -> subprocess.Popen[bytes]:
    """Start a process that runs the training; its events go to a file."""
    root = spec.checkpoints.parent
    (root / "spec.json").write_text(spec.model_dump_json())
    (root / "flow.py").write_text(FLOW)
    with (root / "events.jsonl").open("wb") as events:
        return subprocess.Popen(
            [sys.executable, str(root / "flow.py"), str(root / "spec.json")],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=events,
            stderr=subprocess.DEVNULL,
        )


def events_of(spec: TrainingSpec) -> list[TrainingEvent]:
    text = (spec.checkpoints.parent / "events.jsonl").read_text()
    whole_lines = text[: text.rfind("\n") + 1].splitlines()
    return [TrainingEvent.model_validate_json(line) for line in whole_lines]


def last_step(spec: TrainingSpec) -> int:
    return max((event.step for event in events_of(spec)), default=0)


def newest_step(spec: TrainingSpec) -> int:
    return max((checkpoint_step(path) for path in list_checkpoints(spec.checkpoints)), default=0)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert not alive


def wait_until(is_reached: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_reached() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_orphaned_training_saves_and_stops(tmp_path: Path) -> None:
    spec = toy_spec(tmp_path, "orphan", save_steps=1000)  # only the emergency saves
    flow = start_flow(spec)
    wait_until(lambda: last_step(spec) >= 3)
    children = psutil.Process(flow.pid).children(recursive=True)
    flow.kill()
    flow.wait()
    wait_until_gone(children)
    assert 3 <= newest_step(spec) < 60
    assert not (spec.output / "training.json").exists()


def kill_at_random(spec: TrainingSpec, generator: random.Random) -> str:
    """Start the flow, kill it or the training at some moment; return what was hit and kept."""
    before = newest_step(spec)
    flow = start_flow(spec)
    if generator.random() < 0.8:  # else: somewhere in the start
        wait_until(lambda: bool(events_of(spec)))
    time.sleep(generator.uniform(0, 2))
    children = psutil.Process(flow.pid).children(recursive=True)
    target = generator.choice(["flow", "training"]) if children else "flow"
    for victim in children if target == "training" else [flow]:
        victim.kill()
    flow.wait(timeout=120)
    wait_until_gone(children)
    reached, kept = max(before, last_step(spec)), newest_step(spec)
    assert kept >= reached - spec.training.save_steps
    assert kept >= before
    return f"{target} killed at step {reached}, step {kept} kept"


@pytest.mark.parametrize(
    "n_kills", [2, pytest.param(20, marks=[pytest.mark.slow], id="twenty random moments")]
)
def test_nothing_is_lost_however_often_it_is_killed(tmp_path: Path, n_kills: int) -> None:
    steps = {"max_steps": 100 * n_kills, "save_steps": 5, "packing_length_tokens": 384}
    smooth = toy_spec(tmp_path, "smooth", **steps)
    run_training(smooth, lambda event: None)
    cut = toy_spec(tmp_path, "cut", **steps)
    generator = random.Random(n_kills)
    hits = [kill_at_random(cut, generator) for _ in range(n_kills)]
    (tmp_path / "hits.txt").write_text("\n".join(hits))
    facts = run_training(cut, lambda event: None)
    assert facts.resumed_from_step > 0, hits
    assert same_curve(cut, smooth), hits
    assert (cut.output / "model" / "model.safetensors").read_bytes() == (
        smooth.output / "model" / "model.safetensors"
    ).read_bytes(), hits

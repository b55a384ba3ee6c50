"""The training process: killed and resumed, told to stop, and refused when it learns nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.training_config import TrainingConfig
from tasks._training_process import last_whole_checkpoint
from tasks._training_spec import EXIT_INTERRUPTED, WHOLE_MARKER, TrainingFacts, TrainingSpec
from tasks.train_model import process_environment, training_error
from tests.toy import make_toy_model

pytestmark = pytest.mark.integration


def make_spec(root: Path, name: str, *, save_steps: int = 5) -> TrainingSpec:
    import pyarrow
    import pyarrow.parquet as parquet

    tokens = root / "tokens.parquet"
    if not tokens.exists():
        make_toy_model(root / "model")
        rows = [
            {
                "input_ids": [40 + (row + place) % 60 for place in range(24)],
                "labels": [-100] * 12 + [40 + (row + place) % 60 for place in range(12, 24)],
            }
            for row in range(64)
        ]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tokens)
    output = root / name
    output.mkdir()
    (root / f"{name}-checkpoints").mkdir()
    training = TrainingConfig(
        max_steps=60, save_steps=save_steps, learning_rate=0.01, packing_length_tokens=48
    )
    return TrainingSpec(
        model=root / "model",
        train_tokens=tokens,
        eval_tokens=tokens,
        output=output,
        checkpoints=root / f"{name}-checkpoints",
        training=training,
        seed=3,
    )


def start(spec: TrainingSpec) -> subprocess.Popen[str]:
    path = spec.checkpoints / "spec.json"
    path.write_text(spec.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-m", "tasks._training_process", str(path)],
        env=process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    for line in process.stdout or ():
        event = json.loads(line)
        if event["kind"] == "step" and event["step"] >= step:
            return
    pytest.fail("the process ended early: " + (process.stderr.read() if process.stderr else ""))


def losses(spec: TrainingSpec) -> list[tuple[int, float]]:
    history = json.loads((spec.output / "history.json").read_text())
    return [(entry["step"], entry["loss"]) for entry in history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainingSpec:
    """A training that nobody interrupted."""
    spec = make_spec(tmp_path_factory.mktemp("whole"), "whole")
    process = start(spec)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return spec


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_training_resumes_with_the_same_losses(
    tmp_path: Path, whole: TrainingSpec, number: int
) -> None:
    cut = make_spec(tmp_path, "cut")
    process = start(cut)
    wait_for_step(process, 12)
    os.kill(process.pid, number)
    process.communicate(timeout=120)
    assert process.returncode == (EXIT_INTERRUPTED if number == signal.SIGTERM else -number)
    again = start(cut)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    facts = TrainingFacts.model_validate_json((cut.output / "training.json").read_text())
    assert facts.resumed_from_step >= 10
    assert losses(cut) == [(step, pytest.approx(loss, abs=1e-6)) for step, loss in losses(whole)]
    assert (cut.output / "model" / "model.safetensors").is_file()
    assert (cut.output / "adapter" / "adapter_model.safetensors").is_file()


def test_cut_off_checkpoint_is_removed_and_not_resumed(tmp_path: Path) -> None:
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-5" / WHOLE_MARKER).write_text("{}")
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert not (tmp_path / "checkpoint-10").exists()


def test_orphaned_training_saves_and_stops(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "orphan", save_steps=1000)  # only the emergency saves
    (spec.checkpoints / "spec.json").write_text(spec.model_dump_json())
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-m', 'tasks._training_process', sys.argv[1]],"
            " stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
            "print(child.pid, flush=True)\n"
            "for line in child.stdout:\n"
            "    print(line.decode(), end='', flush=True)\n",
            str(spec.checkpoints / "spec.json"),
        ],
        env=process_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())  # type: ignore[union-attr]
    wait_for_step(parent, 3)
    deadline = time.monotonic() + 120
    parent.kill()
    parent.communicate()
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()
    assert last_whole_checkpoint(spec.checkpoints) is not None
    assert not (spec.output / "training.json").exists()


@pytest.mark.parametrize(
    ("code", "failure", "expected"),
    [
        (65, "the loss became NaN or infinite at step 3", "training stopped: the loss became NaN"),
        (-9, "", "memory ran out"),
        (1, "", "exit code 1: ValueError: no"),
    ],
)
def test_training_error_says_what_happened(
    tmp_path: Path, code: int, failure: str, expected: str
) -> None:
    log = tmp_path / "training.log"
    log.write_text("Traceback\nValueError: no\n")
    assert expected in str(training_error(code, failure, log))

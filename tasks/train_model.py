"""Stage `train_model`: supervised fine-tuning in a process of its own, resumable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from prefect.logging import get_run_logger

from schemas.errors import TrainingError, TrainingInterrupted
from schemas.records import QualityReference, TemplateReference, TrainedReference
from schemas.training_config import TrainingConfig
from tasks import _training_process
from tasks._cache import OutputFolder, locate, write_whole
from tasks._home import work_directory
from tasks._progress import progress_bar
from tasks._stage import stage_task
from tasks._training_spec import (
    EXIT_INTERRUPTED,
    EXIT_TRAINED_NOTHING,
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
"""Time the process gets to save a checkpoint when it is told to stop."""


def train_in_process(spec: TrainingSpec) -> TrainingFacts:
    """Run the training process and show its progress.

    Args:
        spec: What to train; its checkpoint folder keeps the spec and the process's log.

    Returns:
        The figures of the finished training.

    Raises:
        TrainingError: The process failed; the last lines of its log are in the message.
        TrainingInterrupted: The process was told to stop and saved a checkpoint.
    """
    spec.checkpoints.mkdir(parents=True, exist_ok=True)
    spec_path = spec.checkpoints / "spec.json"
    write_whole(spec_path, spec.model_dump_json(indent=1))
    log_path = spec.checkpoints / "training.log"
    failure = ""
    with log_path.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", _training_process.__name__, str(spec_path)],
            stdout=subprocess.PIPE,
            stderr=log,
            env=process_environment(),
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent, which asks for a checkpoint first
        )
        try:
            failure = follow(process)
            code = process.wait()
        finally:
            stop_process(process)
    if code == EXIT_TRAINED_NOTHING:  # going on from weights that are NaN already would not help
        for checkpoint in spec.checkpoints.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    if code == EXIT_INTERRUPTED:
        raise TrainingInterrupted(
            "training was told to stop and saved a checkpoint",
            where=str(spec.checkpoints),
            fix="run again: it goes on from there",
        )
    if code:
        raise training_error(code, failure, log_path)
    return TrainingFacts.model_validate_json((spec.output / "training.json").read_text("utf-8"))


def process_environment() -> dict[str, str]:
    """Make the environment of the training process: ours, the allocator's settings, no network noise.

    Returns:
        A copy of the environment with what the user has not set.
    """
    environment = dict(os.environ)
    environment.setdefault("GLIBC_TUNABLES", ALLOCATOR)
    environment.setdefault("HF_HUB_OFFLINE", "1")  # model and rows are local by now
    root = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (root, environment.get("PYTHONPATH")) if part
    )
    return environment


def follow(process: subprocess.Popen[str]) -> str:
    """Read events until the process closes its output.

    Args:
        process: The training process.

    Returns:
        What it said went wrong; empty when nothing did.
    """
    logger = get_run_logger()
    failure = ""
    bar = None
    for line in process.stdout or ():
        event = TrainingEvent.model_validate_json(line)
        if event.kind is EventKind.STARTED:
            logger.info("training: %d steps, starting at step %d", event.n_steps, event.step)
            bar = progress_bar(total=event.n_steps, label="train", unit="step")
            bar.update(event.step)
        elif event.kind is EventKind.STEP and bar is not None:
            bar.update(event.step - bar.n)
            if event.loss is not None:
                bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
        elif event.kind is EventKind.SAVED:
            logger.info("training: checkpoint at step %d", event.step)
        elif event.kind is EventKind.FAILED:
            failure = f"{event.detail} at step {event.step}"
    if bar is not None:
        bar.close()
    return failure


def stop_process(process: subprocess.Popen[str]) -> None:
    """End the process if it still runs: first asking, so that it can save, then for good.

    Args:
        process: The training process.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()


def training_error(code: int, failure: str, log_path: Path) -> TrainingError:
    """Explain why the process ended badly.

    Args:
        code: Its exit code; negative for a signal.
        failure: What it said itself.
        log_path: Its standard error.

    Returns:
        The error to raise.
    """
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    last = lines[-1] if lines else "no output"
    if failure:
        fix = "lower training.learning_rate or look at the rows, then run again"
        return TrainingError(f"training stopped: {failure}", where=str(log_path), fix=fix)
    if code in (-9, 137):
        what = "the training process was killed, most often because memory ran out"
        fix = "lower training.per_device_train_batch_size and run again; it resumes"
        return TrainingError(what, where=str(log_path), fix=fix)
    what = f"the training process failed with exit code {code}: {last}"
    return TrainingError(what, where=str(log_path), fix="read the log, mend it, run again")


@stage_task(
    timeout_seconds=7 * 24 * 3600, libraries=("accelerate", "peft", "torch", "transformers", "trl")
)
def train_model(
    output: OutputFolder,
    template: TemplateReference,
    quality: QualityReference,
    training: TrainingConfig,
    seed: int,
) -> TrainedReference:
    """Fine-tune the prepared model on the checked rows.

    Args:
        output: Gets `model/` (merged), `adapter/` for LoRA, `history.json`, `training.json`.
        template: Holds the prepared base model.
        quality: Holds the tokenised rows.
        training: Parameters of the training.
        seed: Seed of data order, dropout and adapter weights.

    Returns:
        Figures of the training and where the model lies.
    """
    checkpoints = work_directory() / "checkpoints" / output.key.digest
    spec = TrainingSpec(
        model=locate(template, "model"),
        train_tokens=locate(quality, "train_tokens.parquet"),
        eval_tokens=locate(quality, "eval_tokens.parquet"),
        output=output.path,
        checkpoints=checkpoints,
        training=training,
        seed=seed,
    )
    facts = train_in_process(spec)
    reference = output.commit(
        TrainedReference,
        content=("model", "history.json"),
        device=facts.device,
        n_steps=facts.n_steps,
        n_tokens_seen=facts.n_tokens_seen,
        first_loss=facts.first_loss,
        last_loss=facts.last_loss,
        n_trainable_parameters=facts.n_trainable_parameters,
    )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return reference

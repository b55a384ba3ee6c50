"""The end of a failed training process, as an error with a fix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from schemas import errors
from schemas.errors import (
    MemoryExhausted,
    SftFlowError,
    TrainingError,
    TrainingInterrupted,
    TrainingKilled,
)
from tasks.training.process.checkpoints import list_checkpoints
from tasks.training.process.spec import (
    EXIT_INTERRUPTED,
    EXIT_OUT_OF_MEMORY,
    TrainingEvent,
    TrainingSpec,
)

LAUNCHER_FAILED = "ChildFailedError"
KILLED_PROCESS = re.compile(r"exitcode\s*:\s*-(\d+)")
TABLE_LINES = 40
"""Torch's table of failed processes is shorter."""


def log_path(spec: TrainingSpec) -> Path:
    """Return the log of a training, a file in its checkpoint folder."""
    return spec.checkpoints / "training.log"


def training_error(code: int, failure: TrainingEvent | None, spec: TrainingSpec) -> SftFlowError:
    """Make the error to raise for a process that failed.

    Args:
        code: Its exit code; negative for a signal.
        failure: What the process reported.
        spec: Has its log and checkpoints.

    Returns:
        The error.
    """
    where = str(log_path(spec))
    kept = list_checkpoints(spec.checkpoints)
    if code == EXIT_OUT_OF_MEMORY or (failure and failure.error == MemoryExhausted.__name__):
        return memory_error(spec)
    if code == EXIT_INTERRUPTED or (failure and failure.error == TrainingInterrupted.__name__):
        what = "training was stopped and saved a checkpoint"
        return TrainingInterrupted(what, where=where, fix="run again: it goes on from there")
    if failure is not None:
        kind = getattr(errors, failure.error, TrainingError)
        trained = f"; {kept[-1].name} next to the log keeps what was trained" if kept else ""
        return kind(
            f"training stopped: {failure.detail}",
            where=f"{failure.where}; log: {where}" if failure.where else where,
            expected=failure.expected,
            got=failure.got,
            fix=f"{failure.fix}{trained}",
        )
    lines = log_path(spec).read_text(encoding="utf-8", errors="replace").splitlines()
    number = signal_number(code, lines)
    if number:
        what = f"the training process was killed by signal {number}"
        fix = "run again: it goes on from the last checkpoint; if memory ran out, lower "
        return TrainingKilled(what, where=where, fix=f"{fix}training.per_device_train_batch_size")
    last = lines[-1] if lines else "no output"
    what = f"the training process failed with exit code {code}: {last}"
    return TrainingError(what, where=where, fix="read the log, fix the cause, run again")


def signal_number(code: int, lines: Sequence[str]) -> int:
    """Return the signal that killed a training process; 0 when it was none.

    An `accelerate` launcher leaves torch's table of failed processes at the end of the log.
    """
    if code < 0 or code > 128:
        return -code if code < 0 else code - 128
    table = "\n".join(lines[-TABLE_LINES:])
    found = KILLED_PROCESS.search(table) if LAUNCHER_FAILED in table else None
    return int(found[1]) if found else 0


def memory_error(spec: TrainingSpec) -> MemoryExhausted:
    """Make the error for a training whose smallest batch does not fit."""
    advice = [
        "" if spec.choices.gradient_checkpointing else "training.gradient_checkpointing=auto",
        "" if spec.training.has_adapter else "training.method=lora",
        "a smaller training.packing_length_tokens" if spec.training.packing else "",
        "shorter rows (quality.max_length_tokens)",
        "a smaller model or a machine with more memory",
    ]
    return MemoryExhausted(
        "the training does not fit into memory, even with one sequence at a time",
        where=str(log_path(spec)),
        fix=f"try in this order: {', '.join(filter(None, advice))}",
    )

"""What the training stage tells the training process, and what it hears back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from schemas.records import Record
from schemas.training_config import TrainingConfig

EXIT_INTERRUPTED = 75
"""The process saved a checkpoint and stopped because it was told to (EX_TEMPFAIL)."""
EXIT_TRAINED_NOTHING = 65
"""The rows, or the loss they gave, cannot be trained on (EX_DATAERR)."""
WHOLE_MARKER = "whole.json"
"""Written into a checkpoint after everything else: without it the checkpoint is not resumed."""


class TrainingSpec(Record):
    """Everything the training process reads."""

    model: Path
    train_tokens: Path
    eval_tokens: Path
    output: Path
    checkpoints: Path
    training: TrainingConfig
    seed: int


class EventKind(StrEnum):
    """What a line on the process's standard output says."""

    STARTED = "started"
    STEP = "step"
    SAVED = "saved"
    FAILED = "failed"


class TrainingEvent(Record):
    """One line on the process's standard output."""

    kind: EventKind
    step: int = 0
    n_steps: int = 0
    loss: float | None = None
    detail: str = ""


class TrainingFacts(Record):
    """Figures of a finished training; timings differ from run to run, so they are not content."""

    device: str
    n_steps: int
    n_tokens_seen: int
    n_supervised_tokens_per_epoch: int
    first_loss: float
    last_loss: float
    n_trainable_parameters: int
    resumed_from_step: int
    seconds: float
    tokens_per_second: float
    """Tokens of the rows (no padding) over the seconds spent in the training loop."""
    peak_memory_bytes: int
    """Largest resident set of the training process."""

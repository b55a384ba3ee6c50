"""Messages between the training stage and the training process."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from schemas.base import Record
from schemas.config.training import TrainingConfig
from tasks.training.plan.batching import Batching
from tasks.training.plan.choices import Choices

EXIT_GUARD = 65
"""A guard stopped the training; its last event contains the error (EX_DATAERR)."""
EXIT_OUT_OF_MEMORY = 71
"""Memory ran out: a smaller batch may do (EX_OSERR)."""
EXIT_INTERRUPTED = 75
"""The process saved a checkpoint and stopped on request (EX_TEMPFAIL)."""
STOP_FILE = "stop"
"""Left in the checkpoint folder by the parent when the training should save and stop."""


class TrainingSpec(Record):
    """Everything the training process reads."""

    model: Path
    train_tokens: Path
    """Parquet with `input_ids`, `labels` and, where sources are weighted, `weight`."""
    validation_tokens: Path | None = None
    """Parquet with `input_ids` and `labels`; None when no rows are kept for validation."""
    inference_prompts: Path | None = None
    """`train_prompts.jsonl`: some training rows' prompts as inference renders them."""
    output: Path
    checkpoints: Path
    """Of this training only; kept until the stage's output is complete."""
    resume_from: Path | None = None
    """A complete checkpoint of this training; None starts at step 0."""
    fingerprint: dict[str, str]
    """Everything that affects the weights, by name: data, template, model, arguments, code."""
    training: TrainingConfig
    choices: Choices
    batching: Batching
    notes: tuple[str, ...] = ()
    """About earlier attempts, for the report."""
    seed: int


class EventKind(StrEnum):
    """Kind of a line on the process's standard output."""

    STARTED = "started"
    STEP = "step"
    MEASURED = "measured"
    """The validation loss was measured."""
    SAVED = "saved"
    NOTE = "note"
    """A sentence for the report."""
    FAILED = "failed"


class TrainingEvent(Record):
    """One line on the process's standard output."""

    kind: EventKind
    step: int = 0
    n_steps: int = 0
    loss: float | None = None
    """Nats per supervised token; of the training rows, or for MEASURED of the validation rows."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    n_tokens_seen: int = 0
    """Tokens of rows, without padding, since the first step of the training."""
    tokens_per_second: float | None = None
    """Over the steps since the process started, without the first."""
    error: str = ""
    """For FAILED: the class of the error, one of schemas.errors."""
    detail: str = ""
    """For NOTE and FAILED: one sentence."""
    where: str = ""
    expected: str = ""
    got: str = ""
    fix: str = ""


class TrainingFacts(Record):
    """Metrics of a finished training; timings differ from run to run, so they are not content."""

    device: str
    n_steps: int
    n_tokens_seen: int
    n_supervised_tokens_per_epoch: int
    first_loss: float
    last_loss: float
    best_step: int | None = None
    """Step of the checkpoint that became the model, where early stopping chose one."""
    best_validation_loss: float | None = None
    n_trainable_parameters: int
    resumed_from_step: int
    batching: Batching
    choices: dict[str, str]
    """What was chosen for this machine, and why."""
    notes: tuple[str, ...] = ()
    """E.g. a batch halved because memory ran out."""
    seconds: float
    tokens_per_second: float
    """Tokens of the rows (no padding) over the seconds of the steps after the first."""
    peak_memory_bytes: int
    """Largest resident set of the training process."""
    peak_device_bytes: int = 0
    """Most memory of the GPU that torch held at once; 0 without CUDA."""

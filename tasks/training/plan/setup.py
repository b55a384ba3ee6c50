"""Set up a training before it starts: choices, batching and memory."""

from __future__ import annotations

from pathlib import Path

from schemas.base import Record
from schemas.config.training import Distribution, TrainingConfig
from schemas.errors import ConfigError
from tasks.engine.wording import gibibytes
from tasks.models.shape import ModelShape
from tasks.training.plan.accelerate_file import with_accelerate_file
from tasks.training.plan.batching import CPU_PASS_TOKENS, Batching, fit_batching, wished_batching
from tasks.training.plan.choices import Choices, choose
from tasks.training.plan.machine import Machine
from tasks.training.plan.memory import MemoryEstimate, PassSize, estimate_memory, too_large
from tasks.training.plan.shared_prefix import shared_prefix
from tasks.training.plan.speed import estimate_steps, expected_speed

USED_FRACTION = 0.9
"""Share of the free memory that a training may be planned to use; the rest absorbs errors."""


class Workload(Record):
    """What there is to train on."""

    n_rows: int
    n_tokens: int
    """In all rows together."""
    longest_row_tokens: int
    prefix_tokens: int = 0
    """Common to the beginning of all rows; packing on a CPU computes them once."""


class TrainingSetup(Record):
    """How a training will run, and what it will take."""

    machine: Machine
    choices: Choices
    batching: Batching
    memory: MemoryEstimate | None = None
    """None while model or rows are not known, or for an architecture of another shape."""
    notes: tuple[str, ...] = ()
    """Shown in the plan and the report."""


def read_workload(train_tokens: Path) -> Workload:
    """Measure the training rows of an epoch; a column `weight` counts rows more or less often."""
    import numpy
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet
    from datasets import Dataset

    table = parquet.read_table(train_tokens)
    lengths = compute.list_value_length(table["input_ids"]).to_numpy()
    is_weighted = "weight" in table.column_names
    has_labels = "labels" in table.column_names
    rows = Dataset(table)
    weights = table["weight"].to_numpy() if is_weighted else numpy.ones(len(lengths))
    return Workload(
        n_rows=round(float(weights.sum())),
        n_tokens=round(float((weights * lengths).sum())),
        longest_row_tokens=int(lengths.max(initial=0)),
        prefix_tokens=len(shared_prefix(rows)) if len(rows) and has_labels else 0,
    )


def prepare_training(
    training: TrainingConfig,
    machine: Machine,
    shape: ModelShape | None,
    workload: Workload | None,
) -> TrainingSetup:
    """Choose how to train, so that it fits into memory.

    Activations are recomputed only when not even one sequence fits otherwise; a batch that does not
    fit is divided, with more accumulation instead.

    Args:
        training: The configuration.
        machine: Where it will run.
        shape: The model's sizes; None when not known.
        workload: The rows; None when not known.

    Returns:
        The setup.

    Raises:
        ConfigError: The effective batch cannot be divided, there are more processes than GPUs, fsdp
            is set on a CPU, or QLoRA cannot run here.
        MemoryExhausted: Not even one sequence at a time fits.
    """
    training = with_accelerate_file(training)
    _refuse_processes(training, machine)
    wished = wished_batching(training)
    is_auto = training.per_device_train_batch_size == "auto"
    seconds = None if workload is None else planned_seconds(training, machine, shape, workload)
    if shape is None or workload is None:
        return _unmeasured(wished, machine, choose(training, machine, None, seconds), is_auto)
    tokens = sequence_tokens(training, workload.longest_row_tokens)
    candidates = [choose(training, machine, False, seconds)]
    if training.gradient_checkpointing == "auto":
        candidates.append(choose(training, machine, True, seconds))
    setups = (_fitted(training, machine, shape, tokens, each) for each in candidates)
    found = next((setup for setup in setups if setup), None)
    if found:
        return found
    one = PassSize(n_sequences=1, sequence_tokens=tokens)
    available = available_bytes(training, machine)
    smallest = estimate_memory(training, candidates[-1], shape, one, available)
    raise too_large(smallest, training, one)


def _unmeasured(
    wished: Batching, machine: Machine, choices: Choices, is_auto: bool
) -> TrainingSetup:
    """Take the batch as configured; for `auto` the one that most likely fits."""
    one = fit_batching(wished, lambda n_sequences: n_sequences == 1) or wished
    note = "batch auto is 1 here: the sizes of the model or the rows are not known"
    return TrainingSetup(
        machine=machine,
        choices=choices,
        batching=one if is_auto else wished,
        notes=(note,) if is_auto else (),
    )


def _fitted(
    training: TrainingConfig, machine: Machine, shape: ModelShape, tokens: int, choices: Choices
) -> TrainingSetup | None:
    """Find the largest batch that fits with these choices; None when no sequence fits."""
    wished = wished_batching(training)
    is_auto = training.per_device_train_batch_size == "auto"
    limit = CPU_PASS_TOKENS if is_auto and machine.device == "cpu" else None
    available = available_bytes(training, machine)

    def estimate(n_sequences: int) -> MemoryEstimate:
        size = PassSize(n_sequences=n_sequences, sequence_tokens=tokens)
        return estimate_memory(training, choices, shape, size, available)

    def fits(n_sequences: int) -> bool:
        is_short = limit is None or n_sequences == 1 or n_sequences * tokens <= limit
        return is_short and estimate(n_sequences).has_room

    batching = fit_batching(wished, fits)
    if batching is None:
        return None
    notes: tuple[str, ...] = ()
    if not is_auto and batching != wished:
        notes = (
            f"a batch of {wished.per_device} needs {gibibytes(estimate(wished.per_device).total_bytes)} "
            f"of {gibibytes(available)}: {batching.per_device} at a time, "
            f"{batching.accumulation} accumulated; the effective batch stays {batching.effective}",
        )
    return TrainingSetup(
        machine=machine,
        choices=choices,
        batching=batching,
        memory=estimate(batching.per_device),
        notes=notes,
    )


def available_bytes(training: TrainingConfig, machine: Machine) -> int:
    """Return how much memory one process may be planned to use.

    Nine tenths of the device's, or of the process's share where all processes use one memory.
    """
    sharers = 1 if machine.device == "cuda" else training.processes
    return round(USED_FRACTION * machine.free_memory_bytes / sharers)


def sequence_tokens(training: TrainingConfig, longest_row_tokens: int) -> int:
    """Return the length of the longest sequence: rows are never cut, but packed."""
    return max(longest_row_tokens, training.packing_length_tokens if training.packing else 0)


def planned_seconds(
    training: TrainingConfig, machine: Machine, shape: ModelShape | None, workload: Workload
) -> float:
    """Estimate the seconds of a training without compiling."""
    n_parameters = shape.n_parameters if shape else None
    rate, _ = expected_speed(training, n_parameters, machine.device)
    _, n_tokens_seen = estimate_steps(training, workload.n_rows, workload.n_tokens)
    return n_tokens_seen / rate


def _refuse_processes(training: TrainingConfig, machine: Machine) -> None:
    """Refuse more processes than devices, and fsdp on a CPU."""
    if training.processes == 1:
        return
    if machine.device == "cpu" and training.distribution is Distribution.FSDP:
        raise ConfigError(
            "processes on a CPU cannot share weights",
            where="training.distribution",
            expected="ddp: accelerate offers fsdp on GPUs only",
            got="fsdp",
            fix="set training.distribution=ddp, or run on GPUs",
        )
    if machine.device != "cpu" and training.processes > machine.n_devices:
        raise ConfigError(
            "there are more training processes than devices",
            where="training.processes",
            expected=f"at most {machine.n_devices} on {machine.device}",
            got=str(training.processes),
            fix=f"set training.processes={machine.n_devices}, or training.device=cpu",
        )

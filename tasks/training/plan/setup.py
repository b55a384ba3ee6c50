"""Everything decided before a training starts: choices, batching and memory, from facts alone."""

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
"""Share of the free memory a training may be planned to take: the estimate is one."""


class Workload(Record):
    """What there is to train on."""

    n_rows: int
    n_tokens: int
    """Of all rows together."""
    longest_row_tokens: int
    prefix_tokens: int = 0
    """That all rows begin with, and that packing on a CPU takes off them."""


class TrainingSetup(Record):
    """How a training will run, and what it will take."""

    machine: Machine
    choices: Choices
    batching: Batching
    memory: MemoryEstimate | None = None
    """None while model or rows are not known, or for an architecture of other proportions."""
    notes: tuple[str, ...] = ()
    """What a reader of the report should know."""


def read_workload(train_tokens: Path) -> Workload:
    """Measure the training rows of an epoch.

    Args:
        train_tokens: Parquet with `input_ids` and, where sources are weighted, `weight`.

    Returns:
        Their number and lengths.
    """
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

    Activations are recomputed only when not one sequence fits otherwise; a batch that does not
    fit is divided, with more accumulation in its place.

    Args:
        training: What the user asked for.
        machine: Where it will run.
        shape: The model's sizes; None when not known.
        workload: What there is to train on; None when not known.

    Returns:
        The setup.

    Raises:
        ConfigError: The effective batch cannot be divided, there are more processes than GPUs, fsdp
            is asked for on a CPU, or
            QLoRA cannot run here.
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
    """Take the batch as it is set, or the one that is least likely not to fit."""
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
    """Find the largest batch that fits with these choices; None when not one sequence does."""
    wished = wished_batching(training)
    is_auto = training.per_device_train_batch_size == "auto"
    limit = CPU_PASS_TOKENS if is_auto and machine.device == "cpu" else None
    available = available_bytes(training, machine)

    def weigh(n_sequences: int) -> MemoryEstimate:
        size = PassSize(n_sequences=n_sequences, sequence_tokens=tokens)
        return estimate_memory(training, choices, shape, size, available)

    def fits(n_sequences: int) -> bool:
        is_short = limit is None or n_sequences == 1 or n_sequences * tokens <= limit
        return is_short and weigh(n_sequences).has_room

    batching = fit_batching(wished, fits)
    if batching is None:
        return None
    notes: tuple[str, ...] = ()
    if not is_auto and batching != wished:
        notes = (
            f"a batch of {wished.per_device} needs {gibibytes(weigh(wished.per_device).total_bytes)} "
            f"of {gibibytes(available)}: {batching.per_device} at a time, "
            f"{batching.accumulation} accumulated; the effective batch stays {batching.effective}",
        )
    return TrainingSetup(
        machine=machine,
        choices=choices,
        batching=batching,
        memory=weigh(batching.per_device),
        notes=notes,
    )


def available_bytes(training: TrainingConfig, machine: Machine) -> int:
    """Tell how much memory one process may be planned to take.

    Args:
        training: Says how many processes there are.
        machine: Names its free memory.

    Returns:
        Nine tenths of the device's, or of the process's share where all use one memory.
    """
    sharers = 1 if machine.device == "cuda" else training.processes
    return round(USED_FRACTION * machine.free_memory_bytes / sharers)


def sequence_tokens(training: TrainingConfig, longest_row_tokens: int) -> int:
    """Tell how long a sequence can get; rows are never cut.

    Args:
        training: Packing counts.
        longest_row_tokens: Of the training rows.

    Returns:
        The longest row, or the length rows are packed to where that is more.
    """
    return max(longest_row_tokens, training.packing_length_tokens if training.packing else 0)


def planned_seconds(
    training: TrainingConfig, machine: Machine, shape: ModelShape | None, workload: Workload
) -> float:
    """Estimate how long the training takes without compiling.

    Args:
        training: Steps and epochs count.
        machine: Its device counts.
        shape: The model, if known.
        workload: The rows.

    Returns:
        Seconds.
    """
    n_parameters = shape.n_parameters if shape else None
    rate, _ = expected_speed(training, n_parameters, machine.device)
    _, n_tokens_seen = estimate_steps(training, workload.n_rows, workload.n_tokens)
    return n_tokens_seen / rate


def _refuse_processes(training: TrainingConfig, machine: Machine) -> None:
    """Refuse more processes than devices, and sharing weights where accelerate cannot."""
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

"""How many sequences a device takes at a time; the optimiser step always sees the same number."""

from __future__ import annotations

from collections.abc import Callable

from schemas.base import Record
from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError

CPU_PASS_TOKENS = 4096
"""A CPU is as fast with 512 tokens a pass as with more (measured), so memory is not filled."""


def effective_batch(training: TrainingConfig) -> int:
    """Count the sequences of one optimiser step over all processes."""
    if training.effective_batch_size is not None:
        return training.effective_batch_size
    # The configuration allows `auto` only together with effective_batch_size.
    return int(training.per_device_train_batch_size) * (
        training.gradient_accumulation_steps * training.processes
    )


def wished_batching(training: TrainingConfig) -> Batching:
    """Divide the sequences of a step among processes and passes as configured.

    Args:
        training: The configuration; `auto` counts as everything in one pass.

    Returns:
        The batching before memory is considered.

    Raises:
        ConfigError: The effective batch cannot be divided evenly.
    """
    effective, processes = effective_batch(training), training.processes
    per_device = training.per_device_train_batch_size
    if per_device == "auto":
        if effective % processes:
            raise _uneven(training, effective, processes)
        return Batching(per_device=effective // processes, accumulation=1, processes=processes)
    if effective % (per_device * processes):
        raise _uneven(training, effective, per_device * processes)
    accumulation = effective // (per_device * processes)
    return Batching(per_device=per_device, accumulation=accumulation, processes=processes)


def _uneven(training: TrainingConfig, effective: int, divisor: int) -> ConfigError:
    batch, processes = training.per_device_train_batch_size, training.processes
    lower, upper = effective // divisor * divisor, (effective // divisor + 1) * divisor
    near = f"{lower} or {upper}" if lower else f"{upper}"
    other = "" if batch == "auto" else ", or training.per_device_train_batch_size=auto"
    return ConfigError(
        "the effective batch cannot be divided evenly",
        where="training.effective_batch_size",
        expected=f"a multiple of {divisor} "
        f"(per_device_train_batch_size {batch} x processes {processes})",
        got=str(effective),
        fix=f"set training.effective_batch_size={near}{other}",
    )


def fit_batching(wished: Batching, fits: Callable[[int], bool]) -> Batching | None:
    """Take the largest batch per device that fits, with the same product; None when none fits."""
    candidate: Batching | None = wished
    while candidate is not None and not fits(candidate.per_device):
        candidate = _divided(candidate, candidate.per_device - 1)
    return candidate


def halve(batching: Batching) -> Batching | None:
    """Halve the batch per device after memory ran out, keeping the product; None if it was one."""
    return _divided(batching, batching.per_device // 2)


def _divided(batching: Batching, at_most: int) -> Batching | None:
    """Take the largest divisor up to a limit, so that no sequence is left over."""
    per_process = batching.per_device * batching.accumulation
    for per_device in range(at_most, 0, -1):
        if per_process % per_device == 0:
            return Batching(
                per_device=per_device,
                accumulation=per_process // per_device,
                processes=batching.processes,
            )
    return None


class Batching(Record):
    """How the sequences of one optimiser step reach the devices; the product never changes."""

    per_device: int
    """Sequences per device and forward pass."""
    accumulation: int
    """Forward passes per optimiser step."""
    processes: int = 1

    @property
    def effective(self) -> int:
        """Sequences per optimiser step."""
        return self.per_device * self.accumulation * self.processes

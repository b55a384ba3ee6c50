"""Guards of the loss curve: spikes, a validation loss that rises, and nothing learned by the end.

They read only the trainer's log. It is in every checkpoint and contains means over all processes,
so a resumed training decides as an uninterrupted one, and all processes decide alike.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from schemas.config.training import EarlyStopping, GuardSettings, TrainingConfig
from schemas.errors import LossNotFinite, LossSpike, NothingLearned

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LogEntry = dict[str, Any]

REFERENCE_LOSSES = 20
"""Losses before a spike whose median it is compared with."""
MIN_REFERENCE_LOSSES = 5
MIN_SPIKE_NATS = 0.1
"""A loss near 0 triples by chance."""
MIN_WINDOW = 5
"""Losses averaged at each end of the curve, at least; shorter curves are not checked."""
NOISE_ERRORS = 3.0
"""Standard errors by which the end may be above its limit: rows differ in difficulty.

An error ends the run, so it must be certain. Of 2,000 curves of 10 losses with normal noise and
no trend 1 % were refused, of those that fall by one standard error none, of those that rise by
six 99 %. A curve without noise is refused whenever it is flat; a noisy one is left to the
validation loss."""


def training_losses(log: Sequence[LogEntry]) -> list[float]:
    """List the training losses in the log, in nats per token."""
    return [float(entry["loss"]) for entry in log if "loss" in entry]


def validation_losses(log: Sequence[LogEntry]) -> dict[int, float]:
    """Return nats per token by step; the first of two measurements at a step (after a resume)."""
    measured: dict[int, float] = {}
    for entry in log:
        if "eval_loss" in entry:
            measured.setdefault(int(entry["step"]), float(entry["eval_loss"]))
    return measured


def check_spike(losses: Sequence[float], settings: GuardSettings, step: int) -> None:
    """Check the last losses: one far above the others is noise, several in a row are not.

    Args:
        losses: Training losses so far; the last of them and the 20 before are compared.
        settings: How far above, and how many in a row.
        step: Optimiser steps made.

    Raises:
        LossSpike: The last `spike_patience` losses are all above spike_factor x the median of the
            20 before them, and by at least 0.1 nats.
    """
    latest = losses[-settings.spike_patience :]
    before = losses[: -settings.spike_patience][-REFERENCE_LOSSES:]
    if len(before) < MIN_REFERENCE_LOSSES:
        return
    median = statistics.median(before)
    limit = max(settings.spike_factor * median, median + MIN_SPIKE_NATS)
    if min(latest) > limit:
        raise LossSpike(
            f"the loss stayed far above what it had been for {len(latest)} logged losses",
            where=f"up to step {step}",
            expected=f"below {limit:.3f}, as the median before was {median:.3f}",
            got=f"{min(latest):.3f} to {max(latest):.3f}",
            fix="lower training.learning_rate or training.max_grad_norm; if the rows really differ "
            "that much, raise training.guards.spike_factor or spike_patience",
        )


def has_stopped_improving(log: Sequence[LogEntry], settings: EarlyStopping) -> bool:
    """Return whether none of the last `patience` measurements beats the best by `min_delta`."""
    n_without = 0
    best = math.inf
    for loss in validation_losses(log).values():
        n_without = 0 if loss < best - settings.min_delta else n_without + 1
        best = min(best, loss)
    return n_without >= settings.patience


def check_learning(log: Sequence[LogEntry], training: TrainingConfig) -> str:
    """Check the loss curve of a finished training.

    The end of the curve may be above its limit by three standard errors of the difference
    sqrt(var(first)/n + var(last)/n). The validation loss is measured on the same rows each time,
    so it needs no such allowance: the best must be below that of step 0, if there is one.

    Args:
        log: `trainer.state.log_history`.
        training: Limits, and whether the best checkpoint is used.

    Returns:
        A note when the curve is too short to decide although a limit was set; else empty.

    Raises:
        NothingLearned: The loss did not fall.
    """
    losses = training_losses(log)
    is_short = len(losses) < 2 * MIN_WINDOW
    if training.early_stopping or not is_short:
        _check_validation(validation_losses(log))
    if not is_short:
        _check_curve(losses, training.guards.min_learning_fraction)
    elif training.guards.min_learning_fraction > 0:
        return (
            f"{len(losses)} logged losses are too few to decide whether the model learned something"
        )
    return ""


def _check_curve(losses: Sequence[float], min_fraction: float) -> None:
    size = max(MIN_WINDOW, len(losses) // 10)
    first, last = losses[:size], losses[-size:]
    was, became = statistics.fmean(first), statistics.fmean(last)
    spread = statistics.variance(first) / size + statistics.variance(last) / size
    limit = was * (1 - min_fraction) + NOISE_ERRORS * math.sqrt(spread)
    if became >= limit:
        raise NothingLearned(
            "the loss did not fall from the beginning to the end",
            where=f"the first and the last {size} of {len(losses)} logged losses",
            expected=f"a mean below {limit:.4f} at the end, after {was:.4f} at the beginning",
            got=f"{became:.4f}",
            fix="change training.learning_rate (ten times lower if the loss rose, higher if it "
            "did not change), train longer, or lower training.guards.min_learning_fraction",
        )


def _check_validation(measured: dict[int, float]) -> None:
    later = {step: loss for step, loss in measured.items() if step > 0}
    if 0 not in measured or not later:
        return
    best_step = min(later, key=lambda step: later[step])
    if later[best_step] >= measured[0]:
        raise NothingLearned(
            "the validation loss never fell below that of the untrained model",
            where=f"{len(later)} measurements up to step {max(later)}",
            expected=f"below {measured[0]:.4f}",
            got=f"{later[best_step]:.4f} at step {best_step}, the best",
            fix="lower training.learning_rate or train longer; check that the validation rows are "
            "of the same kind as the training rows",
        )


def make_loss_guard(training: TrainingConfig, tell: Callable[[str], None]) -> TrainerCallback:
    """Make a callback that watches the losses; it raises LossSpike and LossNotFinite.

    Args:
        training: Limits and early stopping.
        tell: Receives a sentence when training stops early, which is no error.

    Returns:
        The callback.
    """
    from transformers import TrainerCallback

    class LossGuard(TrainerCallback):
        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: dict[str, float] | None = None,
            **_: Any,
        ) -> None:
            logs = logs or {}
            for name in ("loss", "eval_loss"):
                if name in logs and not math.isfinite(logs[name]):
                    raise _not_finite(name, logs[name], state.global_step)
            if "loss" in logs:
                n_losses = training.guards.spike_patience + REFERENCE_LOSSES
                losses = last_losses(state.log_history, n_losses)
                check_spike(losses, training.guards, state.global_step)

        def on_evaluate(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            settings, log = training.early_stopping, state.log_history
            if settings and has_stopped_improving(log, settings):
                control.should_training_stop = True
                measured = validation_losses(log)
                best = min(measured, key=lambda step: measured[step])
                tell(
                    f"stopped early at step {state.global_step}: the validation loss no longer "
                    f"fell; it was lowest at step {best} ({measured[best]:.4f})"
                )

    return LossGuard()


def last_losses(log: Sequence[LogEntry], n_most: int) -> list[float]:
    """List the last training losses in nats per token, without reading all of the log."""
    newest_first = (float(entry["loss"]) for entry in reversed(log) if "loss" in entry)
    return list(itertools.islice(newest_first, n_most))[::-1]


def _not_finite(name: str, loss: float, step: int) -> LossNotFinite:
    kind = "validation loss" if name == "eval_loss" else "loss"
    return LossNotFinite(
        f"the {kind} is no longer finite",
        where=f"step {step}",
        expected="a finite loss",
        got=str(loss),
        fix="lower training.learning_rate or raise training.warmup_ratio",
    )

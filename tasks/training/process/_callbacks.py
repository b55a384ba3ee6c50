"""Callbacks of the training: it says what it does, seals its checkpoints, and stops when told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.training.process._log import best_measurement
from tasks.training.process.checkpoints import prune_checkpoints, seal_checkpoint
from tasks.training.process.events import StopFlag, say
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

if TYPE_CHECKING:
    from transformers import TrainerCallback


def any_process(is_set: bool) -> bool:
    """Ask all training processes, so that they decide alike.

    Args:
        is_set: What this process says.

    Returns:
        True when one of them says so.
    """
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return is_set
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(is_set)], device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def wait_for_all() -> None:
    """Wait until every training process is here."""
    any_process(is_set=False)


def make_callback(spec: TrainingSpec, stop: StopFlag) -> TrainerCallback:
    """Report steps, seal and prune checkpoints, and stop when told to.

    Args:
        spec: What is trained, and where its checkpoints go.
        stop: Set when training should end early.

    Returns:
        A callback for the trainer.
    """
    from transformers import TrainerCallback

    class Conductor(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            say(
                TrainingEvent(
                    kind=EventKind.STARTED, step=state.global_step, n_steps=state.max_steps
                )
            )

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if any_process(stop.is_set):
                stop.is_told = True
                control.should_save = True
                control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            event = logged_event(state.global_step, state.max_steps, logs or {})
            if event:
                say(event)

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            best = best_measurement(state.log_history)
            if spec.training.early_stopping and best and best[0] == state.global_step > 0:
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            wait_for_all()  # each process writes a part
            if state.is_world_process_zero:
                keep_checkpoint(spec, state.global_step, state.log_history)
            wait_for_all()

    return Conductor()


def logged_event(step: int, n_steps: int, logs: dict[str, Any]) -> TrainingEvent | None:
    """Put what the trainer logged into an event.

    Args:
        step: Optimiser steps made.
        n_steps: Steps in all.
        logs: An entry of the trainer's log.

    Returns:
        The event; None for an entry without a loss.
    """
    if "eval_loss" in logs:
        return TrainingEvent(
            kind=EventKind.MEASURED, step=step, n_steps=n_steps, loss=logs["eval_loss"]
        )
    if "loss" not in logs:
        return None
    return TrainingEvent(
        kind=EventKind.STEP,
        step=step,
        n_steps=n_steps,
        loss=logs["loss"],
        learning_rate=logs.get("learning_rate"),
        grad_norm=logs.get("grad_norm"),
        n_tokens_seen=logs.get("n_tokens_seen", 0),
        tokens_per_second=logs.get("tokens_per_second"),
    )


def keep_checkpoint(spec: TrainingSpec, step: int, history: list[dict[str, float]]) -> Path:
    """Seal the checkpoint of a step and remove those that are no longer needed.

    Args:
        spec: What is trained.
        step: Optimiser steps made.
        history: The trainer's log, for the best step.

    Returns:
        The checkpoint's folder.
    """
    sealed = seal_checkpoint(spec.checkpoints, step, spec.fingerprint)
    best = best_measurement(history) if spec.training.early_stopping else None
    prune_checkpoints(spec.checkpoints, spec.training.save_total_limit, best[0] if best else None)
    say(TrainingEvent(kind=EventKind.SAVED, step=step))
    return sealed

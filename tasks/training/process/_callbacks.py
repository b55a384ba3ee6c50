"""Callback of the training: report steps, seal checkpoints, stop when requested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.training.process._log import best_measurement
from tasks.training.process.checkpoints import prune_checkpoints, seal_checkpoint
from tasks.training.process.events import StopFlag, send
from tasks.training.process.spec import EventKind, TrainingEvent, TrainingSpec

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def any_process(is_set: bool) -> bool:
    """Return whether any training process sets the flag, so that all decide alike."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return is_set
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(is_set)], device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def make_callback(spec: TrainingSpec, stop: StopFlag) -> TrainerCallback:
    """Make the callback that reports steps, seals checkpoints and stops when requested."""
    from transformers import TrainerCallback

    class Conductor(TrainerCallback):
        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            step, n_steps = state.global_step, state.max_steps
            send(TrainingEvent(kind=EventKind.STARTED, step=step, n_steps=n_steps))

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            if any_process(stop.is_set):
                stop.is_told = True
                control.should_save = True
                control.should_training_stop = True

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: dict[str, float] | None = None,
            **_: Any,
        ) -> None:
            event = logged_event(state.global_step, state.max_steps, logs or {})
            if event:
                send(event)

        def on_evaluate(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            best = best_measurement(state.log_history)
            if spec.training.early_stopping and best and best[0] == state.global_step > 0:
                control.should_save = True

        def on_save(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            any_process(is_set=False)  # wait: each process writes a part
            if state.is_world_process_zero:
                keep_checkpoint(spec, state.global_step, state.log_history)
            any_process(is_set=False)

    return Conductor()


def logged_event(step: int, n_steps: int, logs: dict[str, Any]) -> TrainingEvent | None:
    """Make an event of an entry of the trainer's log; None for an entry without a loss."""
    if "eval_loss" in logs:
        loss = logs["eval_loss"]
        return TrainingEvent(kind=EventKind.MEASURED, step=step, n_steps=n_steps, loss=loss)
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


def keep_checkpoint(spec: TrainingSpec, step: int, history: list[dict[str, float]]) -> None:
    """Seal the checkpoint of a step and remove those that are no longer needed."""
    seal_checkpoint(spec.checkpoints, step, spec.fingerprint)
    best = best_measurement(history) if spec.training.early_stopping else None
    prune_checkpoints(spec.checkpoints, spec.training.save_total_limit, best[0] if best else None)
    send(TrainingEvent(kind=EventKind.SAVED, step=step))

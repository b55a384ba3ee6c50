"""Read the trainer's log: loss curve and best measurement."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.training.process._loss_guards import LogEntry, validation_losses

KEPT = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "n_tokens_seen")


def loss_curve(log: Sequence[LogEntry], every_steps: int) -> list[LogEntry]:
    """Thin the trainer's log, which has an entry for every step, to some points.

    A point's loss is the mean over the steps since the point before, so that the curve is the
    same whether or not the training was interrupted between two points.

    Args:
        log: `trainer.state.log_history`.
        every_steps: Steps between points; the last step is a point in any case.

    Returns:
        Entries with the step, and its loss or its validation loss in nats per token.
    """
    points: list[LogEntry] = []
    window: list[float] = []
    steps = [entry["step"] for entry in log if "loss" in entry]
    measured: set[int] = set()
    for entry in log:
        kept = {name: entry[name] for name in KEPT if name in entry}
        if "loss" in entry:
            window.append(float(entry["loss"]))
            if entry["step"] % every_steps == 0 or entry["step"] == steps[-1]:
                points.append(kept | {"loss": sum(window) / len(window)})
                window.clear()
        elif "eval_loss" in entry and entry["step"] not in measured:  # again after a resume
            measured.add(entry["step"])
            points.append(kept)
    return points


def best_measurement(log: Sequence[LogEntry]) -> tuple[int, float] | None:
    """Return step and validation loss (nats per token) of the lowest one, the first of equals."""
    measured = validation_losses(log).items()
    return min(measured, key=lambda entry: (entry[1], entry[0]), default=None)

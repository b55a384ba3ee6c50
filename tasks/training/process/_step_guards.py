"""Guards of the training step: check loss, labels, gradient and weights before they are applied.

All decisions use numbers that are equal in all training processes, so that all of them
stop at the same step with the same error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import (
    GradientIsZero,
    GradientNotFinite,
    LossIsZero,
    LossNotFinite,
    NoLabels,
    NothingTrainable,
    TrainingError,
    WeightsNotFinite,
)
from tasks.tokens.token_file import NOT_TRAINED, read_token_rows
from tasks.training.process._trained_parts import check_gradients, keeps_gradients

if TYPE_CHECKING:
    import torch
    from transformers.trainer_utils import TrainOutput

CALMER = (
    "lower training.learning_rate or raise training.warmup_ratio; "
    "if it happens in the first steps, check the listed rows and the base model's weights"
)
SHOWN_NAMES = 3
SHOWN_ROWS = 5


@dataclass(frozen=True)
class StepNumbers:
    """Numbers of one optimiser step before it is applied, over all its batches and processes."""

    step: int
    """Number of the step, from 1."""
    loss: float
    """Sum over the batches, in nats per supervised token."""
    n_empty_batches: int
    """Batches without a token to train on."""
    grad_norm: float
    """2-norm of the gradient before it was clipped."""
    has_loss_scaling: bool = False
    """fp16: the scaler itself skips steps whose gradient is not finite."""


def check_step(numbers: StepNumbers) -> None:
    """Check a step before the optimiser applies it.

    Adapters start with B = 0, so that the gradient of A is 0 in step 1 while that of B is not:
    only the norm over both must differ from 0.

    Args:
        numbers: Loss, labels and gradient of the step.

    Raises:
        NoLabels: A batch has no token to train on.
        LossNotFinite: The loss is NaN or infinite.
        LossIsZero: The loss is exactly 0.
        GradientNotFinite: The gradient is NaN or infinite.
        GradientIsZero: The gradient of the first step is exactly 0.
    """
    where, loss, norm = f"step {numbers.step}", numbers.loss, numbers.grad_norm
    if numbers.n_empty_batches:
        raise NoLabels(
            "a batch has no token to train on",
            where=where,
            expected="labels in every batch",
            got=f"{numbers.n_empty_batches} without",
            fix="check what the chat template marks in the listed rows: sft-flow check "
            "shows rows with their trained part",
        )
    if not math.isfinite(loss):
        raise LossNotFinite(
            "the loss is no longer finite",
            where=where,
            expected="a finite loss",
            got=str(loss),
            fix=CALMER,
        )
    if loss == 0:
        raise LossIsZero(
            "the loss is exactly 0: there is nothing left to learn from",
            where=where,
            expected="a loss above 0",
            got="0.0",
            fix="train fewer epochs, or use more and more varied rows",
        )
    if not math.isfinite(norm) and not numbers.has_loss_scaling:
        raise GradientNotFinite(
            "the gradient is no longer finite; it was not applied",
            where=where,
            expected="a finite gradient norm",
            got=str(norm),
            fix=CALMER,
        )
    if norm == 0 and numbers.step == 1:
        raise GradientIsZero(
            "the gradient of the first step is exactly 0: the loss does not reach what is trained",
            where=where,
            expected="a gradient norm above 0",
            got="0.0",
            fix="check training.lora.target_modules, and the base model's weights for zeros",
        )


def check_trainable(model: torch.nn.Module) -> None:
    """Raise NothingTrainable when no parameter needs a gradient."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise NothingTrainable(
            "no parameter of the model is trained",
            where=type(model).__name__,
            expected="at least one parameter that needs a gradient",
            got="none",
            fix="check training.method and training.lora.target_modules",
        )


def nonfinite_parameters(model: torch.nn.Module, *, has_frozen: bool) -> Iterator[str]:
    """List trained (or all) weights that are NaN or infinite, in one pass over them."""
    for name, parameter in model.named_parameters():
        if (has_frozen or parameter.requires_grad) and parameter.is_floating_point():
            weight = parameter.detach()
            weight = weight.to_local() if hasattr(weight, "to_local") else weight  # FSDP's shards
            if not weight.isfinite().all():
                yield name


def check_weights(model: torch.nn.Module, step: int, *, has_frozen: bool = False) -> None:
    """Check the weights before they are saved; with `has_frozen` all, else the trained ones."""
    names = list(nonfinite_parameters(model, has_frozen=has_frozen))
    if names:
        raise _weights_error(names, len(names), step)


def _weights_error(names: list[str], n_broken: int, step: int) -> WeightsNotFinite:
    shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
    return WeightsNotFinite(
        "weights became NaN or infinite; they were not saved",
        where=f"step {step}" + (f": {shown}" if shown else ""),
        expected="finite weights",
        got=f"{n_broken} parameters that are not",
        fix="lower training.learning_rate or raise training.warmup_ratio; "
        "the checkpoints before this step are complete",
    )


@dataclass(frozen=True)
class _SeenBatch:
    """A batch of the current step."""

    inputs: dict[str, Any]
    loss: torch.Tensor
    n_labels: torch.Tensor

    @property
    def is_at_fault(self) -> bool:
        return not (bool(self.loss.isfinite()) and int(self.n_labels))


class GuardedSteps:
    """Mixed in before `SFTTrainer`: nothing is trained, applied or saved that breaks a guard.

    The numbers of a step are read once, after clipping and before the optimiser, which costs one
    wait for the device per step, as logging every step does, and between processes the sum of two
    numbers. An error leaves weights and optimiser as the previous step left them.
    """

    train_tokens: Path | None = None
    """Parquet file of the training rows; with it, an error lists the rows of its batch."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seen: list[_SeenBatch] = []
        self._has_reached_all = False

    def train(self, *args: Any, **options: Any) -> TrainOutput:
        """Train, unless there is nothing to train."""
        trainer: Any = self
        parent: Any = super()
        check_trainable(trainer.model)
        return parent.train(*args, **options)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **options: Any
    ) -> torch.Tensor:
        """Make one forward and backward pass, and keep its loss and labels for the check."""
        parent: Any = super()
        loss = parent.training_step(model, inputs, *args, **options)
        # The label of a sequence's first token is never predicted.
        n_labels = (inputs["labels"][..., 1:] != NOT_TRAINED).sum().to(loss.device)
        self._seen.append(_SeenBatch(inputs, loss, n_labels))
        return loss

    def _get_grad_norm(
        self, model: torch.nn.Module, grad_norm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Check the step: the trainer asks for the norm after clipping and before the optimiser."""
        parent: Any = super()
        norm = parent._get_grad_norm(model, grad_norm=grad_norm)
        self._check_seen(norm)
        trainer: Any = self
        if not self._has_reached_all and keeps_gradients(trainer.accelerator):
            if sentence := check_gradients(trainer.model):
                trainer.note(sentence)
            self._has_reached_all = True
        return norm

    def _check_seen(self, norm: torch.Tensor) -> None:
        import torch

        trainer: Any = self
        batches, self._seen = self._seen, []
        loss = torch.stack([batch.loss for batch in batches]).sum()
        n_empty = sum(batch.n_labels == 0 for batch in batches)
        both = torch.stack([loss.float(), torch.as_tensor(n_empty).to(loss.device).float()])
        total, n_empty_batches = trainer.accelerator.reduce(both, "sum").tolist()
        numbers = StepNumbers(
            step=trainer.state.global_step + 1,
            loss=total,
            n_empty_batches=round(n_empty_batches),
            grad_norm=float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm),
            has_loss_scaling=trainer.accelerator.scaler is not None,
        )
        try:
            check_step(numbers)
        except TrainingError as error:
            at_fault = [batch.inputs for batch in batches if batch.is_at_fault]
            if not at_fault and not isinstance(error, (NoLabels, LossNotFinite)):
                at_fault = [
                    batch.inputs for batch in batches
                ]  # else the cause is in another process
            named = name_rows(at_fault, self.train_tokens)
            error.where += f", {named}" if named else ""
            raise

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save a checkpoint, unless a trained weight is NaN or infinite in any process."""
        import torch

        trainer: Any = self
        names = list(nonfinite_parameters(trainer.model, has_frozen=False))
        n_here = torch.tensor(len(names), device=trainer.args.device)
        n_broken = int(trainer.accelerator.reduce(n_here, "sum"))
        if n_broken:
            raise _weights_error(names, n_broken, trainer.state.global_step)
        parent: Any = super()
        parent._save_checkpoint(model, trial)


def name_rows(batches: Iterable[dict[str, Any]], train_tokens: Path | None) -> str:
    """List the training rows in some batches.

    Args:
        batches: Made by the collator.
        train_tokens: Parquet file of the training rows; None when there is none.

    Returns:
        E.g. `training rows 3, 17`, as column `row` numbers them; empty when none is found.
    """
    if train_tokens is None:
        return ""
    pieces = {piece for batch in batches for piece in split_batch(batch)}
    rows = sorted(
        int(number)
        for part in read_token_rows(train_tokens)
        for index, number in enumerate(part.numbers)
        if part.row(index)[0].tobytes() in pieces
    )
    if not rows:
        return ""
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return f"training rows {', '.join(map(str, rows[:SHOWN_ROWS]))}{more}"


def split_batch(batch: dict[str, Any]) -> Iterator[bytes]:
    """Split a batch into rows.

    Args:
        batch: `input_ids`, with `attention_mask` where rows are padded and `position_ids` where
            they are packed, or `row_lengths` where they share a prefix.

    Yields:
        The token ids of each row, as the bytes of 32-bit numbers.

    Shape:
        Every entry: (batch, seq).
    """
    import numpy

    if "row_lengths" in batch:
        ids = batch["input_ids"][0].cpu().numpy().astype(numpy.int32)
        n_prefix, *lengths = batch["row_lengths"]
        ends = n_prefix + numpy.cumsum(lengths)
        for length, end in zip(lengths, ends.tolist(), strict=True):
            yield ids[:n_prefix].tobytes() + ids[end - length : end].tobytes()
        return
    all_ids = batch["input_ids"].cpu().numpy().astype(numpy.int32)
    for number, ids in enumerate(all_ids):
        starts = [0]
        if "position_ids" in batch:
            places = batch["position_ids"][number].cpu().numpy()
            starts = numpy.flatnonzero(places == 0).tolist() or [0]
        if "attention_mask" in batch:
            ids = ids[batch["attention_mask"][number].cpu().numpy() == 1]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            yield ids[start:end].tobytes()

"""Probe a packing on the model that will be trained: no row may see another one.

Whether it does depends on the architecture, the attention and the kernels that are installed, so it
is tried out, with the trainer's collator, on the device and in the number format of the training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from schemas.errors import TrainingContractBroken
from tasks.models.device import is_out_of_memory
from tasks.training.plan.choices import Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    Rows = Sequence[Sequence[int]]
    Collate = Callable[[Rows], dict[str, Any]]
    States = Callable[[dict[str, Any]], Tensor]

APART_TOLERANCE = {True: 0.5, False: 1e-2}
"""Largest difference between a row packed and alone, in standard deviations, in 16 bits and in 32:
rounding makes less, another row's tokens within reach make more than 1."""
LEAK_TOLERANCE = {True: 0.1, False: 1e-2}
"""The same where only other rows change: the sizes are equal, so there is hardly any rounding."""


class RowsMix(Exception):  # noqa: N818 - it says what happened
    """Packed rows are not what the rows are alone; the message describes it."""


def check_isolation(
    model: PreTrainedModel,
    collate: Collate,
    rows: Rows,
    precision: Precision = Precision.FP32,
    n_shared: int = 0,
) -> None:
    """Compare packed rows with the same rows alone, and with other rows before them.

    Args:
        model: On the training's device, not wrapped yet.
        collate: Makes the trainer's batch of packed rows.
        rows: Tokens of two rows or more.
        precision: Number format of the training.
        n_shared: Tokens that all rows begin with, which a batch contains once.

    Raises:
        RowsMix: The rows are not kept apart, or the model does not accept such a batch.
    """
    import torch

    def states(batch: dict[str, Any]) -> Tensor:
        found: Tensor = model.base_model(**batch, use_cache=False).last_hidden_state
        return found

    is_half = precision is not Precision.FP32 or model.dtype != torch.float32
    was_training = model.training
    try:
        with torch.no_grad(), _computing(model.device, precision):
            _set_mode(model, lambda: states(_batch(_alone(rows[0]), model.device)))
            compare_rows(states, collate, rows, model.device, is_half=is_half, n_shared=n_shared)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RowsMix(f"the model does not accept packed rows ({reason})") from error
    finally:
        model.train(was_training)


def check_wrapped(model: nn.Module, collate: Collate, rows: Rows) -> None:
    """Compare packed rows with the same rows alone, by the logits of a model as it is trained.

    Args:
        model: Wrapped for several processes, all of which call this.
        collate: Makes the trainer's batch of packed rows.
        rows: Tokens of two rows or more.

    Raises:
        TrainingContractBroken: The rows are not kept apart.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            compare_rows(
                lambda batch: model(**batch, use_cache=False).logits,
                collate,
                rows,
                next(model.parameters()).device,
                is_half=True,
            )
    except RowsMix as error:
        raise TrainingContractBroken(
            "packed rows would be mixed",
            where="training.packing",
            expected="the states of each row alone",
            got=str(error),
            fix="set training.packing=false",
        ) from error
    finally:
        model.train(was_training)


def compare_rows(
    states: States,
    collate: Collate,
    rows: Rows,
    device: torch.device,
    *,
    is_half: bool,
    n_shared: int = 0,
) -> None:
    """Compare what a model computes for packed rows with what it computes for them alone.

    Args:
        states: Runs the model on a batch.
        collate: Makes a batch of packed rows.
        rows: Tokens of two rows or more.
        device: The model's.
        is_half: Whether the model computes in 16 bits.
        n_shared: Tokens that all rows begin with, which a batch contains once.

    Shape:
        states(batch): (1, seq, width).

    Raises:
        RowsMix: The rows are not kept apart.
    """
    import torch

    def packed(rows: Rows) -> Tensor:
        return states(_batch(collate(rows), device))[0, n_shared:].float()

    alone = torch.cat([states(_batch(_alone(row), device))[0, n_shared:].float() for row in rows])
    together = packed(rows)
    if together.shape != alone.shape:
        raise RowsMix("packed rows have other sizes than rows alone")
    spread = alone.std()
    difference = float((together - alone).abs().max() / spread)
    if not difference < APART_TOLERANCE[is_half]:
        raise RowsMix(_sentence("differ from those of the row alone", difference))
    n_first = len(rows[0]) - n_shared
    beside = packed([_changed(rows, n_shared), *rows[1:]])
    difference = float((beside - together)[n_first:].abs().max() / spread)
    if not difference < LEAK_TOLERANCE[is_half]:
        raise RowsMix(_sentence("change with the row before", difference))


def _sentence(what: str, difference: float) -> str:
    return f"the states of a packed row {what}, by {difference:.2g} standard deviations"


def _alone(row: Sequence[int]) -> dict[str, Any]:
    import torch

    return {"input_ids": torch.tensor([list(row)])}


def _changed(rows: Rows, n_shared: int) -> list[int]:
    """Replace each token of the first row by another one of the rows."""
    known = sorted({token for row in rows for token in row})
    following = dict(zip(known, [*known[1:], known[0]], strict=True))
    return [*rows[0][:n_shared], *(following[token] for token in rows[0][n_shared:])]


def _batch(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: each.to(device) if hasattr(each, "to") else each
        for name, each in batch.items()
        if name != "labels"
    }


def _set_mode(model: nn.Module, run: Callable[[], Tensor]) -> None:
    """Compute as in training, which may use other kernels, unless that draws random numbers."""
    model.train()
    if not run().equal(run()):
        model.eval()


def _computing(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    import torch

    if precision is Precision.FP32:
        return nullcontext()
    dtype = torch.bfloat16 if precision is Precision.BF16 else torch.float16
    return torch.autocast(device.type, dtype=dtype)

"""Measure the held-out loss of a model, row by row, on tokens that were rendered once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.config.evaluation import EvaluationConfig
from tasks.engine.progress import progress_bar
from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Row = TypeVar("Row")


@dataclass(frozen=True)
class RowLoss:
    """Teacher-forced score of one evaluation row.

    `loss_sum_nats` is the sum over its supervised tokens of -log p(token | all before it).
    """

    row: int
    loss_sum_nats: float
    n_tokens: int
    n_correct_tokens: int


def measure_losses(
    model: PreTrainedModel, tokens: Path, evaluation: EvaluationConfig
) -> list[RowLoss]:
    """Sum the negative log-likelihood of each row's supervised tokens.

    Args:
        model: The model, in evaluation mode.
        tokens: Parquet file with `row`, `input_ids`, `labels`.
        evaluation: Batch size.

    Returns:
        One score per row, in the order of the file.
    """
    return measure_rows(model, read_rows(tokens), evaluation, "held-out loss")


def read_rows(tokens: Path) -> list[dict[str, Any]]:
    """Read a Parquet file with `row`, `input_ids` and `labels`."""
    import pyarrow.parquet as parquet

    rows: list[dict[str, Any]] = parquet.read_table(tokens).to_pylist()
    return rows


def measure_rows(
    model: PreTrainedModel, rows: Sequence[dict[str, Any]], evaluation: EvaluationConfig, label: str
) -> list[RowLoss]:
    """Measure the losses of rows as `read_rows` returns them, with a labelled progress bar."""
    by_length = sorted(rows, key=lambda row: len(row["input_ids"]))
    scores: list[RowLoss] = []
    with progress_bar(total=len(rows), label=label, unit="row") as bar:
        for batch in batches(by_length, evaluation.loss_batch_size):
            scores.extend(_batch_losses(model, batch))
            bar.update(len(batch))
    order = {row["row"]: position for position, row in enumerate(rows)}
    return sorted(scores, key=lambda score: order[score.row])


def _batch_losses(model: PreTrainedModel, batch: Sequence[dict[str, Any]]) -> Iterator[RowLoss]:
    """Score a batch; the logits at position t predict the token at t + 1.

    Logits are computed only for positions that are scored in some row of the batch: those of the
    prompts would be the larger part of a table as wide as the vocabulary.

    Shape:
        input_ids, attention_mask and labels (batch, seq), right-padded; -100 = not scored.
        places (positions), ascending; logits (batch, positions, vocabulary).
    """
    import torch

    length = max(len(row["input_ids"]) for row in batch)
    input_ids = torch.zeros((len(batch), length), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, NOT_TRAINED)
    for index, row in enumerate(batch):
        n_tokens = len(row["input_ids"])
        input_ids[index, :n_tokens] = torch.tensor(row["input_ids"])
        attention_mask[index, :n_tokens] = 1
        labels[index, :n_tokens] = torch.tensor(row["labels"])
    places = (labels[:, 1:] != NOT_TRAINED).any(dim=0).nonzero().flatten()
    with torch.inference_mode():
        logits = _logits_at(model, input_ids, attention_mask, places.to(model.device))
    for index, row in enumerate(batch):
        targets = labels[index, places + 1].to(model.device)
        loss_sum, n_scored, n_correct = _score_row(logits[index], targets)
        yield RowLoss(row["row"], loss_sum, n_scored, n_correct)


def _logits_at(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, places: Tensor
) -> Tensor:
    """Return the logits at some positions of every row."""
    inputs = {
        "input_ids": input_ids.to(model.device),
        "attention_mask": attention_mask.to(model.device),
        "use_cache": False,
    }
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return model(**inputs, logits_to_keep=places).logits
    return model(**inputs).logits[:, places]


def _score_row(logits: Tensor, targets: Tensor) -> tuple[float, int, int]:
    """Sum one row's losses and count its tokens and those that were the first choice.

    Shape:
        logits (positions, vocabulary), targets (positions,); -100 = not scored.
    """
    import torch

    is_scored = targets != NOT_TRAINED
    chosen, targets = logits[is_scored].float(), targets[is_scored]
    loss_sum = torch.nn.functional.cross_entropy(chosen, targets, reduction="sum")
    n_correct = (chosen.argmax(dim=-1) == targets).sum()
    return float(loss_sum), int(is_scored.sum()), int(n_correct)


def batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Split a sequence into consecutive pieces of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]

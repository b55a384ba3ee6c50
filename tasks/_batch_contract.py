"""The template contract on a real batch: padding is not trained, whatever the pad token is."""

from __future__ import annotations

from itertools import islice
from typing import Any

from schemas.errors import TrainingContractBroken
from tasks.tokens.token_file import NOT_TRAINED

SAMPLE_ROWS = 64


def check_padding(collator: Any, rows: Any) -> None:
    """Check that the collator trains what the rows say, and no padding.

    Whether the pad token is the stop token does not matter then.

    Args:
        collator: What the trainer makes batches with.
        rows: The trainer's rows; two of different lengths are tried.

    Raises:
        TrainingContractBroken: A batch has other trained tokens than its rows.
    """
    examples = [dict(row) for row in islice(rows, SAMPLE_ROWS)]
    examples.sort(key=lambda row: len(row["input_ids"]))
    examples = [examples[0], examples[-1]]
    expected, first_left_out = _trained_tokens(examples)
    batch = collator([dict(row) for row in examples])
    is_trained = batch["labels"] != NOT_TRAINED
    trained = batch["labels"][is_trained].tolist()
    is_same = (batch["input_ids"][is_trained] == batch["labels"][is_trained]).all()
    if trained not in (expected, first_left_out) or not is_same:
        raise TrainingContractBroken(
            "a padded batch trains other tokens than its rows",
            where=type(collator).__name__,
            expected=f"{len(expected)} trained tokens",
            got=f"{len(trained)}, or other ones",
            fix="report this with the versions of trl and transformers: padding is masked wrongly",
        )


def _trained_tokens(examples: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """List the labels of rows, with and without the first of each row, which is never predicted."""
    every, first_left_out = [], []
    for row in examples:
        place = 0
        for length in row.get("seq_lengths") or [len(row["labels"])]:
            labels = row["labels"][place : place + length]
            every += [label for label in labels if label != NOT_TRAINED]
            first_left_out += [label for label in labels[1:] if label != NOT_TRAINED]
            place += length
    return every, first_left_out

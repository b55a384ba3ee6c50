"""Measure whether answers depend on their prompts: their loss under another row's prompt, and under their own.

The mean difference estimates, in nats per token, the information that the model uses of a prompt
(pointwise mutual information). A model that learned only the style of the answers has a low loss,
but gives the same answer about the same likelihood after any prompt.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import EvaluationConfig
from tasks.evaluation.losses import RowLoss, measure_rows
from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROMPT_DEPENDENCE_FILE = "prompt_dependence.jsonl"


@dataclass(frozen=True)
class RowDependence:
    """Losses of the last answer of one evaluation row, in nats over its tokens."""

    row: int
    own_prompt_nats: float
    other_prompt_nats: float
    n_tokens: int

    @property
    def score(self) -> tuple[float, float]:
        """Return what the other prompt costs, in nats, and the tokens."""
        return self.other_prompt_nats - self.own_prompt_nats, float(self.n_tokens)


def measure_dependence(
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    losses: Sequence[RowLoss],
    evaluation: EvaluationConfig,
) -> list[RowDependence]:
    """Measure the last answer of each row again, after the prompt of another row.

    Args:
        model: The model, in evaluation mode.
        rows: With `row`, `input_ids`, `labels`.
        losses: What was measured of these rows before.
        evaluation: Batch size.

    Returns:
        One value per row, in the same order; none where all prompts are equal.
    """
    whole = {loss.row: loss for loss in losses}
    parts = {row["row"]: split_row(row) for row in rows if whole[row["row"]].n_tokens}
    label = "loss under other prompts"
    other = {loss.row: loss for loss in measure_rows(model, swap_prompts(parts), evaluation, label)}
    # The loss of a row with several answers is not that of its last one.
    several = [parts[row] for row in other if whole[row].n_tokens != other[row].n_tokens]
    again = [_joined(part, part.prompt) for part in several]
    own = whole | {loss.row: loss for loss in measure_rows(model, again, evaluation, label)}
    return [
        RowDependence(row, own[row].loss_sum_nats, loss.loss_sum_nats, loss.n_tokens)
        for row, loss in other.items()
    ]


@dataclass(frozen=True)
class RowParts:
    """A row, split where its last answer begins."""

    row: int
    prompt: list[int]
    answer: list[int]
    labels: list[int]
    """Of the answer."""


def split_row(row: dict[str, Any]) -> RowParts:
    """Split a row that has labels where its last run of them begins."""
    ids, labels = row["input_ids"], row["labels"]
    end = next(place for place in range(len(labels), 0, -1) if labels[place - 1] != NOT_TRAINED)
    start = next((at + 1 for at in range(end - 1, -1, -1) if labels[at] == NOT_TRAINED), 1)
    return RowParts(row["row"], ids[:start], ids[start:end], labels[start:end])


def swap_prompts(parts: dict[int, RowParts]) -> list[dict[str, Any]]:
    """Replace the prompt of each answer by that of another row.

    Rows are ordered by the length of the prompt in powers of two, then by its hash, and each gets the
    next different prompt, the last ones those of the first. The lengths are thus similar, and
    the choice depends on nothing but the rows. A row that would be longer than all others loses
    the beginning of the other prompt, since the model may not have more positions.

    Args:
        parts: The rows by number.

    Returns:
        Rows as `measure_rows` reads them, in the order given; none where all prompts are equal.
    """
    order = sorted(parts.values(), key=_place)
    if not order or all(part.prompt == order[0].prompt for part in order):
        return []
    longest = max(len(part.prompt) + len(part.answer) for part in order)
    found = {}
    for place, part in enumerate(order):
        following = itertools.chain(order[place + 1 :], order[:place])
        prompt = next(one.prompt for one in following if one.prompt != part.prompt)
        n_room = longest - len(part.answer)
        found[part.row] = _joined(part, prompt[max(0, len(prompt) - n_room) :])
    return [found[row] for row in parts]


def _place(part: RowParts) -> tuple[int, str, int]:
    digest = hashlib.sha256(repr(part.prompt).encode()).hexdigest()
    return len(part.prompt).bit_length(), digest, part.row


def _joined(part: RowParts, prompt: list[int]) -> dict[str, Any]:
    labels = [NOT_TRAINED] * len(prompt) + part.labels
    return {"row": part.row, "input_ids": prompt + part.answer, "labels": labels}

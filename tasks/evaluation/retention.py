"""Measure rows outside the domain, on which training must lose nothing: their losses and some answers.

Files of a set in the output of `check_quality`: `retention_NAME_tokens.parquet` and
`retention_NAME_prompts.jsonl`. A row with the column `expected` is answered: `refuse` asks for a
refusal, anything else is a regular expression that the answer must contain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import EvaluationConfig
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.evaluation.answers import RowAnswer
from tasks.evaluation.losses import measure_rows, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXPECTED_COLUMN = "expected"
MAX_ANSWER_TOKENS = 48
"""Enough to see whether an answer refuses, whatever `evaluation.max_new_tokens` is."""
LOSSES_FILE = "retention_losses.jsonl"
ANSWERS_FILE = "retention_answers.jsonl"


def set_files(name: str) -> tuple[str, str]:
    """Return the names of the files with the tokens and the prompts of a set."""
    return f"retention_{name}_tokens.parquet", f"retention_{name}_prompts.jsonl"


def retention_settings(evaluation: EvaluationConfig) -> EvaluationConfig:
    """Return the settings with the limit of the answers to retention rows."""
    n_tokens = min(MAX_ANSWER_TOKENS, evaluation.max_new_tokens)
    return evaluation.model_copy(update={"max_new_tokens": n_tokens})


def measure_retention(
    model: PreTrainedModel, quality: Path, evaluation: EvaluationConfig
) -> list[dict[str, Any]]:
    """Measure the losses of every set.

    Args:
        model: The model, in evaluation mode.
        quality: Output folder of `check_quality`.
        evaluation: The names of the sets, and the batch size.

    Returns:
        One mapping per row, with the name of its set.
    """
    found = []
    for name in evaluation.retention:
        rows = read_rows(quality / set_files(name)[0])
        for loss in measure_rows(model, rows, evaluation, f"loss on {name}"):
            numbers = {"loss_sum_nats": loss.loss_sum_nats, "n_tokens": loss.n_tokens}
            found.append({"set": name, "row": loss.row, **numbers})
    return found


def asked_prompts(quality: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Read the prompts of the rows that are answered, each with the name of its `set`."""
    return [
        {"set": name, **row}
        for name in names
        for row in read_jsonl(quality / set_files(name)[1])
        if row["columns"].get(EXPECTED_COLUMN)
    ]


def write_answers(
    prompts: Sequence[dict[str, Any]], answers: Sequence[RowAnswer], path: Path
) -> None:
    """Write what was answered to each of `asked_prompts`."""
    rows = [
        {
            "set": prompt["set"],
            "row": prompt["row"],
            "prompt": prompt["question"],
            "expected": str(prompt["columns"][EXPECTED_COLUMN]),
            "answer": answer.answer,
        }
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    write_jsonl(path, rows)

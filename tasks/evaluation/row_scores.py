"""Score answers row by row, as every metric, gate and slice needs it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import MetricError
from schemas.metrics import (
    ANSWER_METRICS,
    EXPECTED_PREFIX,
    LOSS_PREFIX,
    PROMPT_DEPENDENCE,
    TOKEN_METRICS,
    AnswerFacts,
    MetricOptions,
    is_of_retention,
)
from schemas.small_files import read_small_text
from tasks.engine.jsonl import read_jsonl
from tasks.evaluation._custom_metrics import load_metric, score_with
from tasks.evaluation.answers import RowAnswer
from tasks.evaluation.losses import RowLoss
from tasks.evaluation.prompt_dependence import PROMPT_DEPENDENCE_FILE, RowDependence
from tasks.evaluation.retention_scores import read_expected, read_retained_losses

LM_EVAL_PREFIX = "lm_eval/"
ROWS_FILE = "rows.jsonl"
ROW_MARKS = ("row", "group")
"""Fields of its lines, from `eval_prompts.jsonl`: which rows are no independent evidence."""
MAX_LOSS = 700.0
"""exp of more overflows a double."""


def score_answers(
    answers: Sequence[RowAnswer], evaluation: EvaluationConfig
) -> list[dict[str, Any]]:
    """Score every answer by every configured metric.

    Args:
        answers: The model's answers.
        evaluation: The metrics and their settings.

    Returns:
        One mapping per answer: `row`, and `scores`, metric to value; None where a metric does
        not apply to the row.
    """
    options = MetricOptions(_read_schema(evaluation.json_schema), evaluation.pattern)
    custom = {name: load_metric(name, at) for name, at in evaluation.custom_metrics.items()}
    scored = []
    for answer in answers:
        facts = AnswerFacts(
            prompt=answer.question,
            reference=answer.reference,
            answer=answer.answer,
            n_answer_tokens=answer.n_answer_tokens,
            n_reference_tokens=answer.n_reference_tokens,
            is_stopped=answer.is_stopped,
        )
        scores: dict[str, float | None] = {}
        for name in evaluation.metrics:
            value = ANSWER_METRICS[name].score(facts, options)
            scores[name] = None if value is None else float(value)
        for name, function in custom.items():
            scores[name] = score_with(name, function, facts, answer.row)
        scored.append({"row": answer.row, "scores": scores})
    return scored


def _read_schema(path: str | None) -> str | None:
    """Read the JSON Schema once, and check that it is one."""
    if path is None:
        return None
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        text = read_small_text(Path(path))
        schema = json.loads(text)
        if not isinstance(schema, (dict, bool)):
            raise ValueError(f"a {type(schema).__name__}, no schema")
        validator_for(schema).check_schema(schema)
    except (OSError, ValueError, SchemaError) as error:
        raise MetricError(
            "the JSON Schema cannot be used",
            where=f"evaluation.json_schema={path}",
            expected="a file with a JSON Schema",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="correct the file or its path",
        ) from error
    return text


def summarise(
    losses: Sequence[RowLoss],
    row_scores: Sequence[Mapping[str, Any]],
    dependence: Sequence[RowDependence],
) -> dict[str, float | None]:
    """Compute the metrics of a model from row scores.

    loss: sum of the row losses over the sum of their tokens (nats per token). perplexity:
    exp(loss). token_accuracy: share of supervised tokens that were the model's first choice.
    prompt_dependence: loss under other prompts minus loss under the own ones, in nats per token.
    Every other metric: the mean over the rows it applies to. A metric without rows is None.
    """
    n_tokens = sum(row.n_tokens for row in losses)
    loss = sum(row.loss_sum_nats for row in losses) / n_tokens if n_tokens else None
    accuracy = sum(row.n_correct_tokens for row in losses) / n_tokens if n_tokens else None
    found: dict[str, float | None] = {
        "loss": loss,
        "perplexity": None if loss is None else perplexity(loss),
        "token_accuracy": accuracy,
        PROMPT_DEPENDENCE: ratio_of_totals(row.score for row in dependence),
    }
    names = dict.fromkeys(name for row in row_scores for name in row["scores"])
    for name in names:
        values = [row["scores"][name] for row in row_scores if row["scores"][name] is not None]
        found[name] = math.fsum(values) / len(values) if values else None
    return found


def ratio_of_totals(scores: Iterable[tuple[float, float]]) -> float | None:
    """Divide the sum of the values by that of the weights; None without any."""
    values, weights = [*zip(*scores, strict=True)] or ((), ())
    return math.fsum(values) / math.fsum(weights) if weights else None


def perplexity(loss: float) -> float:
    """Return exp(loss), with the loss in nats per token; infinity where a double overflows."""
    return math.exp(loss) if loss < MAX_LOSS else math.inf


def read_scores(folder: Path, metric: str) -> dict[int, tuple[float, float]]:
    """Read the values of one metric on each row.

    Args:
        folder: Output of an evaluation stage.
        metric: Any metric by name; perplexity gives the rows of the loss.

    Returns:
        Row to (sum, weight): nats and tokens, correct tokens and tokens, or a value and 1; rows
        that the metric does not apply to are left out.
    """
    if metric == PROMPT_DEPENDENCE:
        found = (RowDependence(**row) for row in read_jsonl(folder / PROMPT_DEPENDENCE_FILE))
        return {row.row: row.score for row in found}
    if metric.startswith(LOSS_PREFIX):
        return read_retained_losses(folder, metric.removeprefix(LOSS_PREFIX))
    if metric.startswith(EXPECTED_PREFIX):
        return read_expected(folder, metric.removeprefix(EXPECTED_PREFIX))
    if metric in TOKEN_METRICS:
        column = "n_correct_tokens" if metric == "token_accuracy" else "loss_sum_nats"
        rows = read_jsonl(folder / "losses.jsonl")
        return {row["row"]: (float(row[column]), float(row["n_tokens"])) for row in rows}
    if metric.startswith(LM_EVAL_PREFIX):
        task = metric.removeprefix(LM_EVAL_PREFIX)
        rows = read_jsonl(folder / "lm_eval_scores.jsonl")
        return {row["row"]: (float(row["score"]), 1.0) for row in rows if row["task"] == task}
    rows = read_jsonl(folder / "row_scores.jsonl")
    values = {row["row"]: row["scores"].get(metric) for row in rows}
    return {row: (float(value), 1.0) for row, value in values.items() if value is not None}


def read_groups(folder: Path, metric: str) -> dict[int, int]:
    """Return the group of each row of a metric; empty where every row is its own.

    That is so for tasks of lm_eval and for sets in `evaluation.retention`.

    Rows of one group have the same prompt or nearly the same text. `folder` is the output of an
    evaluation stage.
    """
    if metric.startswith(LM_EVAL_PREFIX) or is_of_retention(metric):
        return {}
    return {row["row"]: row["group"] for row in read_jsonl(folder / ROWS_FILE)}

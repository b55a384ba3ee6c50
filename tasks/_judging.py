"""Score one model on the evaluation rows: the same code for base and tuned model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from schemas.run_config import EvaluationConfig
from schemas.training_config import Device
from tasks._answers import RowAnswer, answer_prompts
from tasks._device import choose_device
from tasks._lines import read_jsonl, write_jsonl
from tasks._losses import RowLoss, measure_losses
from tasks._prepared import load_prepared_model, load_prepared_tokenizer


def judge_model(
    model_folder: Path,
    quality_folder: Path,
    evaluation: EvaluationConfig,
    seed: int,
    output: Path,
) -> dict[str, float | None]:
    """Measure loss and answers of a model loaded from disk.

    Args:
        model_folder: Folder that transformers can load, with its tokenizer.
        quality_folder: Output of `check_quality`.
        evaluation: Batch sizes and limits.
        seed: Seed of generation; greedy decoding does not draw, so it only guards the rest.
        output: Folder that gets `losses.jsonl`, `answers.jsonl`, `metrics.json`.

    Returns:
        The metrics, as written to `metrics.json`.
    """
    from transformers import set_seed

    set_seed(seed)
    device = choose_device(Device.AUTO)
    tokenizer = load_prepared_tokenizer(model_folder)
    model = load_prepared_model(model_folder, device).to(device).eval()
    losses = measure_losses(model, quality_folder / "eval_tokens.parquet", evaluation)
    prompts = read_jsonl(quality_folder / "eval_prompts.jsonl")[: evaluation.n_generation_rows]
    answers = answer_prompts(model, tokenizer, prompts, evaluation)
    metrics = summarise(losses, answers)
    write_jsonl(output / "losses.jsonl", [asdict(row) for row in losses])
    write_jsonl(output / "answers.jsonl", [asdict(row) for row in answers])
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    return metrics


def summarise(losses: Sequence[RowLoss], answers: Sequence[RowAnswer]) -> dict[str, float | None]:
    """Turn row scores into metrics.

    loss: sum of the row losses over the sum of their tokens (nats per token; token-weighted).
    perplexity: exp(loss). token_accuracy: share of supervised tokens that were the model's
    first choice. exact_match: share of answers equal to the reference but for white space.
    stop_rate: share of answers the model ended itself. empty_rate: share of empty answers.
    mean_answer_tokens: tokens per answer.

    Args:
        losses: Row losses.
        answers: Row answers.

    Returns:
        The metrics; None where nothing was measured.
    """
    n_tokens = sum(row.n_tokens for row in losses)
    loss = sum(row.loss_sum_nats for row in losses) / n_tokens if n_tokens else None
    accuracy = sum(row.n_correct_tokens for row in losses) / n_tokens if n_tokens else None
    n_answers = len(answers)

    def share(values: Iterator[float]) -> float | None:
        return sum(values) / n_answers if n_answers else None

    return {
        "loss": loss,
        "perplexity": None if loss is None else _exponential(loss),
        "token_accuracy": accuracy,
        "exact_match": share(float(row.answer.split() == row.reference.split()) for row in answers),
        "stop_rate": share(float(row.is_stopped) for row in answers),
        "empty_rate": share(float(not row.answer) for row in answers),
        "mean_answer_tokens": share(float(row.n_answer_tokens) for row in answers),
    }


def _exponential(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf  # beyond that a double overflows

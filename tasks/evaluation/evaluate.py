"""Evaluate one model: the same code for base, champion and challenger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.config.evaluation import EvaluationConfig, LmEvalConfig
from schemas.metrics import LOSS_PREFIX
from schemas.records.references import QualityReference, StageReference
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.extras import require
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.engine.keys import StageDefinition, file_sha256
from tasks.engine.stage import is_refreshed
from tasks.evaluation import _held_out, _lm_eval
from tasks.evaluation._custom_metrics import custom_metrics_sha256
from tasks.evaluation._held_out import (
    ANSWERS_FILE,
    LOSSES_FILE,
    generation_settings,
    measure_held_out,
)
from tasks.evaluation._lm_eval import run_lm_eval
from tasks.evaluation.answers import RowAnswer
from tasks.evaluation.losses import RowLoss
from tasks.evaluation.prompt_dependence import PROMPT_DEPENDENCE_FILE, RowDependence
from tasks.evaluation.retention_scores import retention_metrics
from tasks.evaluation.row_scores import (
    LM_EVAL_PREFIX,
    ROW_MARKS,
    ROWS_FILE,
    ratio_of_totals,
    read_scores,
    score_answers,
    summarise,
)
from tasks.evaluation.scores_cache import EvaluatedModel, copy_scores, keep_scores
from tasks.evaluation.slices import check_columns, write_slices


class HeldOutScores(StageReference):
    """Stored `losses.jsonl` and `answers.jsonl` of one model."""

    tokenizer_sha256: str
    n_rows: int
    n_answers: int


class LmEvalScores(StageReference):
    """Stored `lm_eval_scores.jsonl` of one model."""


SERVER_LIBRARIES = ("sglang", "vllm")
"""Servers of models that may be in the same environment, so that their version is known."""
HELD_OUT = StageDefinition("held_out_scores", _held_out.__name__, HeldOutScores, SERVER_LIBRARIES)
LM_EVAL = StageDefinition("lm_eval_scores", _lm_eval.__name__, LmEvalScores, ("transformers",))


def evaluation_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return text that changes with the files, retention rows and custom metrics of an evaluation."""
    evaluation: EvaluationConfig = arguments["evaluation"]
    tasks = evaluation.lm_eval.tasks if evaluation.lm_eval else ()
    files = [f"{name} {_content(name)}" for name in (evaluation.json_schema, *tasks) if name]
    quality: QualityReference = arguments["quality"]
    files += [f"retention {name} {sha256}" for name, sha256 in quality.retention_sha256.items()]
    return "\n".join([*files, f"custom metrics {custom_metrics_sha256(evaluation)}"])


def _content(name: str) -> str:
    path = Path(name)
    return file_sha256(path) if path.is_file() else ""


def evaluate(
    model: EvaluatedModel,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    seed: int,
    output: OutputFolder,
) -> dict[str, Any]:
    """Measure a model, or reuse what was measured of it before, and score it.

    Args:
        model: The model; fetched only if its scores are not stored yet.
        quality: Contains the tokenised rows and the rendered prompts.
        evaluation: How models are evaluated.
        seed: Seed of everything random.
        output: Gets `losses.jsonl`, `prompt_dependence.jsonl`, `answers.jsonl`, `row_scores.jsonl`,
            `rows.jsonl`, `slices.json`, `metrics.json`, those of the retention sets, and
            `lm_eval_scores.jsonl` where such tasks are configured.

    Returns:
        The fields of an `EvaluationReference` that depend on the evaluation.
    """
    is_renewed = is_refreshed(output.key.stage)
    prompts = locate(quality, "eval_prompts.jsonl")
    check_columns(read_jsonl(prompts), evaluation.slices)
    held_out = _held_out_scores(model, quality, evaluation, seed, is_renewed=is_renewed)
    copy_scores(held_out, output.path)
    if evaluation.lm_eval:
        kept = _lm_eval_scores(model, evaluation.lm_eval, seed, is_renewed=is_renewed)
        copy_scores(kept, output.path)
    return {
        "model_sha256": model.sha256,
        "tokenizer_sha256": held_out.tokenizer_sha256,
        "eval_sha256": quality.eval_sha256,
        "n_rows": quality.n_eval_rows,
        "n_answers": held_out.n_answers,
        "metrics": _score(prompts, evaluation, output.path),
    }


def _held_out_scores(
    model: EvaluatedModel,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    seed: int,
    *,
    is_renewed: bool,
) -> HeldOutScores:
    """Measure losses and answers of the pinned rows, or reuse stored ones."""
    arguments = {
        "model_sha256": model.sha256,
        "eval_sha256": quality.eval_sha256,
        "retention_sha256": quality.retention_sha256,
        "settings": generation_settings(evaluation),
        "seed": seed,
    }

    def measure(folder: Path) -> dict[str, Any]:
        with model.fetch() as folders:
            return measure_held_out(folders, locate(quality, ""), evaluation, seed, folder)

    return keep_scores(HELD_OUT, arguments, measure, HeldOutScores, is_renewed=is_renewed)


def _lm_eval_scores(
    model: EvaluatedModel, config: LmEvalConfig, seed: int, *, is_renewed: bool
) -> LmEvalScores:
    """Run lm-evaluation-harness, or reuse stored scores; they do not depend on the pinned rows."""
    require("lm_eval", "evaluation.lm_eval")  # its version is part of the key
    arguments = {
        "model_sha256": model.sha256,
        "lm_eval": config,
        "files": {name: _content(name) for name in config.tasks},
        "seed": seed,
    }

    def measure(folder: Path) -> dict[str, Any]:
        with model.fetch() as folders:
            run_lm_eval(folders, config, seed, folder)
        return {}

    return keep_scores(LM_EVAL, arguments, measure, LmEvalScores, is_renewed=is_renewed)


def _score(prompts: Path, evaluation: EvaluationConfig, folder: Path) -> dict[str, float | None]:
    """Score stored losses and answers, row by row, by slices and over all, into the same folder."""
    losses = [RowLoss(**row) for row in read_jsonl(folder / LOSSES_FILE)]
    answers = [RowAnswer(**row) for row in read_jsonl(folder / ANSWERS_FILE)]
    dependence = [RowDependence(**row) for row in read_jsonl(folder / PROMPT_DEPENDENCE_FILE)]
    row_scores = score_answers(answers, evaluation)
    write_jsonl(folder / "row_scores.jsonl", row_scores)
    rows = read_jsonl(prompts)
    write_jsonl(folder / ROWS_FILE, [{name: row[name] for name in ROW_MARKS} for row in rows])
    write_slices(losses, row_scores, dependence, rows, evaluation, folder)
    metrics = summarise(losses, row_scores, dependence)
    for name in retention_metrics(evaluation.retention):
        scores = read_scores(folder, name)
        if scores or name.startswith(LOSS_PREFIX):  # a set may expect nothing of answers
            metrics[name] = ratio_of_totals(scores.values())
    for task in evaluation.lm_eval.tasks if evaluation.lm_eval else ():
        name = f"{LM_EVAL_PREFIX}{task}"
        metrics[name] = ratio_of_totals(read_scores(folder, name).values())
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    return metrics

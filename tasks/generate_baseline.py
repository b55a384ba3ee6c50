"""Stage `generate_baseline`: the base model on the held-out rows."""

from __future__ import annotations

from schemas.records import EvaluationReference, QualityReference, TemplateReference
from schemas.run_config import EvaluationConfig
from tasks._cache import OutputFolder, locate
from tasks._judging import judge_model
from tasks._stage import stage_task


@stage_task(timeout_seconds=6 * 3600, libraries=("torch", "transformers"))
def generate_baseline(
    output: OutputFolder,
    template: TemplateReference,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    seed: int,
) -> EvaluationReference:
    """Let the untouched base model answer and score it on the held-out rows.

    Args:
        output: Gets `losses.jsonl`, `answers.jsonl`, `metrics.json`.
        template: Holds the model folder.
        quality: Holds the tokenised rows and the rendered prompts.
        evaluation: Batch sizes and limits.
        seed: Seed of everything random.

    Returns:
        The metrics and where the row scores lie.
    """
    folder = locate(quality, "")
    metrics = judge_model(locate(template, "model"), folder, evaluation, seed, output.path)
    return output.commit(
        EvaluationReference,
        model_name="base",
        eval_sha256=quality.eval_sha256,
        n_rows=quality.n_eval_rows,
        metrics=metrics,
    )

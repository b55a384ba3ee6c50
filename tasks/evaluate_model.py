"""Stage `evaluate_model`: the tuned model on the held-out rows."""

from __future__ import annotations

from schemas.records import EvaluationReference, QualityReference, TrainedReference
from schemas.run_config import EvaluationConfig
from tasks._cache import OutputFolder, locate
from tasks._judging import judge_model
from tasks._stage import stage_task


@stage_task(timeout_seconds=6 * 3600, libraries=("torch", "transformers"))
def evaluate_model(
    output: OutputFolder,
    trained: TrainedReference,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    seed: int,
) -> EvaluationReference:
    """Score the tuned model, merged and loaded from disk, exactly as the base was scored.

    Args:
        output: Gets `losses.jsonl`, `answers.jsonl`, `metrics.json`.
        trained: Holds the model folder.
        quality: Holds the tokenised rows and the rendered prompts.
        evaluation: Batch sizes and limits.
        seed: Seed of everything random.

    Returns:
        The metrics and where the row scores lie.
    """
    folder = locate(quality, "")
    metrics = judge_model(locate(trained, "model"), folder, evaluation, seed, output.path)
    return output.commit(
        EvaluationReference,
        model_name="tuned",
        eval_sha256=quality.eval_sha256,
        n_rows=quality.n_eval_rows,
        metrics=metrics,
    )

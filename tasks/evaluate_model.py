"""Stage `evaluate_model`: the challenger on the held-out rows."""

from __future__ import annotations

from schemas.config.evaluation import EvaluationConfig
from schemas.records.references import EvaluationReference, QualityReference, Role, TrainedReference
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.stage import stage_task
from tasks.evaluation.evaluate import SERVER_LIBRARIES, evaluate, evaluation_fingerprint
from tasks.evaluation.scores_cache import model_in


@stage_task(
    timeout_seconds=6 * 3600,
    libraries=SERVER_LIBRARIES,
    fingerprint=evaluation_fingerprint,
)
def evaluate_model(
    output: OutputFolder,
    trained: TrainedReference,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    seed: int,
) -> EvaluationReference:
    """Score the challenger, merged and loaded from disk, exactly as the base was scored."""
    model = model_in(locate(trained, "model"), trained.sha256)
    facts = evaluate(model, quality, evaluation, seed, output)
    return output.commit(EvaluationReference, role=Role.CHALLENGER, **facts)

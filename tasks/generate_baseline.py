"""Stage `generate_baseline`: the base model on the held-out rows."""

from __future__ import annotations

from schemas.config.evaluation import EvaluationConfig
from schemas.records.references import (
    EvaluationReference,
    QualityReference,
    Role,
    TemplateReference,
)
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.stage import stage_task
from tasks.evaluation.evaluate import SERVER_LIBRARIES, evaluate, evaluation_fingerprint
from tasks.evaluation.scores_cache import model_in


@stage_task(
    timeout_seconds=6 * 3600,
    libraries=SERVER_LIBRARIES,
    fingerprint=evaluation_fingerprint,
)
def generate_baseline(
    output: OutputFolder,
    template: TemplateReference,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    seed: int,
) -> EvaluationReference:
    """Generate and score the answers of the untouched base model on the held-out rows."""
    model = model_in(locate(template, "model"), template.sha256)
    facts = evaluate(model, quality, evaluation, seed, output)
    return output.commit(EvaluationReference, role=Role.BASE, **facts)

"""Stage `evaluate_champion`: the current champion, on the same held-out rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from schemas.config.evaluation import EvaluationConfig
from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryBusy
from schemas.records.references import (
    ChampionReference,
    EvaluationReference,
    QualityReference,
    Role,
    TrainedReference,
)
from tasks.engine.cache import OutputFolder
from tasks.engine.stage import stage_task
from tasks.evaluation.evaluate import SERVER_LIBRARIES, evaluate, evaluation_fingerprint
from tasks.evaluation.scores_cache import EvaluatedModel
from tasks.models.files import folder_sha256
from tasks.registry.champion import Opponent, fetch_opponent, find_opponent

NO_OPPONENT = "none"


def champion_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Identify the opponent in the registry and what the evaluation reads besides its arguments.

    The text changes when the alias moves.
    """
    opponent = find_opponent(arguments["registry"], arguments["trained"].sha256)
    return _fingerprint(opponent, arguments)


def _fingerprint(opponent: Opponent | None, arguments: Mapping[str, Any]) -> str:
    named = f"{opponent.fingerprint}\n{opponent.template_sha256}" if opponent else NO_OPPONENT
    return f"{named}\n{evaluation_fingerprint(arguments)}"


@stage_task(timeout_seconds=6 * 3600, libraries=SERVER_LIBRARIES, fingerprint=champion_fingerprint)
def evaluate_champion(
    output: OutputFolder,
    trained: TrainedReference,
    quality: QualityReference,
    evaluation: EvaluationConfig,
    registry: RegistryConfig,
    seed: int,
) -> ChampionReference:
    """Score the champion exactly as the challenger was scored.

    Args:
        output: Gets `champion.json` and, if there is a champion, what `evaluate` writes.
        trained: The challenger, which is never its own opponent.
        quality: With the tokenised rows and the rendered prompts.
        evaluation: How models are evaluated.
        registry: Name and aliases of the champion.
        seed: Random seed.

    Returns:
        The champion's version and scores; neither if there is no champion yet.

    Raises:
        RegistryBusy: The alias moved when the stage began.
    """
    opponent = find_opponent(registry, trained.sha256)
    given = {"evaluation": evaluation, "quality": quality}
    if _fingerprint(opponent, given) != output.key.parts["source content"]:
        raise RegistryBusy(
            "the champion changed when its evaluation began",
            where=f"alias {registry.alias} of {registry.name}",
            fix="none needed: the stage is retried with the new champion",
        )
    version = opponent.version if opponent else None
    (output.path / "champion.json").write_text(json.dumps({"version": version}), encoding="utf-8")
    if opponent is None:
        return output.commit(ChampionReference)
    facts = evaluate(opponent_model(opponent), quality, evaluation, seed, output)
    scores = EvaluationReference(
        stage=output.key.stage,
        folder=output.key.folder,
        sha256=folder_sha256(output.path),
        role=Role.CHAMPION,
        **facts,
    )
    return output.commit(
        ChampionReference,
        version=version,
        evaluation=scores,
        template_sha256=opponent.template_sha256,
    )


def opponent_model(opponent: Opponent) -> EvaluatedModel:
    """Describe the opponent as a model to evaluate; without its tag the files are hashed."""
    sha256 = opponent.model_sha256
    if not sha256:
        with fetch_opponent(opponent) as folders:
            parts = " ".join(folder_sha256(folder) for folder in folders)
        sha256 = hashlib.sha256(parts.encode()).hexdigest()
    return EvaluatedModel(sha256, lambda: fetch_opponent(opponent))

"""Scores of models by hand, and the decision on them without a flow."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from schemas.config.evaluation import EvaluationConfig
from schemas.config.gates import GateConfig
from schemas.records.decision import Challenge, SeenRows
from schemas.records.references import (
    ChampionReference,
    DecisionReference,
    EvaluationReference,
    Role,
)
from schemas.rule_ids import Verdict
from tasks.decide import decide
from tasks.engine.cache import OutputFolder
from tasks.engine.keys import stage_key
from tests.support.toy import write_jsonl

N_ROWS = 24
NO_CHAMPION = ChampionReference(stage="evaluate_champion", folder="none", sha256="none")


def judge(home: Path, role: Role, loss: float, **changes: Any) -> EvaluationReference:
    """Write the scores of a model whose loss is the same on every row.

    Args:
        home: The work directory.
        role: Whose scores.
        loss: In nats per token.
        changes: Fields of the record that differ.

    Returns:
        The record.
    """
    stage = {Role.BASE: "generate_baseline", Role.CHAMPION: "evaluate_champion"}.get(
        role, "evaluate_model"
    )
    folder = home / "stages" / stage / "key"
    folder.mkdir(parents=True)
    rows = range(N_ROWS)
    losses: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": loss * 8, "n_tokens": 8} for n in rows
    ]
    write_jsonl(folder / "losses.jsonl", losses)
    dependence: list[dict[str, object]] = [
        {"row": n, "own_prompt_nats": loss * 8, "other_prompt_nats": loss * 8 + 4, "n_tokens": 8}
        for n in rows
    ]
    write_jsonl(folder / "prompt_dependence.jsonl", dependence)
    exact: list[dict[str, object]] = [
        {"row": n, "scores": {"exact_match": float(n % 4 == 0)}} for n in rows
    ]
    write_jsonl(folder / "row_scores.jsonl", exact)
    marks: list[dict[str, object]] = [{"row": n, "group": n} for n in rows]
    write_jsonl(folder / "rows.jsonl", marks)
    answers: list[dict[str, object]] = [
        {"row": n, "answer": role, "question": "q", "reference": "r"} for n in rows
    ]
    write_jsonl(folder / "answers.jsonl", answers)
    facts = {
        "stage": stage,
        "folder": f"stages/{stage}/key",
        "sha256": role.value,
        "role": role,
        "model_sha256": role.value,
        "tokenizer_sha256": "t",
        "eval_sha256": "e",
        "n_rows": N_ROWS,
        "n_answers": N_ROWS,
        "metrics": {"loss": loss},
    }
    return EvaluationReference.model_validate(facts | changes)


def crown(evaluation: EvaluationReference, version: int = 3) -> ChampionReference:
    """Make a model champion.

    Args:
        evaluation: Its scores.
        version: Its number.

    Returns:
        The record.
    """
    return ChampionReference(
        stage="evaluate_champion",
        folder=evaluation.folder,
        sha256="c",
        version=version,
        evaluation=evaluation,
    )


def run(
    baseline: EvaluationReference,
    champion: ChampionReference,
    evaluation: EvaluationReference,
    gates: dict[str, Any] | None = None,
    settings: EvaluationConfig = EvaluationConfig(),  # noqa: B008 - frozen
    challenge: Challenge = Challenge(),  # noqa: B008 - frozen
    seen: SeenRows = SeenRows(),  # noqa: B008 - frozen
    template_sha256: str = "",
) -> DecisionReference:
    """Run the stage without a flow.

    Args:
        baseline: Scores of the base.
        champion: Scores of the champion.
        evaluation: Scores of the challenger.
        gates: Settings of the gates.
        settings: Of the evaluation.
        challenge: Number of the challenger.
        seen: Rows that a model was trained on.
        template_sha256: Of the challenger's template.

    Returns:
        The decision.
    """
    arguments = {
        "baseline": baseline,
        "champion": champion,
        "evaluation": evaluation,
        "gates": GateConfig.model_validate({"n_resamples": 400} | (gates or {})),
        "settings": settings,
        "challenge": challenge,
        "seen": seen,
        "template_sha256": template_sha256,
    }
    output = OutputFolder(stage_key(decide.definition, arguments))
    return inspect.unwrap(decide.fn)(output, **arguments)  # type: ignore[no-any-return]


def verdicts(decision: DecisionReference) -> dict[str, Verdict]:
    """List what each gate found.

    Args:
        decision: The decision.

    Returns:
        Gate to verdict.
    """
    return {gate.id: gate.verdict for gate in decision.report.gates}


def forget_prompts(folder: Path, nats: float) -> None:
    """Let another prompt cost only some nats on every row of an evaluation."""
    path = folder / "prompt_dependence.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [{**row, "other_prompt_nats": row["own_prompt_nats"] + nats} for row in rows]
    write_jsonl(path, found)

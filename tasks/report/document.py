"""The report of a run as one document: the contents of `report.json` and of the page."""

from __future__ import annotations

import json
from typing import Any

from schemas.config.run import RunConfig
from schemas.records.references import (
    EvaluationReference,
    Evidence,
    PromotionReference,
    RetrainDecision,
    Role,
    VersionReference,
)
from tasks.decision.intervals import metric_intervals
from tasks.engine.cache import locate
from tasks.engine.home import store_address
from tasks.engine.journal import read_entries
from tasks.engine.jsonl import read_jsonl
from tasks.engine.markdown import inline
from tasks.engine.redaction import public_settings
from tasks.engine.wording import number
from tasks.evaluation.slices import rows_where_base_was_better, worst_slice
from tasks.registry.lineage import flow_run_tags
from tasks.registry.tags import FLOW_RUN_ID_TAG, FLOW_RUN_URL_TAG
from tasks.report._answers import judge_counts
from tasks.sources.mixture import title
from tasks.tokens.rendering import load_renderer
from tasks.tokens.view import view_rows

MAX_WORSE_ROWS = 10
"""Rows shown on which the base was better."""

EVALUATED_ROLES = {"generate_baseline": "base", "evaluate_champion": "champion"}


def evaluations_by_role(evidence: Evidence) -> dict[str, EvaluationReference]:
    """Return the evaluations by role: base, champion where there is one, challenger."""
    found = {
        Role.BASE.value: evidence.baseline,
        Role.CHAMPION.value: evidence.champion.evaluation,
        Role.CHALLENGER.value: evidence.evaluation,
    }
    return {role: scores for role, scores in found.items() if scores is not None}


def pair_answers(
    answers: dict[str, list[dict[str, Any]]], prompts: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Pair every role's answers to the same prompt.

    Args:
        answers: Role to its answers, in the same order for every role.
        prompts: The evaluation prompts, for the question as the user wrote it.

    Returns:
        One mapping per prompt: prompt, reference, and the answer of each role by its name.
    """
    questions = {row["row"]: row["question"] for row in prompts}
    return [
        {
            "prompt": questions[rows[0]["row"]],
            "reference": rows[0]["reference"],
            **{role: row["answer"] for role, row in zip(answers, rows, strict=True)},
        }
        for rows in zip(*answers.values(), strict=True)
    ]


def build_report(
    config: RunConfig,
    evidence: Evidence,
    version: VersionReference | None,
    promotion: PromotionReference | None,
    retrain: RetrainDecision | None = None,
) -> dict[str, Any]:
    """Collect the results of a run.

    Args:
        config: The resolved configuration.
        evidence: What the stages produced.
        version: The registered version; None if no gates ran, so nothing is registered.
        promotion: What became of the alias.
        retrain: Why a scheduled run trained.

    Returns:
        The document written as `report.json`; docs/operate.md describes its fields.
    """
    report = evidence.decision.report
    roles = evaluations_by_role(evidence)
    prompts = read_jsonl(locate(evidence.quality, "eval_prompts.jsonl"))
    training = json.loads(locate(evidence.trained, "training.json").read_text(encoding="utf-8"))
    answers = {role: read_jsonl(locate(one, "answers.jsonl")) for role, one in roles.items()}
    slices = _slices(roles)
    return {
        "decision": report.decision.value,
        "mode": report.mode.value,
        "reason": promotion.reason if promotion else report.reason,
        "gates": [gate.model_dump(mode="json") for gate in report.gates],
        "confidence": report.confidence,
        "challenge": report.challenge.model_dump() if report.challenge else None,
        "notes": list(report.notes),
        "retrain": retrain.model_dump(mode="json") if retrain else None,
        "judge": judge_part(evidence),
        "training_rows": training_rows(evidence),
        "timings": run_timings(),
        "metrics": {role: scores.metrics for role, scores in roles.items()},
        "intervals": _intervals(config, roles),
        "answers": pair_answers(answers, prompts),
        "slices": slices,
        "worst_slice": worst_slice(slices[Role.CHALLENGER.value], "loss"),
        "base_was_better": _base_was_better(evidence, prompts),
        "data": _data_part(config, evidence),
        "training": {**training, "method": config.training.method.value},
        "registry": _registry_part(config, evidence, version, promotion),
        "lineage": _lineage_part(evidence),
        "config": public_settings(config.model_dump(mode="json")),
    }


def _base_was_better(evidence: Evidence, prompts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    questions = {row["row"]: row["question"] for row in prompts}
    folders = (locate(evidence.baseline, ""), locate(evidence.evaluation, ""))
    found = rows_where_base_was_better(*folders, "loss", MAX_WORSE_ROWS)
    return [{**row, "prompt": questions[row["row"]]} for row in found]


def _intervals(
    config: RunConfig, roles: dict[str, EvaluationReference]
) -> dict[str, dict[str, tuple[float, float]]]:
    return {
        role: metric_intervals(locate(scores, ""), scores.metrics, config.gates)
        for role, scores in roles.items()
    }


def _slices(roles: dict[str, EvaluationReference]) -> dict[str, Any]:
    return {
        role: json.loads(locate(scores, "slices.json").read_text(encoding="utf-8"))
        for role, scores in roles.items()
    }


def _data_part(config: RunConfig, evidence: Evidence) -> dict[str, Any]:
    return {
        "source": title(config.data.origin),
        "formats": evidence.checked.formats,
        **evidence.checked.model_dump(include={"n_rows", "n_kept_rows", "n_quarantined_rows"}),
        **evidence.quality.model_dump(
            include={"n_train_rows", "n_eval_rows", "n_train_tokens", "n_supervised_tokens"}
        ),
        "rules": [
            rule.model_dump(mode="json")
            for rule in (*evidence.checked.rules, *evidence.quality.rules)
        ],
    }


def _lineage_part(evidence: Evidence) -> dict[str, str]:
    return {
        "dataset_sha256": evidence.checked.kept_sha256,
        "eval_sha256": evidence.quality.eval_sha256,
        "template_sha256": evidence.template.template_sha256,
        "base_model": evidence.template.model_name,
        "base_fingerprint": evidence.template.model_fingerprint,
        "model_sha256": evidence.trained.sha256,
    }


def _registry_part(
    config: RunConfig,
    evidence: Evidence,
    version: VersionReference | None,
    promotion: PromotionReference | None,
) -> dict[str, Any]:
    return {
        "name": config.registry.name,
        "alias": config.registry.alias,
        "version": version.version if version else None,
        "is_promoted": promotion.is_promoted if promotion else False,
        "previous_version": promotion.previous_version if promotion else None,
        "compared_with_version": evidence.champion.version,
        "model_uri": version.model_uri if version else None,
        "run_id": version.run_id if version else None,
        "experiment_id": version.experiment_id if version else None,
        "tracking_uri": store_address(version.tracking_uri) if version else None,
    }


def outcome(report: dict[str, Any]) -> str:
    """Return promoted, refused, not promoted (a dry run, or a person declined), or not evaluated."""
    if report["registry"]["is_promoted"]:
        return "promoted"
    names = {"refuse": "refused", "skipped": "not evaluated"}
    return names.get(report["decision"], "not promoted")


def summarise(report: dict[str, Any]) -> str:
    """Write the summary of `report.json` that Prefect shows with the run, in Markdown."""
    registry, metrics = report["registry"], report["metrics"]
    version = f" version {registry['version']}" if registry["version"] else ""
    names = list(dict.fromkeys(name for role in metrics.values() for name in role))
    lines = [
        f"## {registry['name']}{version}: {outcome(report)}",
        "",
        inline(report["reason"]),
        "",
        *(
            [f"Why this run trained: {inline(report['retrain']['detail'])}", ""]
            if report["retrain"]
            else []
        ),
        f"| metric | {' | '.join(metrics)} |",
        f"|---|{'---|' * len(metrics)}",
        *(
            f"| {inline(name)} | {' | '.join(number(role.get(name)) for role in metrics.values())} |"
            for name in names
        ),
    ]
    return "\n".join(lines)


def training_rows(evidence: Evidence) -> list[list[tuple[str, bool]]]:
    """Return the first two training rows: text of each token, and whether it is trained."""
    renderer = load_renderer(
        locate(evidence.template, "model"), locate(evidence.template, "training_template.jinja")
    )
    return view_rows(renderer, locate(evidence.quality, "train_tokens.parquet"))


def run_timings() -> dict[str, Any]:
    """Return the id and page of the current flow run, and its stages in order with their seconds.

    Outside a flow run: no id and no stages.
    """
    tags = flow_run_tags()
    run_id = tags.get(FLOW_RUN_ID_TAG)
    entries = read_entries(run_id) if run_id else []
    return {
        "flow_run_id": run_id,
        "flow_run_url": tags.get(FLOW_RUN_URL_TAG) or None,
        "stages": [
            entry.model_dump(mode="json", include={"stage", "event", "detail", "seconds"})
            for entry in entries
        ],
    }


def judge_part(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Count a judging model's verdicts by opponent, see `judge_counts`; empty without a judge."""
    found = {}
    for path in sorted(locate(evidence.decision, "").glob("judge_*.jsonl")):
        stage = path.stem.removeprefix("judge_")
        found[EVALUATED_ROLES.get(stage, stage)] = judge_counts(read_jsonl(path))
    return found

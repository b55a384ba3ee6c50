"""Flow `train-sft`: from a dataset to a promoted model, or a refusal with reasons."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows._approval import ask_for_approval
from flows._forecast import warn_of_refusals
from flows._late_runs import yields_to_newer
from flows._one_at_a_time import one_run_at_a_time
from flows._private_parameters import hides_secrets
from flows._rejections import handles_rejection
from flows._storage import bounds_storage
from flows.check_data import gate_rows
from schemas.config.gates import DecisionMode
from schemas.config.run import RunConfig, seed_of
from schemas.errors import ChampionChanged
from schemas.records.decision import Challenge, Decision, SeenRows
from schemas.records.references import (
    ChampionReference,
    DatasetReference,
    Evidence,
    ReportReference,
    RetrainDecision,
    VersionReference,
)
from schemas.records.stages import Stage
from tasks.check_environment import check_environment, check_registry
from tasks.dataset.trained_rows import collect_trained_rows, find_seen_rows
from tasks.decide import decide
from tasks.engine.cache import locate
from tasks.engine.stage import retried_task
from tasks.evaluate_champion import evaluate_champion
from tasks.evaluate_model import evaluate_model
from tasks.generate_baseline import generate_baseline
from tasks.load_dataset import load_dataset
from tasks.promote_model import promote_model
from tasks.publish_report import publish_report
from tasks.register_model import register_model
from tasks.registry.challenges import number_challenger
from tasks.registry.lineage import version_fingerprint
from tasks.release.closing import close_run
from tasks.report.announcements import announce_report
from tasks.train_model import check_adapters, train_model

MAX_DECISIONS = 3
"""Maximum number of decisions of a run, if other promotions come first."""


@hides_secrets
@flow(name="train-sft", flow_run_name="{config.registry.name}", log_prints=False)
@yields_to_newer
@handles_rejection
@bounds_storage
def train_sft(
    config: RunConfig = RunConfig(),  # noqa: B008 - frozen
    refresh: tuple[Stage, ...] = (),
) -> ReportReference:
    """Train, evaluate and register a model, and promote it if it passes the gates.

    Args:
        config: Settings of the run.
        refresh: Stages to compute again even if nothing changed.

    Returns:
        Reference to the report, with the decision.
    """
    with one_run_at_a_time(config.registry.name):
        check_environment(config.evaluation.server)
        return train_and_evaluate(config, load_dataset(config.data.origin), None)


def train_and_evaluate(
    config: RunConfig, dataset: DatasetReference, retrain: RetrainDecision | None
) -> ReportReference:
    """Run the stages after `load_dataset` in order.

    Args:
        config: Settings of the run.
        dataset: The loaded rows.
        retrain: Why a scheduled run trains; None for a manual run.

    Returns:
        Reference to the report.
    """
    if config.gates.mode is not DecisionMode.OFF:
        check_registry(config.registry)
    rows = gate_rows(config, dataset)
    warn_of_refusals(config, rows)
    check_adapters(rows.template, rows.quality, config.training, seed_of(config, config.training))
    baseline = generate_baseline(rows.template, rows.quality, config.evaluation, config.seed)
    trained = train_model(
        rows.template, rows.quality, config.training, seed_of(config, config.training)
    )
    evaluation = evaluate_model(trained, rows.quality, config.evaluation, config.seed)
    evidence = {"trained": trained, "baseline": baseline, "evaluation": evaluation}
    reference, version = settle(config, rows._asdict() | evidence, retrain)
    announce_report(config, reference)
    if version:  # last, so that what a killed run did not announce is announced by the next
        close_run(config, dataset, version)
    return reference


def settle(
    config: RunConfig, evidence: dict[str, Any], retrain: RetrainDecision | None
) -> tuple[ReportReference, VersionReference | None]:
    """Decide, register and promote; decide again if another promotion came first.

    Args:
        config: Settings of the run.
        evidence: Results of the stages, by their names in `Evidence`.
        retrain: Why a scheduled run trains.

    Returns:
        Reference to the report, and to the version; None where gates.mode is off.

    Raises:
        ChampionChanged: Another promotion came first in each of `MAX_DECISIONS` attempts.
    """
    trained, quality, baseline = evidence["trained"], evidence["quality"], evidence["baseline"]
    evaluation = evidence["evaluation"]
    changed: ChampionChanged | None = None
    if retrain:  # how old the last version is changes with each look, and nothing else may
        retrain = retrain.model_copy(update={"age_days": None})
    for _ in range(MAX_DECISIONS):
        champion = evaluate_champion(
            trained, quality, config.evaluation, config.registry, config.seed
        )
        challenge = find_challenge(config, evidence, champion)
        seen = find_seen(config, evidence, champion)
        decision = decide(
            baseline,
            champion,
            evaluation,
            config.gates,
            config.evaluation,
            challenge,
            seen,
            evidence["template"].template_sha256,
        )
        complete = Evidence(**evidence, champion=champion, decision=decision)
        if decision.decision is Decision.SKIPPED:
            return publish_report(config, complete, None, None, retrain), None
        version = register_model(config, complete)
        approval = ask_for_approval(config.registry, version, decision)
        try:
            promotion = promote_model(version, decision, config.registry, approval)
        except ChampionChanged as error:
            changed = error
            continue
        return publish_report(config, complete, version, promotion, retrain), version
    raise changed or ChampionChanged("the champion changed")


@retried_task
def find_challenge(
    config: RunConfig, evidence: dict[str, Any], champion: ChampionReference
) -> Challenge:
    """Number the challenger among those compared with the same champion on these held-out rows.

    Args:
        config: Settings of the run.
        evidence: Results of the stages, by their names in `Evidence`.
        champion: Scores of the champion; none before the first promotion.

    Returns:
        Its number.
    """
    if config.gates.mode is DecisionMode.OFF:
        return Challenge()
    opponent = champion.evaluation or evidence["baseline"]
    fingerprint = version_fingerprint(
        config.registry.name, Evidence.model_construct(**evidence, champion=champion)
    )
    prompts = locate(evidence["quality"], "eval_prompts.jsonl")
    return number_challenger(config.registry.name, fingerprint, opponent.model_sha256, prompts)


@retried_task
def find_seen(config: RunConfig, evidence: dict[str, Any], champion: ChampionReference) -> SeenRows:
    """Find the held-out rows that challenger or champion was trained on, see `find_seen_rows`."""
    if config.gates.mode is DecisionMode.OFF:
        return SeenRows()
    name, version = config.registry.name, champion.version
    return find_seen_rows(
        locate(evidence["quality"], "eval_prompts.jsonl"),
        collect_trained_rows(evidence["split"], evidence["template"]),
        f"models:/{name}/{version}" if version else None,
    )

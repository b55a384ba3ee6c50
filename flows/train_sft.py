"""Flow `train-sft`: from a dataset to a promoted model, or a refusal with reasons."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows._approval import ask_for_approval
from flows._one_at_a_time import one_run_at_a_time
from flows._rejections import handles_rejection
from flows.check_data import gate_rows
from schemas.config.run import RunConfig
from schemas.errors import ChampionChanged
from schemas.records.decision import Decision
from schemas.records.references import DatasetReference, Evidence, ReportReference, RetrainDecision
from schemas.records.stages import Stage
from tasks.check_environment import check_environment
from tasks.decide import decide
from tasks.evaluate_champion import evaluate_champion
from tasks.evaluate_model import evaluate_model
from tasks.generate_baseline import generate_baseline
from tasks.load_dataset import load_dataset
from tasks.promote_model import promote_model
from tasks.publish_report import publish_report
from tasks.register_model import register_model
from tasks.report.announcements import announce_report
from tasks.train_model import check_adapters, train_model

MAX_DECISIONS = 3
"""Maximum number of decisions of a run, if other promotions come first."""


@flow(name="train-sft", flow_run_name="{config.registry.name}", log_prints=False)
@handles_rejection
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
    rows = gate_rows(config, dataset)
    check_adapters(rows.template, rows.quality, config.training, config.seed)
    baseline = generate_baseline(rows.template, rows.quality, config.evaluation, config.seed)
    trained = train_model(rows.template, rows.quality, config.training, config.seed)
    evaluation = evaluate_model(trained, rows.quality, config.evaluation, config.seed)
    evidence = {"trained": trained, "baseline": baseline, "evaluation": evaluation}
    reference = settle(config, rows._asdict() | evidence, retrain)
    announce_report(config, reference)
    return reference


def settle(
    config: RunConfig, evidence: dict[str, Any], retrain: RetrainDecision | None
) -> ReportReference:
    """Decide, register and promote; decide again if another promotion came first.

    Args:
        config: Settings of the run.
        evidence: Results of the stages, by their names in `Evidence`.
        retrain: Why a scheduled run trains.

    Returns:
        Reference to the report.

    Raises:
        ChampionChanged: Another promotion came first in each of `MAX_DECISIONS` attempts.
    """
    trained, quality, baseline = evidence["trained"], evidence["quality"], evidence["baseline"]
    evaluation = evidence["evaluation"]
    changed: ChampionChanged | None = None
    for _ in range(MAX_DECISIONS):
        champion = evaluate_champion(
            trained, quality, config.evaluation, config.registry, config.seed
        )
        decision = decide(
            baseline, champion, evaluation, config.gates, config.evaluation, config.seed
        )
        complete = Evidence(**evidence, champion=champion, decision=decision)
        if decision.decision is Decision.SKIPPED:
            return publish_report(config, complete, None, None, retrain)
        version = register_model(config, complete)
        approval = ask_for_approval(config.registry, version, decision)
        try:
            promotion = promote_model(version, decision, config.registry, approval)
        except ChampionChanged as error:
            changed = error
            continue
        return publish_report(config, complete, version, promotion, retrain)
    raise changed or ChampionChanged("the champion changed")

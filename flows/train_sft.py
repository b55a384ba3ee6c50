"""The main flow: a dataset goes in, a promoted model or a reasoned refusal comes out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows._approval import ask_for_approval
from flows._one_at_a_time import one_run_at_a_time
from flows._rejections import tells_rejections
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
from tasks.train_model import train_model

MAX_DECISIONS = 3
"""Times a run decides anew because another promotion came first."""


@flow(name="train-sft", flow_run_name="{config.registry.name}", log_prints=False)
@tells_rejections
def train_sft(
    config: RunConfig = RunConfig(),  # noqa: B008 - frozen
    refresh: tuple[Stage, ...] = (),
) -> ReportReference:
    """Turn a dataset into a promoted model, or refuse with figures.

    Args:
        config: Everything the run depends on.
        refresh: Stages to compute anew although nothing they depend on changed.

    Returns:
        Reference to the report, which carries the decision.
    """
    with one_run_at_a_time(config.registry.name):
        check_environment()
        return train_and_evaluate(config, load_dataset(config.data.origin), None)


def train_and_evaluate(
    config: RunConfig, dataset: DatasetReference, retrain: RetrainDecision | None
) -> ReportReference:
    """Call the stages in their order, from the loaded rows on.

    Args:
        config: Everything the run depends on.
        dataset: The rows.
        retrain: Why a scheduled run trains; None where a person asked for it.

    Returns:
        Reference to the report.
    """
    rows = gate_rows(config, dataset)
    baseline = generate_baseline(rows.template, rows.quality, config.evaluation, config.seed)
    trained = train_model(rows.template, rows.quality, config.training, config.seed)
    evaluation = evaluate_model(trained, rows.quality, config.evaluation, config.seed)
    judged = {"trained": trained, "baseline": baseline, "evaluation": evaluation}
    reference = settle(config, rows._asdict() | judged, retrain)
    announce_report(config, reference)
    return reference


def settle(
    config: RunConfig, judged: dict[str, Any], retrain: RetrainDecision | None
) -> ReportReference:
    """Decide, register and promote; decide again when another promotion came first.

    Args:
        config: Everything the run depends on.
        judged: What the stages produced, by their names in `Evidence`.
        retrain: Why a scheduled run trains.

    Returns:
        Reference to the report.

    Raises:
        ChampionChanged: The champion changed as often as this run decided.
    """
    trained, quality, baseline = judged["trained"], judged["quality"], judged["baseline"]
    evaluation = judged["evaluation"]
    changed: ChampionChanged | None = None
    for _ in range(MAX_DECISIONS):
        champion = evaluate_champion(
            trained, quality, config.evaluation, config.registry, config.seed
        )
        decision = decide(
            baseline, champion, evaluation, config.gates, config.evaluation, config.seed
        )
        evidence = Evidence(**judged, champion=champion, decision=decision)
        if decision.decision is Decision.SKIPPED:
            return publish_report(config, evidence, None, None, retrain)
        version = register_model(config, evidence)
        approval = ask_for_approval(config.registry, version, decision)
        try:
            promotion = promote_model(version, decision, config.registry, approval)
        except ChampionChanged as error:
            changed = error
            continue
        return publish_report(config, evidence, version, promotion, retrain)
    raise changed or ChampionChanged("the champion changed")

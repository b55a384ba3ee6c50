"""The main flow: a dataset goes in, a promoted model or a reasoned refusal comes out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows._approval import ask_for_approval
from schemas.errors import ChampionChanged
from schemas.gate_report import Decision
from schemas.records import Evidence, ReportReference
from schemas.run_config import RunConfig
from schemas.stages import Stage
from tasks.check_environment import check_environment
from tasks.check_quality import check_quality
from tasks.check_schema import check_schema
from tasks.decide import decide
from tasks.evaluate_champion import evaluate_champion
from tasks.evaluate_model import evaluate_model
from tasks.generate_baseline import generate_baseline
from tasks.load_dataset import load_dataset
from tasks.prepare_template import prepare_template
from tasks.promote_model import promote_model
from tasks.publish_report import publish_report
from tasks.register_model import register_model
from tasks.split_dataset import split_dataset
from tasks.train_model import train_model

MAX_DECISIONS = 3
"""Times a run decides anew because another promotion came first."""


@flow(name="train-sft", flow_run_name="{config.registry.name}", log_prints=False)
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
    check_environment()
    dataset = load_dataset(config.data.origin)
    template = prepare_template(config.start, config.template, config.seed)
    checked = check_schema(dataset, config.data.rules, template.special_tokens)
    split = split_dataset(
        checked, config.split, config.seed, config.quality.near_duplicate_similarity
    )
    quality = check_quality(
        split, checked, template, config.quality, config.registry, config.data.weights
    )
    baseline = generate_baseline(template, quality, config.evaluation, config.seed)
    trained = train_model(template, quality, config.training, config.seed)
    evaluation = evaluate_model(trained, quality, config.evaluation, config.seed)
    judged = {"checked": checked, "split": split, "quality": quality, "template": template}
    judged |= {"trained": trained, "baseline": baseline, "evaluation": evaluation}
    return settle(config, judged)


def settle(config: RunConfig, judged: dict[str, Any]) -> ReportReference:
    """Decide, register and promote; decide again when another promotion came first.

    Args:
        config: Everything the run depends on.
        judged: What the stages produced, by their names in `Evidence`.

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
            return publish_report(config, evidence, None, None)
        version = register_model(config, evidence)
        approval = ask_for_approval(config.registry, version, decision)
        try:
            promotion = promote_model(version, decision, config.registry, approval)
        except ChampionChanged as error:
            changed = error
            continue
        return publish_report(config, evidence, version, promotion)
    raise changed or ChampionChanged("the champion changed")

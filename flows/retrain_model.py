"""Flow `retrain`, to be scheduled: trains only if there is a reason to."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from flows._late_runs import yields_to_newer
from flows._one_at_a_time import one_run_at_a_time
from flows._private_parameters import hides_secrets
from flows._rejections import handles_rejection
from flows._storage import bounds_storage
from flows.check_data import find_rejection, gate_rows
from flows.train_sft import train_and_evaluate
from schemas.config.run import RunConfig
from schemas.records.references import (
    DatasetReference,
    ReportReference,
    RetrainDecision,
    RetrainReason,
)
from schemas.records.stages import Stage
from schemas.rules.profile import parse_profile
from tasks.check_environment import check_environment
from tasks.engine.cache import locate
from tasks.load_dataset import load_dataset
from tasks.registry.rejections import still_rejected
from tasks.registry.retrain_reasons import find_evaluated, wants_drift, weigh_drift, weigh_reasons
from tasks.report.announcements import announce_skip


@hides_secrets
@flow(name="retrain", flow_run_name="{config.registry.name}", log_prints=False)
@yields_to_newer
@handles_rejection
@bounds_storage
def retrain_model(
    config: RunConfig = RunConfig(),  # noqa: B008 - frozen
    refresh: tuple[Stage, ...] = (),
) -> ReportReference | RetrainDecision:
    """Train again if rows or settings changed enough; otherwise end within seconds.

    Args:
        config: Settings; `config.retrain` defines the reasons to train.
        refresh: Stages to compute again even if nothing changed; this alone is no reason to train.

    Returns:
        Reference to the report, or the decision not to train.
    """
    with one_run_at_a_time(config.registry.name):
        return train_with_reason(config)


def train_with_reason(config: RunConfig) -> ReportReference | RetrainDecision:
    """Train if there is a reason to; otherwise return the decision not to train."""
    check_environment(config.evaluation.server)
    dataset = load_dataset(config.data.origin)
    decision = decide_retrain(config, dataset)
    get_run_logger().info(
        "%s: %s", "training" if decision.is_needed else "nothing to do", decision.detail
    )
    if not decision.is_needed:
        announce_skip(config, decision)
        return decision
    return train_and_evaluate(config, dataset, decision)


def decide_retrain(config: RunConfig, dataset: DatasetReference) -> RetrainDecision:
    """Decide whether there is a reason to train; runs the data gate only if drift can be the reason."""
    evaluated = find_evaluated(config.registry)
    decision = weigh_reasons(config, dataset, evaluated)
    needs_gate = decision.is_needed or wants_drift(config, decision)
    if needs_gate and (rejected := find_rejection(config, dataset)):
        return decision.model_copy(
            update={"reason": RetrainReason.NOTHING, "detail": still_rejected(rejected)}
        )
    if evaluated is None or not wants_drift(config, decision):
        return decision
    path = locate(gate_rows(config, dataset).quality, "profile.json")
    profile = parse_profile(path.read_bytes(), str(path))
    return weigh_drift(config, decision, evaluated, profile)

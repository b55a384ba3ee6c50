"""What gates ask of the evaluation: their metrics, and enough rows that have them."""

from __future__ import annotations

from schemas.config.evaluation import EvaluationConfig
from schemas.config.gates import JUDGE_METRIC, GateConfig, GateDefinition, with_retention
from schemas.metrics import Direction, is_of_all_rows, metric_direction
from schemas.rule_ids import Severity


def require_metrics(gates: GateConfig, evaluation: EvaluationConfig) -> None:
    """Check that every gate has a metric that is computed, can be gated, and has enough rows.

    Args:
        gates: What a promotion requires.
        evaluation: How models are evaluated.

    Raises:
        ValueError: A gate cannot be computed.
    """
    for gate in with_retention(gates, evaluation.retention).definitions:
        if not gate.metric:
            raise ValueError(
                f"gates.checks.{gate.id} is of a set that evaluation.retention does not have"
            )
        if gate.metric not in evaluation.metric_names:
            raise ValueError(
                f"gates.checks.{gate.id} uses metric {gate.metric!r}, which is not "
                f"computed; computed are {', '.join(sorted(evaluation.metric_names))}"
            )
        if metric_direction(gate.metric) is Direction.NONE:
            raise ValueError(
                f"gates.checks.{gate.id}: metric {gate.metric} has no better direction to gate"
            )
        _require_rows(gate, gates, evaluation)


def _require_rows(gate: GateDefinition, gates: GateConfig, evaluation: EvaluationConfig) -> None:
    if is_of_all_rows(gate.metric) or gate.metric.startswith("lm_eval/"):
        return
    judge, n_rows = evaluation.judge, evaluation.n_generation_rows
    if gate.metric == JUDGE_METRIC and judge:
        n_rows = min(n_rows, judge.n_rows)
    if n_rows < gates.min_eval_rows and gate.severity is not Severity.OFF:
        raise ValueError(
            f"gates.checks.{gate.id} compares {n_rows} answers, fewer than gates.min_eval_rows"
            f"={gates.min_eval_rows}: raise evaluation.n_generation_rows"
        )

"""Promotion gates: one function per kind, from the rows' scores to a verdict with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schemas.config.gates import Against, GateConfig, GateDefinition
from schemas.metrics import Direction, is_per_token, metric_direction
from schemas.records.decision import GateResult
from schemas.records.references import EvaluationReference
from schemas.rule_ids import Severity, Verdict
from tasks.decision.intervals import (
    MIN_INTERVAL_GROUPS,
    Groups,
    RowScores,
    count_groups,
    gain_interval,
    metric_interval,
    metric_value,
    score_columns,
)
from tasks.engine.wording import interval, number, share, signed_interval, signed_number

if TYPE_CHECKING:
    from tasks.decision.intervals import Array


def row_count_gate(evaluation: EvaluationReference, gates: GateConfig, n_groups: int) -> GateResult:
    """Check that the challenger was evaluated on at least `gates.min_eval_rows` groups of rows.

    Rows that share a prompt or nearly their text count once: 20 answers to one prompt say as
    little about other prompts as one.
    """
    is_enough = n_groups >= gates.min_eval_rows
    return GateResult(
        id="min_eval_rows",
        metric="n_rows",
        against=Against.ABSOLUTE,
        challenger=evaluation.n_rows,
        n_rows=evaluation.n_rows,
        n_groups=n_groups,
        limit=gates.min_eval_rows,
        verdict=Verdict.PASSED if is_enough else Verdict.FAILED,
        reason=f"{_count_rows(evaluation.n_rows, n_groups, 'held-out rows')}, "
        f"at least {gates.min_eval_rows} required",
    )


def same_evaluation_gate(
    evaluation: EvaluationReference,
    opponents: Mapping[Against, EvaluationReference],
    rows: Mapping[str, frozenset[int]],
) -> GateResult:
    """Check that all models were evaluated on the same rendered rows.

    Args:
        evaluation: The challenger's.
        opponents: Base, and the champion if there is one.
        rows: Numbers of the rows evaluated, by `EvaluationReference.sha256`.

    Returns:
        The gate's result.
    """
    reasons = []
    for against, opponent in opponents.items():
        if opponent.eval_sha256 != evaluation.eval_sha256:
            reasons.append(
                f"{against} was evaluated on set {opponent.eval_sha256[:8]}, "
                f"the challenger on {evaluation.eval_sha256[:8]}"
            )
        elif opponent.tokenizer_sha256 != evaluation.tokenizer_sha256:
            continue  # an opponent may lack tokens of the rows, and so their losses: each gate looks
        elif rows[opponent.sha256] != rows[evaluation.sha256]:
            n_other = len(rows[opponent.sha256] ^ rows[evaluation.sha256])
            reasons.append(
                f"{n_other} rows were evaluated for only one of {against} and challenger"
            )
    return GateResult(
        id="same_evaluation",
        metric="eval_sha256",
        against=Against.BASE,
        n_rows=evaluation.n_rows,
        limit=0,
        verdict=Verdict.FAILED if reasons else Verdict.PASSED,
        reason="; ".join(reasons) or "all models were evaluated on the same rendered rows",
    )


def skip_gate(gate: GateDefinition, reason: str) -> GateResult:
    """Return a result that neither passes nor refuses."""
    return _result(gate, Verdict.SKIPPED, reason)


def tokenizer_gate(
    gate: GateDefinition, opponent: EvaluationReference, evaluation: EvaluationReference
) -> GateResult | None:
    """Refuse to compare metrics per token of different tokenizers; None where they compare."""
    is_same = opponent.tokenizer_sha256 == evaluation.tokenizer_sha256
    if is_same or not is_per_token(gate.metric):
        return None
    return _refuse(
        gate,
        f"{gate.against} and challenger have different tokenizers, and {gate.metric} per token "
        "of different tokenizers does not compare; gate a metric of the answers instead",
    )


def template_gate(gate: GateDefinition) -> GateResult | None:
    """Refuse to compare metrics per token of a champion trained with another chat template.

    Its losses are measured on the challenger's rendering, which it never saw and is never asked in.
    None for a metric of the answers.
    """
    if not is_per_token(gate.metric):
        return None
    return _refuse(
        gate,
        f"{gate.against} and challenger have different chat templates, and {gate.metric} per token "
        "was measured in the challenger's, which the other was not trained on; restore the "
        f"template, or set gates.checks.{gate.id}.severity=off and gate a metric of the answers",
    )


def absolute_gate(
    gate: GateDefinition, challenger: RowScores, gates: GateConfig, groups: Groups
) -> GateResult:
    """Compare the challenger's metric with a fixed limit; the interval is only reported.

    Args:
        gate: Metric and worst value allowed.
        challenger: The challenger's rows.
        gates: Level of the interval, resamples, fewest rows.
        groups: Group of each row.

    Returns:
        The gate's result.
    """
    problem = _find_problem(gate, {"challenger": challenger}, gates, groups)
    if problem:
        return _refuse(gate, problem)
    value = float(metric_value(gate.metric, *score_columns(challenger, groups)))
    low, high = metric_interval(gate.metric, challenger, groups, gates)
    is_lower_better = metric_direction(gate.metric) is Direction.LOWER
    is_met = value <= gate.limit if is_lower_better else value >= gate.limit
    return _result(
        gate,
        Verdict.PASSED if is_met else _refusal(gate),
        f"{gate.metric} {number(value)}, at {'most' if is_lower_better else 'least'} "
        f"{number(gate.limit)} required; {share(gates.confidence)} interval {interval(low, high)}",
        challenger=value,
        interval_low=low,
        interval_high=high,
        confidence=gates.confidence,
        n_rows=len(challenger),
        n_groups=count_groups(list(challenger), groups),
    )


def comparison_gate(
    gate: GateDefinition,
    opponent: RowScores,
    challenger: RowScores,
    gates: GateConfig,
    groups: Groups,
) -> GateResult:
    """Require a gain whose interval is entirely above the limit.

    gain = challenger - opponent where higher is better, else opponent - challenger; each metric
    is the ratio of totals over the groups drawn, and for perplexity the exponential of it.

    Args:
        gate: Metric, opponent and limit of the gain.
        opponent: Rows of the base or the champion.
        challenger: The challenger's rows.
        gates: Level of the interval, resamples, fewest rows.
        groups: Group of each row.

    Returns:
        The gate's result; every way to refuse has its own reason.
    """
    scores = {"challenger": challenger, str(gate.against): opponent}
    problem = _find_problem(gate, scores, gates, groups)
    if problem:
        return _refuse(gate, problem)
    sign = -1.0 if metric_direction(gate.metric) is Direction.LOWER else 1.0
    columns = (*score_columns(opponent, groups), *score_columns(challenger, groups))

    def gain_of(
        values: Array, weights: Array, own_values: Array, own_weights: Array, axis: int
    ) -> Array:
        own = metric_value(gate.metric, own_values, own_weights, axis)
        return sign * (own - metric_value(gate.metric, values, weights, axis))

    before, after = (float(metric_value(gate.metric, *pair)) for pair in (columns[:2], columns[2:]))
    gain = sign * (after - before)
    low, high = gain_interval(columns, gain_of, gates.confidence, gates.n_resamples)
    is_passed = low > gate.limit
    return _result(
        gate,
        Verdict.PASSED if is_passed else _refusal(gate),
        f"{gate.metric} {number(after)} against {number(before)} of {gate.against}: "
        f"gain {signed_number(gain)}, "
        f"{share(gates.confidence)} interval {signed_interval(low, high)}"
        + ("" if is_passed else _shortfall(gain, low, high, gate)),
        opponent=before,
        challenger=after,
        gain=gain,
        interval_low=low,
        interval_high=high,
        confidence=gates.confidence,
        n_rows=len(challenger),
        n_groups=len(columns[0]),
    )


def _shortfall(gain: float, low: float, high: float, gate: GateDefinition) -> str:
    """Return why a gain does not pass."""
    if gain == low == high == 0:
        return "; a tie: no row tells the two apart"
    if gain > gate.limit:
        return f"; not beyond chance: the lower end must exceed {number(gate.limit)}"
    if gain == 0:
        return "; a tie: what some rows gain, others lose"
    return f"; worse than {gate.against}" if gain < 0 else f"; not more than {number(gate.limit)}"


def _find_problem(
    gate: GateDefinition, scores: Mapping[str, RowScores], gates: GateConfig, groups: Groups
) -> str:
    """Return why the metric cannot be compared; empty where it can."""
    for role, found in scores.items():
        if not found:
            return f"{gate.metric} is missing: no row of {role} has it"
    rows = set().union(*scores.values())
    for role, found in scores.items():
        lacking = sorted(rows - found.keys())
        if lacking:
            return (
                f"{gate.metric} of {role} is missing on {len(lacking)} of {len(rows)} rows, "
                f"first on row {lacking[0]}"
            )
    for role, found in scores.items():
        bad = sorted(row for row, pair in found.items() if not _is_number(*pair))
        if bad:
            return (
                f"{gate.metric} of {role} is NaN or infinite on {len(bad)} of {len(rows)} rows, "
                f"first on row {bad[0]}"
            )
        if not math.isfinite(metric_value(gate.metric, *score_columns(found, groups))):
            return f"{gate.metric} of {role} is infinite"
    n_groups = count_groups(sorted(rows), groups)
    if n_groups < MIN_INTERVAL_GROUPS:
        what = "one row" if len(rows) == 1 else "one group of rows"
        return f"{what} with {gate.metric} gives no interval"
    if n_groups < gates.min_eval_rows:
        return (
            f"{_count_rows(len(rows), n_groups, f'rows with {gate.metric}')}, at least "
            f"{gates.min_eval_rows} (gates.min_eval_rows) required"
        )
    return ""


def _count_rows(n_rows: int, n_groups: int, name: str) -> str:
    """Count rows, and their groups where some share a prompt or nearly their text."""
    if n_groups == n_rows:
        return f"{n_rows} {name}"
    return f"{n_rows} {name} in {n_groups} groups of the same prompt or text"


def _is_number(value: float, weight: float) -> bool:
    """Check whether value / weight is a number; a row without tokens has 0 / 0."""
    return math.isfinite(value) and weight > 0


def _refusal(gate: GateDefinition) -> Verdict:
    return Verdict.FAILED if gate.severity is Severity.BLOCK else Verdict.WARNED


def _refuse(gate: GateDefinition, reason: str) -> GateResult:
    return _result(gate, _refusal(gate), reason)


def _result(gate: GateDefinition, verdict: Verdict, reason: str, **values: Any) -> GateResult:
    return GateResult(
        id=gate.id,
        metric=gate.metric,
        against=gate.against,
        limit=gate.limit,
        severity=gate.severity,
        verdict=verdict,
        reason=reason,
        **values,
    )

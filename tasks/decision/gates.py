"""The gates: one function for each kind, from the rows' scores to a verdict with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from schemas.config.gates import Against, GateConfig, GateDefinition
from schemas.metrics import TOKEN_METRICS, Direction, metric_direction
from schemas.records.decision import GateResult
from schemas.records.references import EvaluationReference
from schemas.rule_ids import Severity, Verdict
from tasks.decision.intervals import (
    MIN_INTERVAL_ROWS,
    RowScores,
    bootstrap_interval,
    figure_of,
    metric_interval,
    score_columns,
)


def row_count_gate(evaluation: EvaluationReference, gates: GateConfig) -> GateResult:
    """Hold the number of held-out rows against its minimum.

    Args:
        evaluation: The challenger's.
        gates: The minimum.

    Returns:
        The gate's result.
    """
    is_enough = evaluation.n_rows >= gates.min_eval_rows
    return GateResult(
        id="min_eval_rows",
        metric="n_rows",
        against=Against.ABSOLUTE,
        challenger=evaluation.n_rows,
        n_rows=evaluation.n_rows,
        limit=gates.min_eval_rows,
        verdict=Verdict.PASSED if is_enough else Verdict.FAILED,
        reason=f"{evaluation.n_rows} held-out rows, at least {gates.min_eval_rows} wanted",
    )


def same_evaluation_gate(
    evaluation: EvaluationReference,
    opponents: Mapping[Against, EvaluationReference],
    rows: Mapping[str, frozenset[int]],
) -> GateResult:
    """Check that all sides were judged on the same rendered rows.

    Args:
        evaluation: The challenger's.
        opponents: Base, and the champion if there is one.
        rows: Numbers of the rows judged, by `EvaluationReference.sha256`.

    Returns:
        The gate's result.
    """
    reasons = []
    for against, opponent in opponents.items():
        if opponent.eval_sha256 != evaluation.eval_sha256:
            reasons.append(
                f"{against} was judged on evaluation set {opponent.eval_sha256[:8]}, "
                f"the challenger on {evaluation.eval_sha256[:8]}"
            )
        elif opponent.tokenizer_sha256 != evaluation.tokenizer_sha256:
            continue  # an opponent may lack tokens of the rows, and so their losses: each gate looks
        elif rows[opponent.sha256] != rows[evaluation.sha256]:
            n_other = len(rows[opponent.sha256] ^ rows[evaluation.sha256])
            reasons.append(f"{n_other} rows were judged of only one of {against} and challenger")
    return GateResult(
        id="same_evaluation",
        metric="eval_sha256",
        against=Against.BASE,
        n_rows=evaluation.n_rows,
        limit=0,
        verdict=Verdict.FAILED if reasons else Verdict.PASSED,
        reason="; ".join(reasons) or "all sides answered the same rendered rows",
    )


def skip_gate(gate: GateDefinition, reason: str) -> GateResult:
    """Say why a gate has nothing to compare.

    Args:
        gate: The gate.
        reason: In words.

    Returns:
        A result that neither passes nor refuses.
    """
    return _result(gate, Verdict.SKIPPED, reason)


def tokenizer_gate(
    gate: GateDefinition, opponent: EvaluationReference, evaluation: EvaluationReference
) -> GateResult | None:
    """Refuse to compare figures per token of different tokenizers.

    Args:
        gate: The gate.
        opponent: The evaluation compared with.
        evaluation: The challenger's.

    Returns:
        A refusal; None where the figures compare.
    """
    is_same = opponent.tokenizer_sha256 == evaluation.tokenizer_sha256
    if is_same or gate.metric not in TOKEN_METRICS:
        return None
    return _refuse(
        gate,
        f"{gate.against} and challenger have different tokenizers, and {gate.metric} per token "
        "of different tokenizers does not compare; gate a metric of the answers instead",
    )


def absolute_gate(
    gate: GateDefinition, challenger: RowScores, gates: GateConfig, seed: int
) -> GateResult:
    """Hold the challenger's figure against a fixed limit; the interval is only reported.

    Args:
        gate: Metric and worst figure allowed.
        challenger: The challenger's rows.
        gates: Level of the interval, resamples, fewest rows.
        seed: Seed of the bootstrap.

    Returns:
        The gate's result.
    """
    problem = _find_problem(gate, {"challenger": challenger}, gates)
    if problem:
        return _refuse(gate, problem)
    figure = float(figure_of(gate.metric, *score_columns(challenger)))
    low, high = metric_interval(gate.metric, challenger, gates, seed)
    is_lower_better = metric_direction(gate.metric) is Direction.LOWER
    is_met = figure <= gate.limit if is_lower_better else figure >= gate.limit
    return _result(
        gate,
        Verdict.PASSED if is_met else _refusal(gate),
        f"{gate.metric} {figure:.4f}, at {'most' if is_lower_better else 'least'} "
        f"{gate.limit:g} wanted; {_percent(gates)} interval [{low:.4f}, {high:.4f}]",
        challenger=figure,
        interval_low=low,
        interval_high=high,
        n_rows=len(challenger),
    )


def comparison_gate(
    gate: GateDefinition,
    opponent: RowScores,
    challenger: RowScores,
    gates: GateConfig,
    seed: int,
) -> GateResult:
    """Ask for a gain whose interval lies wholly above the limit.

    gain = challenger - opponent where higher is better, else opponent - challenger; each figure
    is the ratio of totals over the rows drawn, and for perplexity the exponential of it.

    Args:
        gate: Metric, opponent and limit of the gain.
        opponent: Rows of the base or the champion.
        challenger: The challenger's rows.
        gates: Level of the interval, resamples, fewest rows.
        seed: Seed of the bootstrap.

    Returns:
        The gate's result; every way to refuse has its own reason.
    """
    problem = _find_problem(gate, {"challenger": challenger, str(gate.against): opponent}, gates)
    if problem:
        return _refuse(gate, problem)
    sign = -1.0 if metric_direction(gate.metric) is Direction.LOWER else 1.0
    columns = (*score_columns(opponent), *score_columns(challenger))

    def gain_of(values: Any, weights: Any, own_values: Any, own_weights: Any, axis: int) -> Any:
        own = figure_of(gate.metric, own_values, own_weights, axis)
        return sign * (own - figure_of(gate.metric, values, weights, axis))

    before, after = (float(figure_of(gate.metric, *pair)) for pair in (columns[:2], columns[2:]))
    gain = sign * (after - before)
    low, high = bootstrap_interval(columns, gain_of, gates, seed)
    is_passed = low > gate.limit
    return _result(
        gate,
        Verdict.PASSED if is_passed else _refusal(gate),
        f"{gate.metric} {after:.4f} against {before:.4f} of {gate.against}: gain {gain:+.4f}, "
        f"{_percent(gates)} interval [{low:+.4f}, {high:+.4f}]"
        + ("" if is_passed else _shortfall(gain, low, high, gate)),
        opponent=before,
        challenger=after,
        gain=gain,
        interval_low=low,
        interval_high=high,
        n_rows=len(challenger),
    )


def _shortfall(gain: float, low: float, high: float, gate: GateDefinition) -> str:
    """Say why a gain does not pass."""
    if gain == low == high == 0:
        return "; a tie: no row tells the two apart"
    if gain > gate.limit:
        return f"; not beyond chance: the lower end must exceed {gate.limit:g}"
    if gain == 0:
        return "; a tie: what some rows gain, others lose"
    return f"; worse than {gate.against}" if gain < 0 else f"; not more than {gate.limit:g}"


def _find_problem(gate: GateDefinition, sides: Mapping[str, RowScores], gates: GateConfig) -> str:
    """Say why there is no figure to judge; empty where there is."""
    for side, found in sides.items():
        if not found:
            return f"{gate.metric} is missing: no row of {side} has it"
    rows = set().union(*sides.values())
    for side, found in sides.items():
        lacking = sorted(rows - found.keys())
        if lacking:
            return (
                f"{gate.metric} of {side} is missing on {len(lacking)} of {len(rows)} rows, "
                f"first on row {lacking[0]}"
            )
    for side, found in sides.items():
        bad = sorted(row for row, score in found.items() if not _is_number(*score))
        if bad:
            return (
                f"{gate.metric} of {side} is NaN or infinite on {len(bad)} of {len(rows)} rows, "
                f"first on row {bad[0]}"
            )
        if not math.isfinite(figure_of(gate.metric, *score_columns(found))):
            return f"{gate.metric} of {side} is infinite"
    if len(rows) < MIN_INTERVAL_ROWS:
        return f"one row with {gate.metric} gives no interval"
    if len(rows) < gates.min_eval_rows:
        return (
            f"{len(rows)} rows with {gate.metric}, at least {gates.min_eval_rows} "
            "(gates.min_eval_rows) wanted"
        )
    return ""


def _is_number(value: float, weight: float) -> bool:
    """Tell whether value / weight is a number; a row without tokens has 0 / 0."""
    return math.isfinite(value) and weight > 0


def _percent(gates: GateConfig) -> str:
    return f"{100 * gates.confidence:g} %"


def _refusal(gate: GateDefinition) -> Verdict:
    return Verdict.FAILED if gate.severity is Severity.BLOCK else Verdict.WARNED


def _refuse(gate: GateDefinition, reason: str) -> GateResult:
    return _result(gate, _refusal(gate), reason)


def _result(gate: GateDefinition, verdict: Verdict, reason: str, **figures: Any) -> GateResult:
    return GateResult(
        id=gate.id,
        metric=gate.metric,
        against=gate.against,
        limit=gate.limit,
        severity=gate.severity,
        verdict=verdict,
        reason=reason,
        **figures,
    )

"""Stage `decide`: does the tuned model beat the base, on the same rows, beyond chance?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from schemas.records import Decision, DecisionReference, EvaluationReference, GateResult
from schemas.rules import Verdict
from schemas.run_config import GateConfig
from tasks._cache import OutputFolder, locate
from tasks._lines import read_jsonl
from tasks._stage import stage_task

MIN_BOOTSTRAP_ROWS = 2


@dataclass(frozen=True)
class Interval:
    """A gain in nats per token, with the ends of its bootstrap interval."""

    gain: float
    low: float
    high: float


def paired_gain(
    base: list[dict[str, Any]], tuned: list[dict[str, Any]], gates: GateConfig, seed: int
) -> Interval:
    """Measure how much lower the tuned model's token-weighted loss is.

    Rows are drawn with replacement, both models' scores of a row together; the gain of a
    draw is (sum of base losses - sum of tuned losses) / sum of tokens.
    Source: Efron and Tibshirani 1993, percentile interval; `scipy.stats.bootstrap`.

    Args:
        base: Row losses of the base, in the order of the evaluation rows.
        tuned: Row losses of the tuned model, same rows, same order.
        gates: Level of the interval and number of resamples.
        seed: Seed of the draws.

    Returns:
        The gain in nats per token; positive means the tuned model is better.
    """
    import numpy
    from scipy import stats

    differences = numpy.array(
        [
            one["loss_sum_nats"] - other["loss_sum_nats"]
            for one, other in zip(base, tuned, strict=True)
        ]
    )
    tokens = numpy.array([row["n_tokens"] for row in base], dtype=float)

    def gain(difference: Any, weight: Any, axis: int = -1) -> Any:
        return difference.sum(axis=axis) / weight.sum(axis=axis)

    found = stats.bootstrap(
        (differences, tokens),
        gain,
        paired=True,
        vectorized=True,
        n_resamples=gates.n_resamples,
        batch=1000,
        confidence_level=gates.confidence,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(gain(differences, tokens)), float(found.low), float(found.high))


def row_count_gate(baseline: EvaluationReference, gates: GateConfig) -> GateResult:
    """Hold the number of evaluation rows against its minimum.

    Args:
        baseline: The base's evaluation.
        gates: The minimum.

    Returns:
        The gate's result.
    """
    is_enough = baseline.n_rows >= gates.min_eval_rows
    return GateResult(
        id="min_eval_rows",
        metric="n_rows",
        comparison="absolute",
        base=baseline.n_rows,
        tuned=baseline.n_rows,
        minimum=gates.min_eval_rows,
        verdict=Verdict.PASSED if is_enough else Verdict.FAILED,
        reason=f"{baseline.n_rows} held-out rows, at least {gates.min_eval_rows} wanted",
    )


def same_rows_gate(baseline: EvaluationReference, evaluation: EvaluationReference) -> GateResult:
    """Check that both models were judged on the same rendered rows.

    Args:
        baseline: The base's evaluation.
        evaluation: The tuned model's evaluation.

    Returns:
        The gate's result.
    """
    is_same = baseline.eval_sha256 == evaluation.eval_sha256
    is_same = is_same and baseline.n_rows == evaluation.n_rows
    return GateResult(
        id="same_evaluation_rows",
        metric="eval_sha256",
        comparison="against_base",
        minimum=0,
        verdict=Verdict.PASSED if is_same else Verdict.FAILED,
        reason="same rows and prompts" if is_same else "the models were judged on different rows",
    )


def loss_gate(
    base: list[dict[str, Any]], tuned: list[dict[str, Any]], gates: GateConfig, seed: int
) -> GateResult:
    """Ask for a lower held-out loss whose interval excludes the minimum gain.

    Args:
        base: Row losses of the base.
        tuned: Row losses of the tuned model.
        gates: Minimum gain and level.
        seed: Seed of the bootstrap.

    Returns:
        The gate's result; a NaN, a missing figure and a tie fail, each with its reason.
    """
    common: dict[str, Any] = {
        "id": "loss_below_base",
        "metric": "loss",
        "comparison": "against_base",
        "minimum": gates.min_loss_gain,
    }
    if not base or len(base) != len(tuned):
        reason = f"row losses are missing: base has {len(base)} rows, tuned {len(tuned)}"
        return GateResult(**common, verdict=Verdict.FAILED, reason=reason)
    if len(base) < MIN_BOOTSTRAP_ROWS:
        reason = f"{len(base)} held-out row gives no interval"
        return GateResult(**common, verdict=Verdict.FAILED, reason=reason)
    if not all(math.isfinite(row["loss_sum_nats"]) for row in (*base, *tuned)):
        reason = "a row loss is NaN or infinite"
        return GateResult(**common, verdict=Verdict.FAILED, reason=reason)
    n_tokens = sum(row["n_tokens"] for row in base)
    found = paired_gain(base, tuned, gates, seed)
    percent = f"{gates.confidence:.0%}"
    span = f"{found.gain:+.4f} nats per token, {percent} interval [{found.low:+.4f}, {found.high:+.4f}]"
    if found.low > gates.min_loss_gain:
        verdict, reason = Verdict.PASSED, f"held-out loss fell by {span}"
    elif found.gain == 0 and found.low == found.high:
        verdict, reason = Verdict.FAILED, "a tie: both models have the same loss on every row"
    else:
        verdict = Verdict.FAILED
        reason = f"gain {span} does not exceed {gates.min_loss_gain:g} with certainty"
    return GateResult(
        **common,
        base=sum(row["loss_sum_nats"] for row in base) / n_tokens,
        tuned=sum(row["loss_sum_nats"] for row in tuned) / n_tokens,
        gain=found.gain,
        interval_low=found.low,
        interval_high=found.high,
        verdict=verdict,
        reason=reason,
    )


def conclude(gates: list[GateResult]) -> tuple[Decision, str]:
    """Promote only when every gate passed.

    Args:
        gates: Results of all gates.

    Returns:
        The decision and a sentence that gives the reason.
    """
    failed = [gate for gate in gates if gate.verdict is not Verdict.PASSED]
    if failed:
        return Decision.REFUSE, "; ".join(f"{gate.id}: {gate.reason}" for gate in failed)
    return Decision.PROMOTE, gates[-1].reason


@stage_task(timeout_seconds=1800, libraries=("numpy", "scipy"))
def decide(
    output: OutputFolder,
    baseline: EvaluationReference,
    evaluation: EvaluationReference,
    gates: GateConfig,
    seed: int,
) -> DecisionReference:
    """Compare the tuned model with the base and decide on promotion.

    Args:
        output: Gets `gates.json`.
        baseline: Scores of the base.
        evaluation: Scores of the tuned model.
        gates: What a promotion takes.
        seed: Seed of the bootstrap.

    Returns:
        The decision, its reason and every gate's result.
    """
    results = [
        row_count_gate(baseline, gates),
        same_rows_gate(baseline, evaluation),
        loss_gate(
            read_jsonl(locate(baseline, "losses.jsonl")),
            read_jsonl(locate(evaluation, "losses.jsonl")),
            gates,
            seed,
        ),
    ]
    decision, reason = conclude(results)
    text = json.dumps([gate.model_dump(mode="json") for gate in results], indent=1)
    (output.path / "gates.json").write_text(text, encoding="utf-8")
    return output.commit(DecisionReference, decision=decision, reason=reason, gates=tuple(results))

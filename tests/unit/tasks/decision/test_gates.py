"""Every gate: how it passes, and each way to refuse with its own reason."""

from __future__ import annotations

import math
from typing import Any

import pytest

from schemas.config.gates import Against, GateConfig, GateDefinition
from schemas.records.references import EvaluationReference, Role
from schemas.rule_ids import Severity, Verdict
from tasks.decision.gates import (
    absolute_gate,
    comparison_gate,
    row_count_gate,
    same_evaluation_gate,
    skip_gate,
    template_gate,
    tokenizer_gate,
)
from tasks.decision.intervals import RowScores
from tasks.engine.wording import number

GATES = GateConfig(n_resamples=500, min_eval_rows=2)
T_OF_TWO = 12.7062
"""Student's t at 0.975 with one degree of freedom."""
LOSS = GateDefinition("loss_below_base", "loss", Against.BASE)


def scores(values: list[float], weight: float = 10.0) -> RowScores:
    return {row: (value, weight) for row, value in enumerate(values)}


def answers(values: list[float]) -> RowScores:
    return scores(values, 1.0)


def judged(**changes: Any) -> EvaluationReference:
    facts = {
        "stage": "evaluate_model",
        "folder": "f",
        "sha256": "s",
        "role": Role.CHALLENGER,
        "model_sha256": "m",
        "tokenizer_sha256": "t",
        "eval_sha256": "e",
        "n_rows": 30,
        "n_answers": 12,
        "metrics": {},
    }
    return EvaluationReference.model_validate(facts | changes)


def test_comparison_gate_measures_the_gain_per_token() -> None:
    base = {3: (30.0, 10.0), 8: (10.0, 10.0)}
    challenger = {8: (6.0, 10.0), 3: (20.0, 10.0)}
    gate = comparison_gate(LOSS, base, challenger, GATES, {})
    assert (gate.opponent, gate.challenger) == (2.0, 1.3)
    assert gate.gain == pytest.approx(0.7)  # (10 + 4) nats over 20 tokens
    assert (gate.n_rows, gate.n_groups) == (2, 2)
    # Without one of the rows: 0.4 or 1, so the standard error is 0.3.
    assert gate.interval_low == pytest.approx(0.7 - T_OF_TWO * 0.3)
    assert gate.interval_high == pytest.approx(0.7 + T_OF_TWO * 0.3)
    assert gate.verdict is Verdict.FAILED


def test_comparison_gate_passes_by_the_bootstrap_where_rows_are_enough() -> None:
    base = {row: (30.0 - 20 * (row % 2), 10.0) for row in range(12)}
    challenger = {row: (20.0 - 14 * (row % 2), 10.0) for row in range(12)}
    gate = comparison_gate(LOSS, base, challenger, GATES, {})
    assert gate.gain == pytest.approx(0.7)
    assert 0.4 < gate.interval_low < 0.6 < 0.8 < gate.interval_high < 1  # type: ignore[operator]
    assert gate.verdict is Verdict.PASSED
    assert gate.reason.startswith("loss 1.300 against 2 of base: gain +0.700, 95 % interval [+0.5")


def test_comparison_gate_draws_rows_of_a_group_together() -> None:
    # Twelve rows gain and twelve lose less; as four prompts of six rows, that is chance.
    base, groups = scores([20.0] * 24), {row: row // 6 for row in range(24)}
    challenger = scores([10.0 if row < 12 else 21.0 for row in range(24)])
    assert comparison_gate(LOSS, base, challenger, GATES, {}).verdict is Verdict.PASSED
    gate = comparison_gate(LOSS, base, challenger, GATES, groups)
    assert (gate.n_rows, gate.n_groups, gate.gain) == (24, 4, pytest.approx(0.45))
    assert gate.verdict is Verdict.FAILED
    assert "not beyond chance" in gate.reason


def test_comparison_gate_counts_rows_of_a_group_once() -> None:
    gates = GateConfig(n_resamples=500)
    pairs = {row: row // 2 for row in range(38)}
    gate = comparison_gate(LOSS, scores([30.0] * 38), scores([1.0] * 38), gates, pairs)
    assert gate.verdict is Verdict.FAILED
    assert gate.reason == (
        "38 rows with loss in 19 groups of the same prompt or text, at least 20 "
        "(gates.min_eval_rows) required"
    )
    one = dict.fromkeys(range(38), 0)
    gate = comparison_gate(LOSS, scores([30.0] * 38), scores([1.0] * 38), GATES, one)
    assert gate.reason == "one group of rows with loss gives no interval"


def test_comparison_gate_does_not_pass_two_groups_that_gain_by_chance() -> None:
    # Of equally good models, both groups gain in a quarter of all cases.
    gate = comparison_gate(LOSS, scores([30.0, 30.0]), scores([10.0, 25.0]), GATES, {})
    assert gate.verdict is Verdict.FAILED


def test_comparison_gate_weights_rows_by_tokens() -> None:
    base = {0: (10.0, 10.0), 1: (90.0, 30.0)}
    challenger = {0: (20.0, 10.0), 1: (0.0, 30.0)}
    gate = comparison_gate(LOSS, base, challenger, GATES, {})
    assert gate.gain == 2.0  # (100 - 20) nats over 40 tokens
    # Without the first row 3, without the second -1: their jackknife error is 2.
    assert gate.interval_low == pytest.approx(2 - T_OF_TWO * 2)


def test_comparison_gate_takes_the_exponential_within_each_draw() -> None:
    perplexity = GateDefinition("lower_perplexity", "perplexity", Against.BASE)
    base = {0: (10 * math.log(8), 10.0), 1: (10 * math.log(2), 10.0)}
    challenger = {0: (10 * math.log(4), 10.0), 1: (10 * math.log(1), 10.0)}
    gate = comparison_gate(perplexity, base, challenger, GATES, {})
    assert gate.opponent == pytest.approx(4.0)  # sqrt(8 * 2)
    assert gate.challenger == pytest.approx(2.0)  # sqrt(4 * 1)
    assert gate.gain == pytest.approx(2.0)
    # Without one of the rows: 2 - 1 or 8 - 4, so the jackknife error is 1.5.
    assert gate.interval_low == pytest.approx(2 - T_OF_TWO * 1.5)
    assert gate.interval_high == pytest.approx(2 + T_OF_TWO * 1.5)


def test_comparison_gate_knows_that_more_matches_are_better() -> None:
    exact = GateDefinition("more_matches", "exact_match", Against.CHAMPION)
    gate = comparison_gate(exact, answers([0, 0, 0, 0]), answers([1, 1, 1, 1]), GATES, {})
    assert (gate.gain, gate.interval_low, gate.verdict) == (1.0, 1.0, Verdict.PASSED)
    gate = comparison_gate(exact, answers([1, 1, 1, 1]), answers([0, 0, 0, 0]), GATES, {})
    assert (gate.gain, gate.verdict) == (-1.0, Verdict.FAILED)
    assert gate.reason.endswith("worse than champion")


@pytest.mark.parametrize(
    ("base", "challenger", "reason"),
    [
        ([30.0] * 4, [30.0] * 4, "a tie: no row tells the two apart"),
        ([30.0] * 4, [20.0, 40.0, 20.0, 40.0], "a tie: what some rows gain, others lose"),
        ([30.0] * 4, [31.0] * 4, "worse than base"),
        ([30.0] * 4, [10.0, 48.0, 31.0, 29.0], "not beyond chance: the lower end must exceed 0"),
        ([30.0] * 4, [math.nan, 1.0, 1.0, 1.0], "loss of challenger is NaN or infinite on 1 of 4"),
        ([30.0, math.inf], [1.0, 1.0], "loss of base is NaN or infinite on 1 of 2 rows, first on row 1"),
        ([30.0] * 4, [1.0] * 3, "loss of challenger is missing on 1 of 4 rows, first on row 3"),
        ([30.0] * 3, [1.0] * 4, "loss of base is missing on 1 of 4 rows"),
        ([], [1.0] * 4, "loss is missing: no row of base has it"),
        ([], [], "loss is missing: no row of challenger has it"),
        ([30.0], [1.0], "one row with loss gives no interval"),
    ],
)  # fmt: skip
def test_comparison_gate_refuses_with_its_reason(
    base: list[float], challenger: list[float], reason: str
) -> None:
    gate = comparison_gate(LOSS, scores(base), scores(challenger), GATES, {})
    assert gate.verdict is Verdict.FAILED
    assert reason in gate.reason


def test_comparison_gate_refuses_fewer_rows_than_the_minimum() -> None:
    gates = GateConfig(n_resamples=500)
    few, enough = [30.0] * 19, [30.0] * 20
    gate = comparison_gate(LOSS, scores(few), scores([1.0] * 19), gates, {})
    assert gate.verdict is Verdict.FAILED
    assert gate.reason == "19 rows with loss, at least 20 (gates.min_eval_rows) required"
    gate = comparison_gate(LOSS, scores(enough), scores([1.0] * 20), gates, {})
    assert gate.verdict is Verdict.PASSED


def test_comparison_gate_refuses_a_row_without_tokens() -> None:
    empty = {0: (0.0, 0.0), 1: (1.0, 10.0)}
    gate = comparison_gate(LOSS, empty, empty, GATES, {})
    assert "NaN or infinite on 1 of 2 rows, first on row 0" in gate.reason


def test_comparison_gate_refuses_a_perplexity_beyond_all_numbers() -> None:
    perplexity = GateDefinition("lower_perplexity", "perplexity", Against.BASE)
    gate = comparison_gate(perplexity, scores([10.0] * 4), scores([8000.0] * 4), GATES, {})
    assert gate.verdict is Verdict.FAILED
    assert gate.reason == "perplexity of challenger is infinite"


@pytest.mark.parametrize(
    ("limit", "verdict", "reason"),
    [
        (0.5, Verdict.PASSED, "[+1, +1]"),
        (1.0, Verdict.FAILED, "not more than 1"),  # the limit itself is not enough
        (1.5, Verdict.FAILED, "not more than 1.500"),
    ],
)
def test_comparison_gate_holds_the_lower_end_against_the_limit(
    limit: float, verdict: Verdict, reason: str
) -> None:
    definition = GateDefinition("loss_below_base", "loss", Against.BASE, limit)
    gate = comparison_gate(definition, scores([30.0] * 4), scores([20.0] * 4), GATES, {})
    assert gate.verdict is verdict
    assert gate.reason.endswith(reason)


def test_comparison_gate_lets_a_tie_pass_where_the_limit_allows_a_loss() -> None:
    definition = GateDefinition("not_much_worse", "loss", Against.BASE, -0.1)
    gate = comparison_gate(definition, scores([30.0] * 4), scores([30.0] * 4), GATES, {})
    assert gate.verdict is Verdict.PASSED


@pytest.mark.parametrize("challenger", [[31.0] * 4, [math.nan] * 4, []])
def test_comparison_gate_of_severity_warn_only_warns(challenger: list[float]) -> None:
    definition = GateDefinition("own", "loss", Against.BASE, severity=Severity.WARN)
    gate = comparison_gate(definition, scores([30.0] * 4), scores(challenger), GATES, {})
    assert gate.verdict is Verdict.WARNED


@pytest.mark.parametrize(
    ("metric", "limit", "verdict"),
    [
        ("exact_match", 0.75, Verdict.PASSED),
        ("exact_match", 0.76, Verdict.FAILED),
        ("empty_rate", 0.75, Verdict.PASSED),
        ("empty_rate", 0.74, Verdict.FAILED),
    ],
)
def test_absolute_gate_stands_at_the_limit(metric: str, limit: float, verdict: Verdict) -> None:
    definition = GateDefinition("own", metric, Against.ABSOLUTE, limit)
    gate = absolute_gate(definition, answers([1, 1, 1, 0]), GATES, {})
    assert (gate.challenger, gate.verdict, gate.n_rows) == (0.75, verdict, 4)
    assert (gate.opponent, gate.gain) == (None, None)
    assert (gate.interval_low, gate.interval_high) == (0.0, 1.0)
    word = "least" if metric == "exact_match" else "most"
    assert f"{metric} 0.750, at {word} {number(limit)} required" in gate.reason


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "exact_match is missing: no row of challenger has it"),
        ([1.0, math.nan], "NaN or infinite on 1 of 2 rows"),
        ([1.0], "one row with exact_match gives no interval"),
    ],
)
def test_absolute_gate_refuses_with_its_reason(found: list[float], reason: str) -> None:
    definition = GateDefinition("own", "exact_match", Against.ABSOLUTE, 0.1)
    gate = absolute_gate(definition, answers(found), GATES, {})
    assert gate.verdict is Verdict.FAILED
    assert reason in gate.reason


def test_row_count_gate_stands_at_the_minimum() -> None:
    gates = GateConfig(min_eval_rows=20)
    assert row_count_gate(judged(n_rows=20), gates, 20).verdict is Verdict.PASSED
    refused = row_count_gate(judged(n_rows=19), gates, 19)
    assert refused.verdict is Verdict.FAILED
    assert refused.reason == "19 held-out rows, at least 20 required"
    refused = row_count_gate(judged(n_rows=40), gates, 19)
    assert (refused.verdict, refused.n_groups) == (Verdict.FAILED, 19)
    assert refused.reason == (
        "40 held-out rows in 19 groups of the same prompt or text, at least 20 required"
    )


def test_same_evaluation_gate_refuses_another_set_and_other_rows() -> None:
    own, base = judged(), judged(sha256="b")
    same = {"s": frozenset({0, 1}), "b": frozenset({0, 1})}
    assert same_evaluation_gate(own, {Against.BASE: base}, same).verdict is Verdict.PASSED
    other_rows = same | {"b": frozenset({1, 2})}
    refused = same_evaluation_gate(own, {Against.BASE: base}, other_rows)
    assert refused.verdict is Verdict.FAILED
    assert refused.reason == "2 rows were evaluated for only one of base and challenger"
    champion = judged(sha256="b", eval_sha256="x")
    refused = same_evaluation_gate(own, {Against.BASE: own, Against.CHAMPION: champion}, same)
    assert refused.verdict is Verdict.FAILED
    assert refused.reason == "champion was evaluated on set x, the challenger on e"


def test_absolute_gate_reports_all_that_it_measured() -> None:
    definition = GateDefinition("own", "exact_match", Against.ABSOLUTE, 0.8, Severity.WARN)
    pairs = {row: row // 2 for row in range(4)}
    gate = absolute_gate(definition, answers([1, 1, 1, 0]), GATES, pairs)
    assert gate.model_dump(exclude={"reason"}) == {
        "id": "own",
        "metric": "exact_match",
        "against": Against.ABSOLUTE,
        "opponent": None,
        "challenger": 0.75,
        "gain": None,
        "interval_low": 0.5,
        "interval_high": 1.0,
        "confidence": 0.95,
        "n_rows": 4,
        "n_groups": 2,
        "n_left_out_rows": 0,
        "limit": 0.8,
        "severity": Severity.WARN,
        "verdict": Verdict.WARNED,
    }
    assert gate.reason.endswith("95 % interval [0.500, 1]")


def test_comparison_gate_reports_all_that_it_measured() -> None:
    definition = GateDefinition("own", "exact_match", Against.CHAMPION, 0.1, Severity.WARN)
    gates = GATES.model_copy(update={"confidence": 0.9})
    gate = comparison_gate(definition, answers([0.0] * 6), answers([1.0] * 6), gates, {5: 4})
    assert gate.model_dump(exclude={"reason"}) == {
        "id": "own",
        "metric": "exact_match",
        "against": Against.CHAMPION,
        "opponent": 0.0,
        "challenger": 1.0,
        "gain": 1.0,
        "interval_low": 1.0,
        "interval_high": 1.0,
        "confidence": 0.9,
        "n_rows": 6,
        "n_groups": 6,
        "n_left_out_rows": 0,
        "limit": 0.1,
        "severity": Severity.WARN,
        "verdict": Verdict.PASSED,
    }


def test_row_count_gate_reports_all_that_it_counted() -> None:
    gate = row_count_gate(judged(n_rows=30), GateConfig(min_eval_rows=20), 25)
    assert gate.model_dump(exclude={"reason"}, exclude_defaults=True) == {
        "id": "min_eval_rows",
        "metric": "n_rows",
        "against": Against.ABSOLUTE,
        "challenger": 30.0,
        "n_rows": 30,
        "n_groups": 25,
        "limit": 20.0,
        "verdict": Verdict.PASSED,
    }


def test_same_evaluation_gate_looks_at_every_opponent() -> None:
    own = judged()
    opponents = {
        Against.BASE: judged(sha256="b", tokenizer_sha256="x"),
        Against.CHAMPION: judged(sha256="c"),
    }
    rows = {"s": frozenset({0, 1}), "b": frozenset(), "c": frozenset({0})}
    refused = same_evaluation_gate(own, opponents, rows)
    assert refused.reason == "1 rows were evaluated for only one of champion and challenger"
    passed = same_evaluation_gate(own, opponents, rows | {"c": rows["s"]})
    assert passed.model_dump(exclude_defaults=True) == {
        "id": "same_evaluation",
        "metric": "eval_sha256",
        "against": Against.BASE,
        "n_rows": 30,
        "limit": 0.0,
        "verdict": Verdict.PASSED,
        "reason": "all models were evaluated on the same rendered rows",
    }
    sets = [judged(sha256=name, eval_sha256=name * 9) for name in "xy"]
    refused = same_evaluation_gate(own, dict(zip(Against, sets, strict=False)), rows)
    assert refused.reason == (
        f"{next(iter(Against))} was evaluated on set xxxxxxxx, the challenger on e; "
        f"{list(Against)[1]} was evaluated on set yyyyyyyy, the challenger on e"
    )


def test_template_gate_refuses_metrics_per_token_alone() -> None:
    exact = GateDefinition("own", "exact_match", Against.CHAMPION)
    assert template_gate(exact) is None
    refused = template_gate(GateDefinition("own", "loss", Against.CHAMPION))
    assert refused is not None
    assert refused.verdict is Verdict.FAILED
    assert "different chat templates" in refused.reason
    assert "gates.checks.own.severity=off" in refused.reason
    warned = template_gate(GateDefinition("own", "loss", Against.CHAMPION, 0, Severity.WARN))
    assert warned is not None
    assert warned.verdict is Verdict.WARNED


def test_tokenizer_gate_refuses_figures_per_token_alone() -> None:
    exact = GateDefinition("own", "exact_match", Against.BASE)
    other = judged(tokenizer_sha256="x")
    assert tokenizer_gate(LOSS, judged(), judged()) is None
    assert tokenizer_gate(exact, other, judged()) is None
    refused = tokenizer_gate(LOSS, other, judged())
    assert refused is not None
    assert refused.verdict is Verdict.FAILED
    assert "different tokenizers" in refused.reason
    general = GateDefinition("general_loss_kept", "loss/general", Against.BASE)
    assert tokenizer_gate(general, other, judged()) is not None


def test_skip_gate_neither_passes_nor_refuses() -> None:
    skipped = skip_gate(LOSS, "why")
    assert (skipped.verdict, skipped.reason) == (Verdict.SKIPPED, "why")

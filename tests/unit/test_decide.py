"""The decision: every way to refuse, and the one way to promote."""

from __future__ import annotations

import math
from typing import Any

import pytest

from schemas.records import Decision, EvaluationReference
from schemas.rules import Verdict
from schemas.run_config import GateConfig
from tasks.decide import conclude, loss_gate, paired_gain, row_count_gate, same_rows_gate

pytestmark = pytest.mark.unit
GATES = GateConfig(n_resamples=500)


def losses(values: list[float], n_tokens: int = 10) -> list[dict[str, Any]]:
    return [{"loss_sum_nats": value, "n_tokens": n_tokens} for value in values]


def scores(n_rows: int = 30, eval_sha256: str = "e") -> EvaluationReference:
    return EvaluationReference(
        stage="evaluate_model",
        folder="f",
        sha256="s",
        model_name="m",
        eval_sha256=eval_sha256,
        n_rows=n_rows,
        metrics={},
    )


def test_paired_gain_is_the_difference_per_token() -> None:
    base = [{"loss_sum_nats": 30.0, "n_tokens": 10}, {"loss_sum_nats": 10.0, "n_tokens": 10}]
    tuned = [{"loss_sum_nats": 20.0, "n_tokens": 10}, {"loss_sum_nats": 6.0, "n_tokens": 10}]
    found = paired_gain(base, tuned, GATES, seed=1)
    assert found.gain == pytest.approx(0.7)  # (10 + 4) nats over 20 tokens
    assert found.low == pytest.approx(0.4)  # both draws are the second row
    assert found.high == pytest.approx(1.0)


def test_paired_gain_repeats_with_the_same_seed() -> None:
    base, tuned = losses([3.0, 4.0, 5.0, 9.0]), losses([2.0, 4.5, 3.0, 8.0])
    assert paired_gain(base, tuned, GATES, 5) == paired_gain(base, tuned, GATES, 5)


def test_loss_gate_passes_a_clear_gain() -> None:
    gate = loss_gate(
        losses([30.0 + i for i in range(30)]), losses([20.0 + i for i in range(30)]), GATES, 1
    )
    assert gate.verdict is Verdict.PASSED
    assert gate.gain == pytest.approx(1.0)
    assert gate.interval_low == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("base", "tuned", "reason"),
    [
        ([30.0] * 4, [30.0] * 4, "a tie"),
        ([30.0] * 4, [31.0] * 4, "does not exceed 0"),
        ([30.0, 30.0, 30.0, 30.0], [10.0, 49.0, 31.0, 29.0], "does not exceed 0"),
        ([30.0] * 4, [math.nan, 1.0, 1.0, 1.0], "NaN or infinite"),
        ([math.inf, 30.0], [1.0, 1.0], "NaN or infinite"),
        ([30.0] * 4, [1.0] * 3, "row losses are missing"),
        ([], [], "row losses are missing"),
        ([30.0], [1.0], "gives no interval"),
    ],
)
def test_loss_gate_refuses_with_its_reason(
    base: list[float], tuned: list[float], reason: str
) -> None:
    gate = loss_gate(losses(base), losses(tuned), GATES, 1)
    assert gate.verdict is Verdict.FAILED
    assert reason in gate.reason


def test_loss_gate_holds_the_lower_end_against_the_minimum_gain() -> None:
    base, tuned = losses([30.0] * 30), losses([29.0] * 30)
    strict = GateConfig(n_resamples=500, min_loss_gain=0.1)
    assert loss_gate(base, tuned, GATES, 1).verdict is Verdict.PASSED
    assert loss_gate(base, tuned, strict, 1).verdict is Verdict.FAILED


def test_row_count_gate_stands_at_the_minimum() -> None:
    assert row_count_gate(scores(20), GATES).verdict is Verdict.PASSED
    assert row_count_gate(scores(19), GATES).verdict is Verdict.FAILED


def test_same_rows_gate_refuses_other_rows() -> None:
    assert same_rows_gate(scores(), scores()).verdict is Verdict.PASSED
    assert same_rows_gate(scores(), scores(eval_sha256="x")).verdict is Verdict.FAILED
    assert same_rows_gate(scores(30), scores(29)).verdict is Verdict.FAILED


def test_conclude_promotes_only_when_every_gate_passed() -> None:
    passed, failed = row_count_gate(scores(20), GATES), row_count_gate(scores(2), GATES)
    assert conclude([passed, passed])[0] is Decision.PROMOTE
    decision, reason = conclude([passed, failed])
    assert decision is Decision.REFUSE
    assert "min_eval_rows: 2 held-out rows" in reason

"""Intervals, where they can be worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.config.gates import GateConfig
from tasks.decision.intervals import bootstrap_interval, tail_fraction

pytestmark = pytest.mark.unit
GATES = GateConfig(n_resamples=500)


def mean(values: Any, axis: int) -> Any:
    return values.mean(axis=axis)


def difference(values: Any, others: Any, axis: int) -> Any:
    return (values - others).mean(axis=axis)


def interval(columns: list[list[float]], statistic: Any, seed: int = 1) -> tuple[float, float]:
    import numpy

    return bootstrap_interval([numpy.array(column) for column in columns], statistic, GATES, seed)


def test_tail_fraction_is_widened_for_few_rows() -> None:
    # t(0.975, 19) = 2.0930; sqrt(20 / 19) * 2.0930 = 2.1474; Phi(-2.1474) = 0.01588
    assert tail_fraction(0.95, 20) == pytest.approx(0.01588, abs=1e-5)
    assert tail_fraction(0.95, 100_000) == pytest.approx(0.025, abs=1e-5)


def test_bootstrap_interval_of_two_rows_reaches_from_one_to_the_other() -> None:
    assert interval([[0.25, 0.75]], mean) == (0.25, 0.75)


def test_bootstrap_interval_draws_both_sides_of_a_row_together() -> None:
    # Row by row the difference is 1; drawn apart it would reach from -98 to 100.
    assert interval([[100.0, 1.0, 50.0], [99.0, 0.0, 49.0]], difference) == (1.0, 1.0)


def test_bootstrap_interval_repeats_with_the_same_seed_only() -> None:
    column = [[float(value * value) for value in range(12)]]
    assert interval(column, mean, 5) == interval(column, mean, 5)
    assert interval(column, mean, 5) != interval(column, mean, 6)


def test_bootstrap_interval_draws_large_sets_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    column = [[float(value) for value in range(12)]]
    whole = interval(column, mean)
    monkeypatch.setattr("tasks.decision.intervals.MAX_BATCH_DRAWS", 100)
    low, high = interval(column, mean)
    assert low == pytest.approx(whole[0], abs=0.5)
    assert high == pytest.approx(whole[1], abs=0.5)

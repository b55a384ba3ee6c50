"""Intervals of one side's metrics, from the rows' scores on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from schemas.config.gates import GateConfig
from tasks.decision.intervals import bootstrap_interval, metric_intervals, tail_fraction
from tests.support.toy import write_jsonl

GATES = GateConfig(n_resamples=200)

RESAMPLED = GateConfig(n_resamples=500)


def write_scores(folder: Path, losses: list[float], chrf: list[float | None]) -> Path:
    rows: list[dict[str, object]] = [
        {"row": row, "loss_sum_nats": loss, "n_tokens": 4, "n_correct_tokens": 2}
        for row, loss in enumerate(losses)
    ]
    write_jsonl(folder / "losses.jsonl", rows)
    scores: list[dict[str, object]] = [
        {"row": row, "scores": {"chrf": value}} for row, value in enumerate(chrf)
    ]
    write_jsonl(folder / "row_scores.jsonl", scores)
    return folder


def test_interval_of_equal_rows_is_their_figure(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 8.0, 8.0], [0.5, 0.5, 0.5])
    metrics = {"loss": 2.0, "perplexity": math.exp(2), "token_accuracy": 0.5, "chrf": 0.5}
    found = metric_intervals(folder, dict(metrics), GATES, seed=0)
    assert found == {name: (pytest.approx(value),) * 2 for name, value in metrics.items()}


def test_interval_holds_the_figure_and_widens_with_the_spread(tmp_path: Path) -> None:
    ends = []
    for spread in (1.0, 4.0):
        folder = tmp_path / str(spread)
        folder.mkdir()
        write_scores(folder, [8 + spread, 8 - spread] * 10, [None] * 20)
        ends.append(metric_intervals(folder, {"loss": 2.0}, GATES, seed=0)["loss"])
    (low, high), (far_low, far_high) = ends
    assert far_low < low < 2.0 < high < far_high


def test_metrics_without_a_figure_or_with_one_row_have_no_interval(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 7.0], [0.5, None])
    found = metric_intervals(folder, {"chrf": 0.5, "exact_match": None}, GATES, seed=0)
    assert found == {}


def mean(values: Any, axis: int) -> Any:
    return values.mean(axis=axis)


def difference(values: Any, others: Any, axis: int) -> Any:
    return (values - others).mean(axis=axis)


def interval(columns: list[list[float]], statistic: Any, seed: int = 1) -> tuple[float, float]:
    import numpy

    return bootstrap_interval(
        [numpy.array(column) for column in columns], statistic, RESAMPLED, seed
    )


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

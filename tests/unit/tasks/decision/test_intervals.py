"""Intervals of one side's metrics, from the rows' scores on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
from scipy import stats

from schemas.config.gates import MIN_TAIL_RESAMPLES, GateConfig
from tasks.decision.intervals import (
    bootstrap_interval,
    count_groups,
    gain_interval,
    metric_intervals,
    score_columns,
    t_interval,
    tail_fraction,
)
from tests.support.toy import write_jsonl

GATES = GateConfig(n_resamples=400)


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
    write_groups(folder, list(range(len(losses))))
    return folder


def write_groups(folder: Path, groups: list[int]) -> None:
    rows: list[dict[str, object]] = [
        {"row": row, "group": group} for row, group in enumerate(groups)
    ]
    write_jsonl(folder / "rows.jsonl", rows)


def test_interval_of_equal_rows_is_their_figure(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 8.0, 8.0], [0.5, 0.5, 0.5])
    metrics = {"loss": 2.0, "perplexity": math.exp(2), "token_accuracy": 0.5, "chrf": 0.5}
    found = metric_intervals(folder, dict(metrics), GATES)
    assert found == {name: (pytest.approx(value),) * 2 for name, value in metrics.items()}


def test_interval_holds_the_figure_and_widens_with_the_spread(tmp_path: Path) -> None:
    ends = []
    for spread in (1.0, 4.0):
        folder = tmp_path / str(spread)
        folder.mkdir()
        write_scores(folder, [8 + spread, 8 - spread] * 10, [None] * 20)
        ends.append(metric_intervals(folder, {"loss": 2.0}, GATES)["loss"])
    (low, high), (far_low, far_high) = ends
    assert far_low < low < 2.0 < high < far_high


def test_metrics_without_a_figure_or_with_one_row_have_no_interval(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 7.0], [0.5, None])
    found = metric_intervals(folder, {"chrf": 0.5, "exact_match": None}, GATES)
    assert found == {}


def test_metric_without_an_interval_hides_no_other(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 8.0, 8.0], [0.5, None, None])
    metrics = {"token_accuracy": None, "chrf": 0.5, "loss": 2.0}
    assert metric_intervals(folder, metrics, GATES) == {"loss": (2.0, 2.0)}
    rows: list[dict[str, object]] = [
        {"row": n, "loss_sum_nats": 8.0, "n_tokens": 4 * n, "n_correct_tokens": 0} for n in range(3)
    ]
    write_jsonl(folder / "losses.jsonl", rows)
    assert metric_intervals(folder, {"loss": 2.0}, GATES) == {}  # one row has no token


def test_two_groups_have_an_interval(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 8.0], [None, None])
    assert metric_intervals(folder, {"loss": 2.0}, GATES) == {"loss": (2.0, 2.0)}


def test_infinite_perplexity_has_no_interval(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8.0, 8000.0, 8000.0], [None] * 3)
    found = metric_intervals(folder, {"perplexity": 1.0, "loss": 1.0}, GATES)
    assert list(found) == ["loss"]


def mean(values: Any, axis: int) -> Any:
    return values.mean(axis=axis)


def difference(values: Any, others: Any, axis: int) -> Any:
    return (values - others).mean(axis=axis)


def interval(columns: list[list[float]], statistic: Any) -> tuple[float, float]:
    return bootstrap_interval([numpy.array(column) for column in columns], statistic, 0.95, 500)


def total(values: Any, weights: Any, axis: int) -> Any:
    return values.sum(axis=axis) / weights.sum(axis=axis)


def test_tail_fraction_is_widened_for_few_rows() -> None:
    # t(0.975, 19) = 2.0930; sqrt(20 / 19) * 2.0930 = 2.1474; Phi(-2.1474) = 0.01588
    assert tail_fraction(0.95, 20) == pytest.approx(0.01588, abs=1e-5)
    assert tail_fraction(0.95, 100_000) == pytest.approx(0.025, abs=1e-5)


def test_bootstrap_interval_of_two_rows_reaches_from_one_to_the_other() -> None:
    assert interval([[0.25, 0.75]], mean) == (0.25, 0.75)


def test_bootstrap_interval_draws_both_sides_of_a_row_together() -> None:
    # Row by row the difference is 1; drawn apart it would reach from -98 to 100.
    assert interval([[100.0, 1.0, 50.0], [99.0, 0.0, 49.0]], difference) == (1.0, 1.0)


def test_bootstrap_interval_is_the_same_every_time() -> None:
    column = [[float(value * value) for value in range(12)]]
    assert interval(column, mean) == interval(column, mean)


def test_groups_are_summed_before_they_are_drawn() -> None:
    scores = {row: (float(row), 2.0) for row in (5, 1, 3, 2)}
    values, weights = score_columns(scores, {1: 7, 5: 7})
    # Rows 3 and 2 are groups of their own.
    assert sorted(zip(values.tolist(), weights.tolist(), strict=True)) == [
        (2.0, 2.0), (3.0, 2.0), (6.0, 4.0),
    ]  # fmt: skip
    assert count_groups(sorted(scores), {1: 7, 5: 7}) == 3


def test_intervals_of_metrics_draw_the_groups_on_disk(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, [8 + 4, 8 + 4, 8 - 4, 8 - 4] * 6, [None] * 24)
    [apart] = metric_intervals(folder, {"loss": 2.0}, GATES).values()
    write_groups(folder, [row // 2 for row in range(24)])
    [paired] = metric_intervals(folder, {"loss": 2.0}, GATES).values()
    assert paired[0] < apart[0] < 2 < apart[1] < paired[1]
    write_groups(folder, [0] * 24)
    assert metric_intervals(folder, {"loss": 2.0}, GATES) == {}


def test_t_interval_of_a_mean_is_the_textbook_one() -> None:
    values = numpy.array([1.0, 2.0, 4.0, 5.0, 8.0])
    found = t_interval([values, numpy.ones(5)], total, 0.95)
    expected = stats.t.interval(0.95, 4, loc=4, scale=stats.sem(values))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("confidence", "is_t"), [(0.95, False), (0.999, False), (1 - 1e-7, True)])
def test_gain_interval_draws_more_where_the_tail_is_small(confidence: float, is_t: bool) -> None:
    columns = [numpy.arange(1.0, 41.0), numpy.ones(40)]
    low, high = gain_interval(columns, total, confidence, 500)
    by_t = t_interval(columns, total, confidence)
    assert ((low, high) == by_t) is is_t
    assert (low, high) == pytest.approx(by_t, rel=0.1)  # the two agree where both can tell


def test_bootstrap_interval_is_that_of_scipy() -> None:
    column = numpy.array([float(value * value) for value in range(12)])
    low, high = bootstrap_interval([column, numpy.ones(12)], total, 0.9, 700)
    tail = tail_fraction(0.9, 12)
    expected = stats.bootstrap(
        (column,),
        numpy.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=700,
        method="percentile",
        rng=numpy.random.default_rng(42),
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_gain_interval_draws_as_many_as_were_asked_for() -> None:
    columns = [numpy.arange(1.0, 41.0), numpy.ones(40)]
    expected = bootstrap_interval(columns, total, 0.95, 2345)
    assert gain_interval(columns, total, 0.95, 2345) == expected
    enough = math.ceil(MIN_TAIL_RESAMPLES / tail_fraction(0.999, 40))
    assert gain_interval(columns, total, 0.999, 500) == bootstrap_interval(
        columns, total, 0.999, enough
    )


@pytest.mark.parametrize(("n_groups", "is_t"), [(5, True), (6, False)])
def test_gain_interval_of_few_groups_is_by_t(n_groups: int, is_t: bool) -> None:
    """Of equally good models, all 5 groups gain with a probability of 1 / 32, above 2.5 %."""
    columns = [numpy.arange(1.0, n_groups + 1) ** 2, numpy.ones(n_groups)]
    found = gain_interval(columns, total, 0.95, 500)
    assert (found == t_interval(columns, total, 0.95)) is is_t


def test_gain_interval_does_not_take_few_groups_for_proof() -> None:
    columns = [numpy.array([1.0, 2.0, 3.0]), numpy.ones(3)]
    assert bootstrap_interval(columns, total, 0.95, 500)[0] == 1.0
    assert gain_interval(columns, total, 0.95, 500)[0] < 0


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_a_drawn_group_that_counts_twice_is_no_more_often_wrong_than_stated(spread: float) -> None:
    """Rows of a prompt are alike; drawn one by one, the lower end is too often above 0."""
    generator = numpy.random.default_rng(5)
    n_wrong = {"groups": 0, "rows": 0}
    for _ in range(300):
        common = numpy.repeat(generator.normal(0, spread, 25), 4)
        gains = common + generator.normal(0, 1, 100)
        scores = {row: (gain, 1.0) for row, gain in enumerate(gains.tolist())}
        for name, groups in (("groups", {row: row // 4 for row in scores}), ("rows", {})):
            columns = score_columns(scores, groups)
            n_wrong[name] += gain_interval(columns, total, 0.95, 999)[0] > 0
    assert n_wrong["groups"] <= stats.binom.ppf(0.999, 300, 0.025)
    if spread:
        assert n_wrong["rows"] > 3 * stats.binom.ppf(0.999, 300, 0.025) / 2


def test_bootstrap_interval_draws_large_sets_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    column = [[float(value) for value in range(12)]]
    whole = interval(column, mean)
    monkeypatch.setattr("tasks.decision.intervals.MAX_BATCH_DRAWS", 100)
    low, high = interval(column, mean)
    assert low == pytest.approx(whole[0], abs=0.5)
    assert high == pytest.approx(whole[1], abs=0.5)

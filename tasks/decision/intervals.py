"""The figure of a set of rows, made of their scores, and how far chance can move it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from schemas.config.gates import GateConfig
from tasks.evaluation.row_scores import read_scores

RowScores = dict[int, tuple[float, float]]
"""Row to (sum of its values, weight); the figure of a set is the ratio of the totals."""
MIN_INTERVAL_ROWS = 2

MAX_BATCH_DRAWS = 1_000_000
"""Rows drawn at a time, so that memory does not grow with the set."""


def score_columns(scores: RowScores) -> tuple[Any, Any]:
    """Give values and weights as arrays, in the order of the row numbers.

    Args:
        scores: Of one side.

    Returns:
        Two arrays of one entry a row.
    """
    import numpy

    pairs = numpy.array([scores[row] for row in sorted(scores)], dtype=float)
    return pairs[:, 0], pairs[:, 1]


def figure_of(metric: str, values: Any, weights: Any, axis: int = -1) -> Any:
    """Compute the figure of each draw: the ratio of totals, for perplexity its exponential.

    Args:
        metric: Its name.
        values: Sums of the rows drawn.
        weights: Their weights.
        axis: The one that the rows lie along.

    Returns:
        One figure a draw, in the unit of the metric.
    """
    import numpy

    mean = values.sum(axis=axis) / weights.sum(axis=axis)
    if metric != "perplexity":
        return mean
    with numpy.errstate(over="ignore"):  # infinity refuses with its own reason
        return numpy.exp(mean)


def metric_interval(
    metric: str, scores: RowScores, gates: GateConfig, seed: int
) -> tuple[float, float]:
    """Find the interval of a set's figure.

    Args:
        metric: Its name.
        scores: At least two rows.
        gates: Level of the interval and number of resamples.
        seed: Seed of the bootstrap.

    Returns:
        Lower and upper end.
    """

    def figure(values: Any, weights: Any, axis: int) -> Any:
        return figure_of(metric, values, weights, axis)

    return bootstrap_interval(score_columns(scores), figure, gates, seed)


def metric_intervals(
    folder: Path, metrics: dict[str, float | None], gates: GateConfig, seed: int
) -> dict[str, tuple[float, float]]:
    """Find the intervals of one side's metrics.

    Args:
        folder: Output of a judging stage.
        metrics: Its figures by name.
        gates: Level of the intervals and number of resamples.
        seed: Seed of the bootstrap.

    Returns:
        Metric to lower and upper end; without those that have no figure, or fewer than two rows.
    """
    found = {}
    for metric, figure in metrics.items():
        scores = {} if figure is None else read_scores(folder, metric)
        if len(scores) >= MIN_INTERVAL_ROWS and all(weight > 0 for _, weight in scores.values()):
            low, high = metric_interval(metric, scores, gates, seed)
            if math.isfinite(low) and math.isfinite(high):
                found[metric] = (low, high)
    return found


def tail_fraction(confidence: float, n_rows: int) -> float:
    """Widen the percentile interval for small sets.

    Plain percentiles are too narrow by sqrt((n - 1) / n), and take the normal for the t
    distribution. The widened tail is Phi(-sqrt(n / (n - 1)) * t(1 - a / 2, n - 1)), where
    a = 1 - confidence. Of 1,500 draws of 20 rows with a normal gain of mean 0, the lower end
    was above 0 in 2.5 % so, 3.7 % with plain percentiles and 4.3 % with BCa.
    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American
    Statistician 69, expanded percentile interval.

    Args:
        confidence: Level of the interval.
        n_rows: Rows, at least 2.

    Returns:
        Fraction of the resamples below the lower end, and above the upper.
    """
    from scipy import stats

    quantile = stats.t.ppf(0.5 + confidence / 2, n_rows - 1)
    return float(stats.norm.cdf(-math.sqrt(n_rows / (n_rows - 1)) * quantile))


def bootstrap_interval(
    columns: Sequence[Any], statistic: Callable[..., Any], gates: GateConfig, seed: int
) -> tuple[float, float]:
    """Draw rows with replacement, all columns of a row together, and take percentiles.

    Percentiles and not BCa: those of a constant gain are that gain, where BCa has none.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap; `scipy.stats.bootstrap`.

    Args:
        columns: Arrays of equal length, one value a row, at least 2 rows.
        statistic: Called with the drawn columns and `axis`; gives one figure per draw.
        gates: Level of the interval and number of resamples.
        seed: Seed of the draws.

    Returns:
        Lower and upper end, in the unit of the statistic.
    """
    import numpy
    from scipy import stats

    n_rows = len(columns[0])
    resamples = stats.bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=gates.n_resamples,
        batch=max(1, MAX_BATCH_DRAWS // n_rows),
        method="percentile",
        rng=numpy.random.default_rng(seed),
    ).bootstrap_distribution
    tail = tail_fraction(gates.confidence, n_rows)
    low, high = numpy.quantile(resamples, [tail, 1 - tail])
    return float(low), float(high)

"""The metric of a set of rows from their scores, and its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from schemas.config.gates import GateConfig
from tasks.evaluation.row_scores import read_scores

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[float64]

RowScores = dict[int, tuple[float, float]]
"""Row to (sum of its values, weight); the metric of a set is the ratio of the totals."""
MIN_INTERVAL_ROWS = 2

MAX_BATCH_DRAWS = 1_000_000
"""Rows drawn at a time, so that memory does not grow with the set."""


def score_columns(scores: RowScores) -> tuple[Array, Array]:
    """Return values and weights, one entry per row, in the order of the row numbers."""
    import numpy

    pairs = numpy.array([scores[row] for row in sorted(scores)], dtype=float)
    return pairs[:, 0], pairs[:, 1]


def metric_value(metric: str, values: Array, weights: Array, axis: int = -1) -> Array:
    """Compute the metric of each draw: the ratio of totals, for perplexity its exponential.

    Args:
        metric: Its name.
        values: Sums of the rows drawn.
        weights: Their weights.
        axis: That of the rows.

    Returns:
        One value per draw, in the unit of the metric.
    """
    import numpy

    mean: Array = values.sum(axis=axis) / weights.sum(axis=axis)
    if metric != "perplexity":
        return mean
    with numpy.errstate(over="ignore"):  # infinity refuses with its own reason
        return numpy.exp(mean)


def metric_interval(
    metric: str, scores: RowScores, gates: GateConfig, seed: int
) -> tuple[float, float]:
    """Compute the lower and upper end of the metric of at least two rows."""

    def statistic(values: Array, weights: Array, axis: int) -> Array:
        return metric_value(metric, values, weights, axis)

    return bootstrap_interval(score_columns(scores), statistic, gates, seed)


def metric_intervals(
    folder: Path, metrics: dict[str, float | None], gates: GateConfig, seed: int
) -> dict[str, tuple[float, float]]:
    """Compute the intervals of one role's metrics.

    Args:
        folder: Output of a stage that evaluates.
        metrics: Its values by name.
        gates: Level of the intervals and number of resamples.
        seed: Of the bootstrap.

    Returns:
        Metric to lower and upper end; without those that have no value, or fewer than two rows.
    """
    found = {}
    for metric, value in metrics.items():
        scores = {} if value is None else read_scores(folder, metric)
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
    columns: Sequence[Array], statistic: Callable[..., Array], gates: GateConfig, seed: int
) -> tuple[float, float]:
    """Draw rows with replacement, all columns of a row together, and take percentiles.

    Percentiles and not BCa: those of a constant gain are that gain, where BCa has none.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap; `scipy.stats.bootstrap`.

    Args:
        columns: Arrays of equal length, one value per row, at least 2 rows.
        statistic: Called with the drawn columns and `axis`; returns one value per draw.
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

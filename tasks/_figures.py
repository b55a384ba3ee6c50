"""The figure of a set of rows, made of their scores, and how far chance can move it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from schemas.gate_config import GateConfig
from tasks._bootstrap import bootstrap_interval
from tasks.evaluation.row_scores import read_scores

RowScores = dict[int, tuple[float, float]]
"""Row to (sum of its values, weight); the figure of a set is the ratio of the totals."""
MIN_INTERVAL_ROWS = 2


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


def figure_interval(
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
            low, high = figure_interval(metric, scores, gates, seed)
            if math.isfinite(low) and math.isfinite(high):
                found[metric] = (low, high)
    return found

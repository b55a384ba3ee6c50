"""Choose how often each training row is seen in an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


def repeat_rows(
    weights: Sequence[float] | NDArray[numpy.float32], seed: int
) -> NDArray[numpy.int64]:
    """Choose the rows of an epoch, each as often as its weight requires.

    A row is taken floor(weight) times; of the rows that share a weight, a share as large as its
    fractional part, at least one of them, is drawn to be taken once more. So 0.5 keeps half of the
    rows, and 1.5 repeats half of them. The same weights and seed give the same rows.

    Args:
        weights: Weight of each row, above 0; the column `weight` of `train_tokens.parquet`.
        seed: Seed of the draw.

    Returns:
        Row numbers in rising order; a row taken twice appears twice.

    Shape:
        weights: (rows,). Result: (rows of an epoch,).
    """
    import numpy

    generator = numpy.random.default_rng(seed)
    given = numpy.asarray(weights, dtype=numpy.float32)
    counts = numpy.zeros(len(given), dtype=numpy.int64)
    for weight in numpy.unique(given):
        rows = numpy.flatnonzero(given == weight)
        whole = math.floor(weight)
        # The column has seven digits: 1.1 is stored as 1.10000002.
        fraction = round(float(weight) - whole, 6)
        n_drawn = max(1, round(fraction * len(rows))) if fraction else 0
        counts[rows] = whole
        counts[generator.permutation(rows)[:n_drawn]] += 1
    return numpy.repeat(numpy.arange(len(given)), counts)

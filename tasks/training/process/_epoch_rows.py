"""How often each training row is seen in an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy

    Numbers: TypeAlias = numpy.ndarray[Any, numpy.dtype[numpy.int64]]


def repeat_rows(weights: Sequence[float] | Numbers, seed: int) -> Numbers:
    """Choose the rows of an epoch: each as often as its weight says.

    A row is taken floor(weight) times; of the rows that share a weight, a share as large as its
    fractional part, at least one of them, is drawn to be taken once more. So 0.5 keeps half of the
    rows, and 1.5 repeats half of them. The same weights and seed give the same rows.

    Args:
        weights: Of each row, above 0; the column `weight` of `train_tokens.parquet`.
        seed: Of the draw.

    Returns:
        Numbers of rows, rising; a row taken twice stands there twice.

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
